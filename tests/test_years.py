"""Corrections of a year: whole, consistent with the new year, and kept from every training."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from experiment_plans import plan_values, register, run, start, write_records
from instructedit.data import case_from_request, case_to_record, plain_facts
from instructedit.data.fact_table import load_facts, read_source
from instructedit.data.years import APART, YEAR, century_of, load_years, year_corrections
from instructedit.errors import DataError
from instructedit.experiment.sources import own_facts
from instructedit.experiment.store import RunFolder
from instructedit.instructions import instruction_for
from instructedit.instructions.banks import find_bank

CASES = year_corrections()
PLAIN = [*plain_facts("train"), *plain_facts("test")]
YEARS = {fact.subject: fact for fact in load_years()}


def test_no_subject_is_among_the_facts_that_editors_are_trained_on() -> None:
    invented = [name for names in read_source("invented").values() for name in names]
    known = {fact.subject for fact in load_facts()} | {fact.object for fact in load_facts()} | set(invented)
    assert not known & set(YEARS)
    assert not {case.prompt for case in PLAIN} & {case.prompt for case in CASES}
    assert YEAR not in {case.task for case in PLAIN}


def test_there_is_one_correction_a_subject_and_every_field_is_filled() -> None:
    assert len(CASES) == len(YEARS) >= 70
    assert len({case.case_id for case in CASES}) == len(CASES)
    forms = Counter(case.is_question for case in CASES)
    assert min(forms.values()) > len(CASES) / 8
    for case in CASES:
        assert (case.task, case.kind) == (YEAR, "change")
        assert case.ground_truth == str(YEARS[case.subject].year)
        assert abs(int(case.target_new) - int(case.ground_truth)) >= APART
        assert len(case.group("rephrase")) == 3
        assert {probe.answers for probe in case.group("rephrase")} == {(case.target_new,)}
        assert case.prompt not in {probe.prompt for probe in case.group("rephrase")}
        assert case.subject.casefold() in case.prompt.casefold()
        assert not any("{" in text for probe in case.probes for text in (probe.prompt, *probe.answers))


def test_neighbours_keep_their_own_year_and_the_subject_its_other_fact() -> None:
    for case in CASES:
        near = [probe for probe in case.group("locality") if probe.name == "neighborhood"]
        own = [probe for probe in case.group("locality") if probe.name == "own_fact"]
        assert [probe.answers for probe in own] == [(YEARS[case.subject].other,)]
        for probe in near:
            named = [name for name in YEARS if name.casefold() in probe.prompt.casefold()]
            assert str(YEARS[max(named, key=len)].year) == probe.answers[0] != case.target_new


def test_what_follows_is_true_of_the_new_year_and_was_not_of_the_old() -> None:
    counts = Counter(len(case.group("portability")) for case in CASES)
    assert counts[0] < len(CASES) / 10
    for case in CASES:
        old, new = int(case.ground_truth), int(case.target_new)
        for probe in case.group("portability"):
            (answer,) = probe.answers
            if answer.endswith("century"):
                assert answer == century_of(new) != century_of(old)
            else:
                others = [name for name in YEARS if name in probe.prompt and name != case.subject]
                other = max(others, key=len)
                assert answer == (case.subject if new < YEARS[other].year else other)
                assert (new < YEARS[other].year) != (old < YEARS[other].year)


def test_centuries_by_hand() -> None:
    found = {year: century_of(year) for year in (1066, 1200, 1201, 1900, 1901, 2000, 2001, 2100, 2101)}
    assert found == {
        1066: "11th century",
        1200: "12th century",
        1201: "13th century",
        1900: "19th century",
        1901: "20th century",
        2000: "20th century",
        2001: "21st century",
        2100: "21st century",
        2101: "22nd century",
    }


def test_another_seed_gives_other_years_and_the_same_seed_the_same() -> None:
    assert year_corrections() == CASES
    again = year_corrections(seed=3)
    assert [case.subject for case in again] == [case.subject for case in CASES]
    assert sum(a.target_new != b.target_new for a, b in zip(CASES, again, strict=True)) > len(CASES) / 2


def test_instructions_come_from_a_bank_of_their_own() -> None:
    bank = find_bank(YEAR, "change")
    assert bank.tasks == (YEAR,)
    assert find_bank("plain", "change") != bank
    for case in random.Random(0).sample(CASES, 9):
        told = instruction_for(case, split="unseen")
        assert any(told.startswith(wording[:-1]) for wording in bank.wordings["unseen"])


def test_a_correction_can_be_written_and_read_back() -> None:
    for case in CASES[::9]:
        assert case_from_request(case_to_record(case)) == case


def test_no_training_takes_them_and_no_other_part_is_known() -> None:
    assert own_facts(YEAR, "data.year") == CASES
    with pytest.raises(DataError, match="which no editor learns from"):
        own_facts(YEAR, "training.all")
    with pytest.raises(DataError, match="Expected train, test or year"):
        own_facts("tset", "data.own")


@pytest.mark.slow
def test_a_plan_asks_them_as_data(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    values: dict[str, Any] = plan_values(folder, write_records(tmp_path / "lands.jsonl"), limit=2)
    values["data"] = {"lands": {"own": YEAR}}
    values["tables"]["main"] |= {"editors": ["still"], "measures": ["reliability", "portability"]}
    assert len(run(values, tmp_path / "run").done) == 1
    (summary,) = RunFolder(tmp_path / "run").summaries()
    assert list(summary["tasks"]) == [YEAR]
    values["training"] = {"wrong": {"own": YEAR}}
    values["editors"] = {"mend": {"train": "mend", "data": "wrong"}}
    values["tables"]["main"]["editors"] = ["mend"]
    with pytest.raises(DataError, match=r"training\.wrong"):
        start(values, tmp_path / "run")
