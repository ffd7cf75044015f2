"""Plausible answers to what else may be asked of a subject."""

import random
import re

import pytest

from instructedit.data.anchors import load_anchor_book
from instructedit.data.answers import asked_forms, make_answer


@pytest.mark.parametrize("form", asked_forms())
def test_every_form_asks_for_something_that_can_be_made(form: str) -> None:
    found = [make_answer(form, random.Random(seed)) for seed in range(40)]
    assert "{s}" in form
    assert all(answer.strip() == answer and answer for answer in found)
    assert not any(re.search(r"[{}]", answer) for answer in found)
    assert found == [make_answer(form, random.Random(seed)) for seed in range(40)]


def test_answers_are_of_the_kind_that_is_asked_for() -> None:
    rng = random.Random(0)
    assert {make_answer("The gender of {s} is", rng) for _ in range(20)} == {"male", "female"}
    born = [make_answer("The date of birth of {s} is", rng) for _ in range(20)]
    assert all(re.search(r"\b(1[6-9]|20)\d\d\b", date) for date in born)
    awards = [make_answer("The name of the award {s} won is", rng) for _ in range(60)]
    assert all(re.search(r"Order|Prize|Medal|Knight|Award", award) for award in awards)
    best = [award.split("for Best ")[1] for award in awards if "for Best " in award]
    assert best
    assert all(job[0].isupper() for job in best)  # a slot in capitals


def test_hardly_a_name_comes_twice() -> None:
    rng = random.Random(0)
    found = [make_answer("The name of the spouse of {s} is", rng) for _ in range(300)]
    assert len(set(found)) > 250


def test_what_an_editor_reads_is_asked_for_as_well() -> None:
    assert {form for form, _ in load_anchor_book()["own"]} <= set(asked_forms())
