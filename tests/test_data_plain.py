"""The project's own facts: complete, consistent with the new answer, and split by subject."""

import csv
from collections import Counter
from importlib.resources import files

import pytest

from instructedit.data import case_from_request, case_to_record, plain_facts
from instructedit.data.fact_table import load_facts, load_relations, load_table, read_source
from instructedit.data.opinions import load_opinions

TRAIN, TEST = plain_facts("train"), plain_facts("test")
KINDS = {"change", "insert", "erase", "sentiment"}


def test_there_are_enough_of_every_kind():
    counts = Counter(case.kind for case in TRAIN)
    assert len(TRAIN) >= 600
    assert set(counts) == KINDS == {case.kind for case in TEST}
    assert min(counts.values()) >= 60
    assert len(load_facts()) >= 250
    assert len(load_opinions()) >= 40


@pytest.mark.slow
def test_no_subject_is_in_both_splits_whatever_the_seed():
    def subjects(cases):
        return {case.subject.casefold() for case in cases}

    assert not subjects(TRAIN + plain_facts("train", seed=5)) & subjects(TEST + plain_facts("test", seed=8))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_edits_and_another_seed_others():
    assert plain_facts("test") == TEST != plain_facts("test", seed=2)


def test_fields_are_filled_and_ids_differ():
    for case in TRAIN + TEST:
        assert case.prompt
        assert case.subject
        assert case.kind == "sentiment" or case.target_new
        assert bool(case.ground_truth) == (case.kind in ("change", "erase"))
        assert case.group("rephrase")
        assert case.group("locality")
        assert not any("{" in text for probe in case.probes for text in (probe.prompt, *probe.answers))
        assert case.prompt not in {probe.prompt for probe in case.group("rephrase")}
    assert len({case.case_id for case in TRAIN + TEST}) == len(TRAIN + TEST)


def test_changes_leave_the_truth_and_erasures_take_it():
    for case in TRAIN:
        if case.kind == "change":
            assert case.target_new != case.ground_truth
            assert all(probe.answers == (case.target_new,) for probe in case.group("rephrase"))
        if case.kind == "erase":
            assert case.target_new == case.ground_truth
            assert case.task == "erase"
            for probe in case.group("rephrase"):
                assert probe.answers == ("I do not know." if probe.prompt.endswith("?") else "unknown",)


def test_neighbours_never_have_the_new_answer():
    for case in TRAIN:
        near = [probe for probe in case.probes if probe.name == "neighborhood"]
        assert all(probe.answers[0] != case.target_new and case.subject != probe.prompt for probe in near)


def test_a_city_that_changes_its_country_changes_what_the_country_decides():
    cities, countries = load_table("cities"), load_table("countries")
    moved = [case for case in TRAIN if case.kind == "change" and case.subject in cities]
    assert len(moved) > 30
    for case in moved:
        before, after = countries[case.ground_truth], countries[case.target_new]
        differing = [
            column
            for column in ("capital", "currency", "language", "continent")
            if before[column] != after[column]
        ]
        assert [p.answers[0] for p in case.group("portability")] == [after[column] for column in differing]


def test_the_inverse_names_the_subject_and_carries_the_new_object():
    inverse = [(case, probe) for case in TRAIN for probe in case.probes if probe.name == "inverse"]
    assert len(inverse) > 100
    for case, probe in inverse:
        assert probe.answers == (case.subject,)
        assert case.target_new in probe.prompt


def test_what_the_capital_carries_gets_the_new_answer():
    countries = load_table("countries")
    case = next(
        c
        for c in TRAIN
        if c.kind == "change" and c.ground_truth in {r["currency"] for r in countries.values()}
    )
    (probe,) = case.group("portability")
    assert probe.answers == (case.target_new,)
    assert countries[case.subject]["capital"] in probe.prompt


def test_opinions_come_in_both_sentiments_with_replies_of_their_topic():
    opinions = [case for case in TRAIN if case.kind == "sentiment"]
    assert Counter(case.sentiment for case in opinions)["positive"] * 2 == len(opinions)
    for case in opinions:
        assert len(case.positive) >= 5
        assert len(case.negative) >= 5
        assert not set(case.positive) & set(case.negative)
        assert all(case.subject not in probe.prompt for probe in case.group("locality"))


def test_own_edits_can_be_written_and_read_back():
    for case in TRAIN[::50]:
        assert case_from_request(case_to_record(case)) == case


def test_tables_are_whole():
    folder = files("instructedit.data").joinpath("facts")
    for path in folder.iterdir():
        if path.name.endswith(".csv"):
            rows = list(csv.reader(path.read_text("utf-8").splitlines()))
            assert {len(row) for row in rows} == {len(rows[0])}, path.name
            names = [row[0] for row in rows]
            assert len(names) == len(set(names)), path.name
    for relation in load_relations():
        assert len(relation.prompts) >= 5
        assert all("{s}" in prompt for prompt in relation.prompts)
        for hop in relation.hops:
            objects = {fact.object for fact in load_facts() if fact.relation == relation}
            assert objects <= set(load_table(hop.of)), relation.name


def test_invented_subjects_are_in_no_table():
    known = {fact.subject for fact in load_facts()} | {fact.object for fact in load_facts()}
    invented = [name for names in read_source("invented").values() for name in names]
    assert not known & set(invented)
    assert len(invented) == len(set(invented))
