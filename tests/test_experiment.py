"""The grid: cells are kept and gone on with, keys tell settings apart, and no cell is run twice."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from experiment_plans import CALLS, DURING, plan_values, register, run, start, write_records
from instructedit.editors import ordinary
from instructedit.editors.editor_file import read_header
from instructedit.errors import DataError
from instructedit.experiment import cells, cost, making
from instructedit.experiment.cost import estimate_costs, format_costs
from instructedit.experiment.making import describe_editor
from instructedit.experiment.plan import parse_plan
from instructedit.experiment.running import Outcome, run_cells
from instructedit.experiment.sources import Finder, Sources
from instructedit.experiment.specs import EditorSpec
from instructedit.experiment.store import RunFolder
from instructedit.types import Probe

pytestmark = pytest.mark.slow


@pytest.fixture
def values(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    register(monkeypatch)
    return plan_values(folder, write_records(tmp_path / "lands.jsonl"))


def names_of(found: list) -> list[str]:
    return [cell.editor for cell in found]


def test_an_interrupted_run_goes_on_where_it_stopped(values: dict[str, Any], tmp_path: Path) -> None:
    values["tables"]["main"]["editors"] = ["still", "interrupted", "noisy"]
    with pytest.raises(KeyboardInterrupt):
        run(values, tmp_path / "run")
    assert CALLS == [("still", "France")]
    assert not list((tmp_path / "run" / "claims").iterdir())  # given back
    assert len(list((tmp_path / "run" / "cells").iterdir())) == 1  # and nothing half written
    values["tables"]["main"]["editors"] = ["still", "noisy"]
    outcome = run(values, tmp_path / "run")
    assert names_of(outcome.done) == ["noisy"]
    assert CALLS == [("still", "France"), ("noisy", "France")]
    assert start(values, tmp_path / "run", dry_run=True).left == []


CHANGES: list[tuple[str, Any, bool]] = [
    ("limit", 3, True),
    ("seeds", [5], True),
    ("editors", {"noisy": {"method": "noisy", "settings": {"strength": 0.4}}}, True),
    ("conditions", {"right": {"split": "train"}}, True),
    ("conditions", {"right": {"control": "none"}}, True),
    ("cache", False, True),
    ("sample", 1, True),  # draws wordings and replies, and records under a limit
    ("batch", 3, False),
    ("name", "another", False),
    ("editors", {"noisy": {"method": "noisy", "title": "Noise"}}, False),
    ("conditions", {"right": {"title": "As told"}}, False),
]


@pytest.mark.parametrize(("entry", "value", "differs"), CHANGES)
def test_what_changes_a_result_changes_the_key_and_nothing_else_does(
    values: dict[str, Any], tmp_path: Path, entry: str, value: Any, differs: bool
) -> None:
    def key(plan: dict[str, Any]) -> str:
        return start(plan, tmp_path / "run", only=["noisy"], dry_run=True).chosen[0][1]

    assert (key({**values, entry: value}) != key(deepcopy(values))) is differs


def test_other_records_and_another_model_give_another_key(values: dict[str, Any], tmp_path: Path) -> None:
    first = start(values, tmp_path / "run", dry_run=True)
    write_records(tmp_path / "lands.jsonl", 5)
    second = start(values, tmp_path / "run", dry_run=True)
    keys = first.workshop.keys
    keys.checksums["tiny"] = "another"
    cell, key = first.chosen[0]
    assert len({key, second.chosen[0][1], keys.key(cell)}) == 3


def test_what_people_write_is_in_the_key_of_what_is_taught_to_read_it(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values["training"] = {"lands": values["data"]["lands"]}
    keys = start(values, tmp_path / "run", dry_run=True).workshop.keys

    def described(name: str) -> dict[str, Any]:
        return describe_editor(EditorSpec(train=name, data="lands"), keys.plan, keys.sources, 0)

    before = {name: described(name) for name in ("mend", "instructedit")}
    monkeypatch.setattr(making, "asked_digest", lambda: "other words")
    assert described("mend") == before["mend"]
    assert described("instructedit") != before["instructedit"]


def test_the_packages_ordinary_text_is_in_the_key_of_what_reads_it(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = start(values, tmp_path / "run", dry_run=True).workshop.keys

    def describe(method: str, **settings: Any) -> dict[str, Any]:
        return describe_editor(EditorSpec(method, settings), keys.plan, keys.sources, 0)

    before = {name: describe(name) for name in ("rome", "memit", "alphaedit", "ft-l")}
    file = tmp_path / "own.txt"
    with pytest.raises(DataError, match="cannot read the ordinary text"):
        describe("rome", text=str(file))
    file.write_text("One text.")
    own = describe("rome", text=str(file))
    monkeypatch.setattr(ordinary, "plain_sentences", lambda: ["Another text."])
    assert {name for name, was in before.items() if was != describe(name)} == {"rome", "memit", "alphaedit"}
    assert describe("rome", text=str(file)) == own
    file.write_text("Another one.")
    assert describe("rome", text=str(file)) != own


def test_a_changed_bank_or_fact_of_the_package_changes_every_key(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, code = tmp_path / "instructions" / "banks" / "change.yaml", tmp_path / "data" / "plain.py"
    for file in (bank, code):
        file.parent.mkdir(parents=True)
        file.write_text("train: []")
    found = [cells.folder_digest(tmp_path)]
    for file in (code, bank):
        file.write_text("train: [Change it.]")
        found.append(cells.folder_digest(tmp_path))
    assert found[0] == found[1] != found[2]
    before = [key for _, key in start(values, tmp_path / "run", dry_run=True).chosen]
    monkeypatch.setattr(cells, "package_digest", lambda: found[2])
    after = [key for _, key in start(values, tmp_path / "run", dry_run=True).chosen]
    assert len({*before, *after}) == len(before) + len(after)


def test_no_text_of_a_training_asks_what_the_data_ask(values: dict[str, Any], tmp_path: Path) -> None:
    asked = (
        "the capital of france is?",
        "People in  Spain speak",
        "Rome was not built in a day, as they say",
    )
    text = [Probe("locality", prompt, ("so",)) for prompt in asked]
    values["limit"] = 1  # what is not drawn is asked elsewhere
    values["training"] = {"lands": {"files": [str(tmp_path / "lands.jsonl")], "text": ["text.txt"]}}
    sources = Sources(parse_plan(values), Finder(text=lambda _: text))
    assert [probe.prompt for probe in sources.training("lands").text] == [asked[2]]
    assert sources.training("lands") is sources.training("lands")  # with its digest, for every editor of it
    assert sources.left_out == {"lands": 2}
    without = {name: entry for name, entry in values.items() if name != "tables"}
    empty = parse_plan({**without, "data": {}, "tables": {}})
    assert len(Sources(empty, Finder(text=lambda _: text)).training("lands").text) == 3


def test_two_workers_share_a_folder_and_run_no_cell_twice(values: dict[str, Any], tmp_path: Path) -> None:
    """The second worker comes while the first is at its third cell, and does all the others."""
    values["tables"]["main"]["conditions"] = ["right", "none"]
    values["conditions"] = {"right": {}, "none": {"control": "none"}}
    first, second = (start(values, tmp_path / "run") for _ in range(2))
    outcomes: list[Outcome] = []
    DURING.append(lambda: outcomes.append(run_cells(second.workshop, second.left, say=print)))
    outcomes.append(run_cells(first.workshop, first.left, say=print))
    done = [[str(cell).removeprefix("tiny/") for cell in outcome.done] for outcome in outcomes]
    assert done == [
        ["still/lands/none/0", "noisy/lands/right/0", "noisy/lands/none/0"],
        ["base/lands/right/0", "base/lands/none/0", "still/lands/right/0"],
    ]
    assert [str(cell) for cell in outcomes[0].busy] == ["tiny/still/lands/right/0"]
    assert len(CALLS) == 4  # the unedited model calls nobody
    assert start(values, tmp_path / "run", dry_run=True).left == []


def test_a_cell_that_fails_is_noted_and_the_others_are_run(values: dict[str, Any], tmp_path: Path) -> None:
    values["tables"]["main"]["editors"] = ["broken", "still"]
    outcome = run(values, tmp_path / "run")
    assert (names_of(outcome.failed), names_of(outcome.done)) == (["broken"], ["still"])
    session = start(values, tmp_path / "run", dry_run=True)
    (cell, key), *none = session.left
    assert (cell.editor, none) == ("broken", [])
    assert RunFolder(tmp_path / "run").failure(key)["message"] == "this one is broken"


def test_the_cost_comes_from_finished_cells_or_from_one_case(values: dict[str, Any], tmp_path: Path) -> None:
    session = start(values, tmp_path / "run", only=["noisy"])
    (unknown,) = estimate_costs(session.workshop, session.left)
    assert (unknown.cells, unknown.edits, unknown.seconds) == (1, 6, None)
    assert format_costs([unknown], 0).endswith("6 edits, 1 editors that no time is known of yet.")
    (probed,) = estimate_costs(session.workshop, session.left, probe=True)
    assert len(CALLS) == 1
    assert probed.seconds == pytest.approx(estimate_costs(session.workshop, session.left)[0].seconds)
    run_cells(session.workshop, session.left, say=print)
    values["tables"]["main"]["conditions"] = ["right"]
    larger = start({**values, "limit": 4}, tmp_path / "run", only=["noisy"], dry_run=True)
    (known,) = estimate_costs(larger.workshop, larger.left)
    (summary,) = RunFolder(tmp_path / "run").summaries()
    assert known.seconds == pytest.approx(4 * summary["seconds"] / 6)
    assert "1 cells (0 are finished), 4 edits" in format_costs([known], 0)


def test_what_the_first_case_makes_for_all_is_no_part_of_the_estimate(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 300.0, 300.0, 302.0])  # a slow first try, and what it takes from then on
    monkeypatch.setattr(cost, "perf_counter", lambda: next(clock))
    session = start(values, tmp_path / "run", only=["noisy"])
    (probed,) = estimate_costs(session.workshop, session.left, probe=True)
    assert probed.seconds == pytest.approx(6 * 2.0)
    assert len(CALLS) == 2


SMALL = {
    "steps": 2,
    "batch": 2,
    "validate_every": 1,
    "validation_cases": 4,
    "moments": 4,
    "warmup": 1,
    "validation": 0.3,
    "editor": {"transform": {"rank": 4, "depth": 1}},
}


def test_an_editor_is_trained_once_a_seed_whatever_asks_for_it(
    values: dict[str, Any], tmp_path: Path
) -> None:
    values["training"] = {"lands": {"files": [str(tmp_path / "lands.jsonl")]}}
    values["editors"] = {"mend": {"train": "mend", "set": SMALL, "data": "lands"}}
    values["tables"]["main"] |= {"editors": ["mend"], "conditions": ["right", "none"]}
    values["conditions"] = {"right": {"instructed": False}, "none": {"control": "none"}}
    assert names_of(run(values, tmp_path / "run", only=["right"]).done) == ["mend"]
    (first,) = RunFolder(tmp_path / "run").trainings()
    assert first["steps"] == 2
    assert names_of(run(values, tmp_path / "run").done) == ["mend"]
    assert RunFolder(tmp_path / "run").trainings() == [first]
    both = start({**values, "seeds": [0, 1]}, tmp_path / "run", dry_run=True)
    done = {cell.seed: both.workshop.training(cell).is_done for cell, _ in both.chosen}
    assert done == {0: True, 1: False}


def test_editors_that_differ_in_how_they_edit_share_a_training(
    values: dict[str, Any], tmp_path: Path
) -> None:
    part = {"train": "mend", "set": SMALL, "data": "lands"}
    values["training"] = {"lands": {"files": [str(tmp_path / "lands.jsonl")]}}
    values["editors"] = {"long": part, "short": {**part, "edit": {"rounds": 1, "polish": {"steps": 0}}}}
    values["tables"]["main"] |= {"editors": ["long", "short"]}
    values["conditions"] = {"right": {"instructed": False}}
    session = start(values, tmp_path / "run")
    (long, one), (short, other) = session.left
    assert one != other
    _, editor, _ = session.workshop.editor(short)
    assert (editor.config.rounds, editor.config.polish.steps) == (1, 0)
    session.workshop.editor(long)
    assert len(RunFolder(tmp_path / "run").trainings()) == 1


def test_what_follows_a_pass_has_no_part_in_its_training(values: dict[str, Any], tmp_path: Path) -> None:
    follows = {"gate": {"wordings": 4}, "polish": {"steps": 3, "fit": 2}, "wordings": 1, "rounds": 2}
    with_it = {**SMALL, "editor": {**SMALL["editor"], **follows}}
    values["training"] = {"lands": {"files": [str(tmp_path / "lands.jsonl")]}}
    part = {"train": "mend", "data": "lands"}
    values["editors"] = {"plain": {**part, "set": SMALL}, "whole": {**part, "set": with_it}}
    values["tables"]["main"] |= {"editors": ["plain", "whole"]}
    session = start(values, tmp_path / "run")
    weights = []
    for cell, _ in session.left:
        _, editor, _ = session.workshop.editor(cell)
        weights.append(editor.state_dict())
    assert len(RunFolder(tmp_path / "run").trainings()) == 2
    assert weights[0].keys() == weights[1].keys()
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])


@pytest.mark.usefixtures("few_wordings")
def test_an_editor_of_a_plan_is_taught_to_read_scopes(values: dict[str, Any], tmp_path: Path) -> None:
    told = {"transform": {"rank": 4, "depth": 1, "code": 4}, "polish": {"scoped": True}}
    values["training"] = {"lands": {"files": [str(tmp_path / "lands.jsonl")]}}
    values["editors"] = {"told": {"train": "mend", "set": {**SMALL, "editor": told}, "data": "lands"}}
    values["tables"]["main"] |= {"editors": ["told"], "conditions": ["right"]}
    values["conditions"] = {"right": {"instructed": False}}
    assert names_of(run(values, tmp_path / "run").done) == ["told"]
    (editor,) = (tmp_path / "run" / "editors").glob("*/editor.safetensors")
    assert {"narrow", "wide"} <= set(read_header(editor)["told"]["validation"])


def test_an_editor_that_another_process_trains_is_left_to_it(values: dict[str, Any], tmp_path: Path) -> None:
    values["training"] = {"lands": {"files": [str(tmp_path / "lands.jsonl")]}}
    values["editors"] = {"mend": {"train": "mend", "set": SMALL, "data": "lands"}}
    values["tables"]["main"]["editors"] = ["mend", "still"]
    session = start(values, tmp_path / "run")
    cell = next(cell for cell, _ in session.left if cell.editor == "mend")
    training = session.workshop.training(cell)
    assert training is not None
    with session.workshop.run.claims.hold(f"train-{training.folder.name}"):
        outcome = run_cells(session.workshop, session.left, say=print)
    assert (names_of(outcome.busy), names_of(outcome.done)) == (["mend"], ["still"])
