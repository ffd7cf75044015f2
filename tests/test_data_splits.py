"""A split by subject: nothing on both sides, nothing lost, the same every time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructedit.data import split_by_subject
from instructedit.types import EditCase

pytestmark = pytest.mark.slow

subjects = st.lists(
    st.sampled_from(["Ada", "ADA", "ada ", "Bo", "Cy", "cy", "Di", "Eve", "Fay", ""]), max_size=40
)


def cases_of(names: list[str]) -> list[EditCase]:
    return [EditCase(f"{name} no. {n} is", "x", subject=name, case_id=str(n)) for n, name in enumerate(names)]


@given(subjects, st.floats(0, 1), st.integers(0, 99))
def test_every_edit_is_on_one_side_in_order_and_no_subject_on_both(names, fraction, seed):
    cases = cases_of(names)
    train, held = split_by_subject(cases, fraction, seed)
    assert sorted(train + held, key=lambda case: int(case.case_id)) == cases
    assert train == [case for case in cases if case in train]
    keys = [{c.subject.strip().casefold() for c in side if c.subject} for side in (train, held)]
    assert not keys[0] & keys[1]
    assert (train, held) == split_by_subject(cases, fraction, seed)


@given(st.permutations(range(30)), st.integers(0, 9))
def test_the_order_of_the_edits_does_not_matter(order, seed):
    cases = cases_of([f"subject {n % 10}" for n in range(30)])
    held = split_by_subject(cases, 0.3, seed)[1]
    shuffled = split_by_subject([cases[n] for n in order], 0.3, seed)[1]
    assert {case.case_id for case in held} == {case.case_id for case in shuffled}


def test_sizes_seeds_and_limits():
    cases = cases_of([f"subject {n}" for n in range(100)])
    assert [len(split_by_subject(cases, f, 0)[1]) for f in (0.0, 0.1, 0.5, 1.0)] == [0, 10, 50, 100]
    assert split_by_subject(cases, 0.1, 0) != split_by_subject(cases, 0.1, 1)
    with pytest.raises(ValueError, match="from 0 to 1"):
        split_by_subject(cases, 1.5, 0)
