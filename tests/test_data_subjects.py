"""The subject of a prompt: as the record names it, as the prompt spells it, or guessed."""

import unicodedata

import pytest

from instructedit.data.subjects import guess_subject, subject_of
from instructedit.types import EditCase


@pytest.mark.parametrize(
    ("prompt", "subject"),
    [
        ("The capital of France is", "France"),
        ("The CEO of Apple is", "Apple"),
        ("Who is the CEO of Apple?", "Apple"),
        ("The President of the United States is", "United States"),
        ("The University of Oxford is located in", "University of Oxford"),
        ("The Lord of the Rings was written by", "Lord of the Rings"),
        ("What's the capital of France?", "France"),
        ("Question: What is the capital of France?\nAnswer:", "France"),
        ("User: Where was Rilke born?\nAssistant:", "Rilke"),
        ("The capital of France:", "France"),
        ("Complete the sentence. Paris is in", "Paris"),
        ("iPhone is made by", "iPhone"),
        ("Émile Zola was born in", "Émile Zola"),
        ("Łódź lies in", "Łódź"),
        ("Paris était la capitale de", "Paris"),
        ("France's capital is", "France"),
        ("the capital of france is", ""),
        ("フランスの首都は", ""),
    ],
)
def test_a_guess_is_what_is_asked_about(prompt: str, subject: str) -> None:
    assert guess_subject(prompt) == subject


@pytest.mark.parametrize(
    ("prompt", "named", "spelled"),
    [
        ("The capital of france is", "France", "france"),
        ("O’Brien was born in", "O'Brien", "O’Brien"),
        (unicodedata.normalize("NFD", "Zürich lies in"), "Zürich", unicodedata.normalize("NFD", "Zürich")),
        ("The author of Emma is", "emm", "Emma"),  # not a part of a word: so it is guessed
        ("The author of Emma is", "Persuasion", "Emma"),
    ],
)
def test_a_name_is_found_however_it_is_spelled(prompt: str, named: str, spelled: str) -> None:
    assert subject_of(EditCase(prompt, "x", named)) == spelled
