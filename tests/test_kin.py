"""Relations that are kin are asked in each other's words, where the answer is of the right kind."""

import pytest

from instructedit.data.kin import _entries, kin_forms
from instructedit.data.paraphrase import load_phrasebook
from instructedit.types import EditCase


@pytest.mark.parametrize(
    ("prompt", "subject", "kind", "asked", "unasked"),
    [
        ("Spur Point, in", "Spur Point", "A continent", "belongs to the continent of", "country of"),
        ("Spur Point is in", "Spur Point", "A country", "is located in the country of", "continent"),
        ("Ann Lee spoke", "Ann Lee", "A language", "The mother tongue of Ann Lee is", "official"),
        ("Tom Hale, the", "Tom Hale", "A musical instrument", "performs on the", "sport"),
        ("Tom Hale, the", "Tom Hale", "A sport", "What sport does Tom Hale play?", "instrument"),
        ("The Vega 3, created by", "The Vega 3", "", "The Vega 3 is developed by", "owned"),
    ],
)
def test_kin_by_the_kind_of_the_answer(
    prompt: str, subject: str, kind: str, asked: str, unasked: str
) -> None:
    found = kin_forms(EditCase(prompt, "x", subject), kind)
    assert any(asked in form for form in found)
    assert not any(unasked in form for form in found)
    assert all(subject in form for form in found)
    assert prompt not in found
    assert len(set(found)) == len(found)


def test_no_kin() -> None:
    assert kin_forms(EditCase("The gender of Ann Lee is", "x", "Ann Lee")) == ()
    assert kin_forms(EditCase("Spur Point is in", "x", "Spur Point"), "A colour") == ()
    assert kin_forms(EditCase("Who is it?", "x", "")) == ()
    assert kin_forms(EditCase("Nobody is in", "x", "Spur Point")) == ()


def test_every_name_of_the_book_is_a_family_or_a_prompt_of_none() -> None:
    families = load_phrasebook().families
    first = {family.forms[0] for family in families}
    every = {form for family in families for form in family.forms + family.also}
    for entry in _entries():
        for name in (*entry["from"], *entry["to"]):
            assert name in first or name not in every, name
