"""Subjects are known by their tokens, wherever they are read."""

import random

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.drill import Practice
from instructedit.editors.heard import (
    find_subjects,
    hear_subjects,
    number_subjects,
)
from instructedit.types import EditCase
from tiny_models import tiny_backbone


@pytest.fixture(scope="module")
def llama() -> Backbone:
    return tiny_backbone("llama")


def fact(subject: str, relation: str = "is the capital of") -> EditCase:
    return EditCase(prompt=f"{subject} {relation}", target_new="Rome", subject=subject)


def test_a_subject_ends_where_its_last_token_stands_and_the_longest_counts() -> None:
    forms = [((7,), 0), ((3, 7), 1), ((5, 3, 7), 2), ((1,) * 9, 3)]
    ids = torch.tensor([7, 3, 7, 5, 3, 7, 3])
    assert find_subjects(ids, forms).tolist() == [0, -1, 1, -1, -1, 2, -1]
    assert find_subjects(torch.tensor([5]), forms).tolist() == [-1]


@pytest.mark.parametrize("seed", range(20))
def test_subjects_are_found_as_if_each_was_looked_for_at_each_token(seed: int) -> None:
    draw = random.Random(seed)
    names = {tuple(draw.choices(range(4), k=draw.randint(1, 5))): draw.randrange(9) for _ in range(30)}
    forms = sorted(names.items(), key=lambda form: len(form[0]))
    ids = torch.tensor(draw.choices(range(4), k=draw.randint(0, 60)), dtype=torch.long)
    expected = torch.full_like(ids, -1)
    for form, number in forms:
        for end in range(len(form), len(ids) + 1):
            if ids[end - len(form) : end].tolist() == list(form):
                expected[end - 1] = number
    found = find_subjects(ids, forms)
    assert torch.equal(found, expected)
    assert found.dtype == ids.dtype


def test_facts_about_one_subject_have_one_number_and_subjects_are_known_in_a_sentence(
    llama: Backbone,
) -> None:
    cases = [fact("Paris"), fact("London bridge"), fact("Paris", "is"), EditCase("It is", "Rome", subject="")]
    subjects, forms = number_subjects(llama, cases)
    assert subjects == [0, 1, 0, 2]
    for text, expected in (
        ("Paris is", 0),
        ("I think that Paris", 0),
        ("A London bridge", 1),
        ("London", -1),
    ):
        found = find_subjects(torch.tensor(llama.text(text).ids), forms)
        assert found.max() == expected
    assert 2 not in dict(forms).values()


def test_a_name_near_one_subject_that_is_another_of_the_batch_is_that_one(llama: Backbone) -> None:
    name = next(site.name for site in llama.sites)
    cases, nothing = [fact("Paris"), fact("London")], LowRankDelta({}, {})
    alone = hear_subjects(llama, [name], cases, [(), ()], nothing)
    near = hear_subjects(llama, [name], cases, [("London", "Berlin"), ()], nothing)
    assert int((near.owner == 1).sum()) == int((alone.owner == 1).sum()) + 1
    assert int((near.owner == 0).sum()) == int((alone.owner == 0).sum())
    assert len(near.rows[name]) == len(near.owner)


def test_what_another_fact_changes_is_not_to_be_left_alone(llama: Backbone) -> None:
    texts = [llama.text(prompt, "good") for prompt in ("Paris is", "London is", "I think that is")]
    practice = Practice((llama.text("Paris is", "bad"),), tuple(texts))
    name, cases = llama.sites[0].name, [fact("Paris"), fact("London")]
    heard = hear_subjects(llama, [name], cases, [(), ()], LowRankDelta({}, {}))
    spared = heard.spare([practice, practice])
    assert [one.keep for one in spared] == [(texts[0], texts[2]), (texts[1], texts[2])]
    assert all(one.fit == practice.fit for one in spared)
