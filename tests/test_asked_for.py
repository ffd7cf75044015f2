"""What a prompt asks for is read off its form, statement or question."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from instructedit.data.asked_for import noun_phrase
from instructedit.types import EditCase

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("The name of the spouse of Ann Lee is", "spouse of Ann Lee"),
        ("The names of the siblings of Ann Lee are", "siblings of Ann Lee"),
        ("The place of birth of Ann Lee is", "place of birth of Ann Lee"),
        ("Ann Lee was born in", "place of birth of Ann Lee"),  # by a form of the relation
        ("Ann Lee plays the", "instrument played by Ann Lee"),
        ("The father of Ann Lee is who?", "father of Ann Lee"),
        ("What was the cause of Ann Lee's death?", "cause of Ann Lee's death"),
        ("What is Ann Lee's voice type?", "voice type of Ann Lee"),
        ("In which war did Ann Lee fight?", "war in which Ann Lee did fight"),
        ("What team is Ann Lee on?", "team that Ann Lee is on"),
        ("Which company published Ann Lee?", "company that published Ann Lee"),
        ("What school is related with Ann Lee?", "school that is related with Ann Lee"),
        ("Who painted Ann Lee?", "person who painted Ann Lee"),
        ("Where did Ann Lee learn to sing?", "place where Ann Lee did learn to sing"),
        ("Who is the Ann Lee named after?", ""),
        ("Ann Lee is married to", ""),
        ("When did Ann Lee sing?", ""),
    ],
)
def test_what_is_asked_for_is_a_noun_phrase(prompt: str, asked: str) -> None:
    assert noun_phrase(EditCase(prompt, "Rome", "Ann Lee")) == asked


@given(st.text("{}sn%0", max_size=10))
@example("n")
@example("s")
def test_braces_of_a_subject_are_read_as_they_are(inner: str) -> None:
    """Nothing in a subject is taken for a place to fill in, be it what templates call their subject."""
    subject = f"{{{inner}}}"
    assert noun_phrase(EditCase(f"The aim of {subject} is", "Rome", subject)) == f"aim of {subject}"
    asked = EditCase(f"What team is {subject} on?", "Rome", subject)
    assert noun_phrase(asked) == f"team that {subject} is on"


@given(st.text(max_size=30), st.text(min_size=1, max_size=10))
def test_any_prompt_can_be_read(prompt: str, subject: str) -> None:
    assert noun_phrase(EditCase(f"What is the {subject}{prompt}?", "Rome", subject)) is not None
