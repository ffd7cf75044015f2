"""A plan: wrong names are one error, and the plan of the paper is a right one."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli_run import Run
from experiment_plans import plan_values, register, start, write_records
from instructedit.errors import DataError, UnknownNameError
from instructedit.experiment.cells import all_cells, choose_cells
from instructedit.experiment.plan import parse_plan, read_plan
from instructedit.experiment.sources import Records, reword
from tiny_editors import tiny_case, tiny_cases, tiny_opinion

ROOT = Path(__file__).parent.parent


@pytest.fixture
def values(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    register(monkeypatch)
    return plan_values(folder, write_records(tmp_path / "lands.jsonl"))


@pytest.mark.parametrize(
    ("table", "error", "said"),
    [
        ({"editors": ["instructedti"]}, UnknownNameError, "editor in the table main 'instructedti'"),
        ({"editors": ["nosy"]}, UnknownNameError, "Did you mean 'noisy'"),
        ({"data": ["seas"]}, UnknownNameError, "data in the table main 'seas'"),
        ({"measures": ["relability"]}, UnknownNameError, "Did you mean 'reliability'"),
        ({"published": "gpt3"}, UnknownNameError, "published table"),
        ({"edtors": ["noisy"]}, UnknownNameError, "Did you mean 'editors'"),
        (["noisy"], DataError, "Expected a mapping"),
    ],
)
def test_a_wrong_plan_is_one_clear_error(
    values: dict[str, Any], tmp_path: Path, cli: Run, table: Any, error: type[Exception], said: str
) -> None:
    main = {**values["tables"]["main"], **table} if isinstance(table, dict) else table
    values["tables"] = {"main": main}
    with pytest.raises(error, match=said):
        parse_plan(values)
    path = tmp_path / "plan.yaml"
    path.write_text(json.dumps(values))  # JSON is YAML
    result = cli("experiment", path, "--out", tmp_path / "run")
    assert result.code == error.exit_code
    assert len(result.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_the_plan_of_the_paper_names_nothing_unknown() -> None:
    plan = parse_plan(read_plan(ROOT / "experiments" / "paper.yaml"))
    assert {"motivation", "main", "held-out", "unseen", "controls", "question-form"} <= plan.tables.keys()
    assert {"leverage", "scaling", "where"} <= plan.tables.keys()


def test_wordings_of_a_plan_are_drawn_by_kind_and_sentiment() -> None:
    wordings = {"change": ["Mach das.", "Tu das."], "positive": ["Lobe {subject}."]}
    told = reword([tiny_case(0), tiny_opinion(1)], wordings, seed=0)
    assert told[0].instruction in wordings["change"]
    assert told[1].instruction == "Lobe {subject}."
    with pytest.raises(DataError, match="kind sentiment"):
        reword([tiny_opinion(1)], {"change": ["x"]}, seed=0)


def test_a_smaller_draw_lies_within_a_larger_and_keeps_the_order() -> None:
    records = Records(tuple(tiny_cases()))
    small, large = (records.draw(limit, seed=3).cases for limit in (3, 6))
    assert len(small) == 3
    assert set(small) < set(large)
    assert list(large) == [case for case in records.cases if case in large]
    assert records.draw(None, seed=3).digest == records.digest
    assert records.draw(3, seed=3).digest != records.draw(3, seed=4).digest


def test_cells_are_chosen_by_table_by_name_and_by_pattern(values: dict[str, Any]) -> None:
    more = {**values["tables"]["main"], "editors": ["noisy"], "conditions": ["none"]}
    values["tables"]["controls"] = more
    values["conditions"] = {"right": {}, "none": {"control": "none"}}
    plan = parse_plan(values)
    chosen = {
        pattern: [str(cell) for cell in choose_cells(plan, [pattern])]
        for pattern in ("controls", "noisy", "*/st*/lands/*", "nothing")
    }
    assert chosen == {
        "controls": ["tiny/noisy/lands/none/0"],
        "noisy": ["tiny/noisy/lands/right/0", "tiny/noisy/lands/none/0"],
        "*/st*/lands/*": ["tiny/still/lands/right/0"],
        "nothing": [],
    }
    assert choose_cells(plan, []) == all_cells(plan)


def test_a_method_has_one_seed_and_a_trained_editor_all(values: dict[str, Any], tmp_path: Path) -> None:
    values["training"] = {"own": {"own": True}}
    values["editors"] = {"mend": {"train": "mend", "data": "own"}}
    values["tables"]["main"] |= {"editors": ["noisy", "mend"], "seeds": [4, 5]}
    found = [(cell.editor, cell.seed) for cell in all_cells(parse_plan(values))]
    assert sorted(found) == [("mend", 4), ("mend", 5), ("noisy", 4)]


def test_a_pattern_that_names_no_cell_is_refused(values: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="tiny/base/lands/right/0"):
        start(values, tmp_path / "run", only=["mian"], dry_run=True)


def test_the_plan_in_the_docs_is_a_plan() -> None:
    text = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    plan = parse_plan({"name": "docs", **yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])})
    assert len(all_cells(plan)) == 2 * (4 + 3)  # the trained editor has three seeds
