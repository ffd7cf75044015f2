"""The analysis' numbers against the reliability of a run's cells, all of it made up."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cli_run import Run
from instructedit.analysis import Study, correlate_cells, join_cells, measure_labels
from instructedit.errors import DataError, UnknownNameError
from instructedit.evaluation.bootstrap import CaseKey
from instructedit.experiment.known import Known, write_known
from instructedit.experiment.reliability import read_reliability
from instructedit.experiment.store import CELLS, RunFolder
from tiny_editors import tiny_cases

pytestmark = pytest.mark.slow

SHARES = {"right": {"a": [1.0, 0.5], "b": [0.25]}, "none": {"a": [0.0], "b": [0.125]}}  # by task


def made_row(condition: str, **more: Any) -> dict[str, Any]:
    found = {
        "stage": "delta",
        "site": "all sites",
        "by": "task",
        "condition": condition,
        "by_label": {
            "a": {"n": 2, "recall": 0.9, "silhouette": 0.5, "within": 0.8},
            "b": {"n": 2, "recall": 0.4, "silhouette": 0.1, "within": 0.3},
        },
        "pairs": [{"labels": ["a", "b"], "cosine": 0.1}, {"labels": ["a", "c"], "cosine": 0.3}],
    }
    return found | more


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a report: one editor under two conditions, and others that nobody asks for."""
    conditions = {"right": {}, "none": {"control": "none"}, "seen": {"split": "train"}}
    conditions |= {"written": {"fluency": True}, "few": {"limit": 1}}  # some of the cases once more
    table = {"editors": ["base", "mend"], "data": ["d"], "conditions": list(conditions)}
    plan: dict[str, Any] = {"name": "made", "models": {"m": {}}, "data": {"d": {"own": True}}}
    plan |= {"training": {"t": {"own": True}}, "editors": {"mend": {"train": "mend", "data": "t"}}}
    plan |= {"conditions": conditions, "tables": {"main": table}}
    cells = {}
    for told in conditions:
        shares = SHARES.get(told, {"a": [0.9]})
        values = {CaseKey(task, i): [x] for task, found in shares.items() for i, x in enumerate(found)}
        cells[told] = Known(f"m/mend/d/{told}/0", {"reliability": values})
    write_known(tmp_path / "run" / CELLS, cells)
    keys = {cell.name: key for key, cell in cells.items()}
    RunFolder(tmp_path / "run").write_plan(plan, keys, {"checksums": {"m": "sum"}})
    return tmp_path / "run"


def test_numbers_of_a_task_stand_beside_its_reliability() -> None:
    """The gap of a task: its own cosine minus the mean with the others, 0.8 - (0.1 + 0.3) / 2."""
    rows = [
        made_row("right"),
        made_row("none"),
        made_row("right", stage="input"),
        made_row("other", by="told"),
        made_row("other"),
    ]
    shares = {("a", "right"): 0.75, ("b", "none"): 0.25, ("a", "other"): 0.5}
    first, second = join_cells("mend", rows, shares)
    assert first == {
        "editor": "mend",
        "task": "a",
        "condition": "right",
        "recall": 0.9,
        "silhouette": 0.5,
        "within": 0.8,
        "gap": pytest.approx(0.6),
        "reliability": 0.75,
    }
    assert (second["task"], second["condition"], second["gap"]) == ("b", "none", pytest.approx(0.2))
    found = correlate_cells([first, second, {**second, "recall": 0.1, "reliability": 0.0}])
    assert (found["recall"]["rho"], found["recall"]["cells"]) == (pytest.approx(1.0), 3)


def test_reliability_is_read_by_model_task_and_what_was_told(run: Path) -> None:
    found = read_reliability(RunFolder(run), "mend", "unseen")
    assert found == {
        ("sum", "a", "right"): 0.75,
        ("sum", "b", "right"): 0.25,
        ("sum", "a", "none"): 0.0,
        ("sum", "b", "none"): 0.125,
    }
    assert read_reliability(RunFolder(run), "mend", "train") == {("sum", "a", "right"): 0.9}
    with pytest.raises(UnknownNameError, match="Did you mean 'mend'"):
        read_reliability(RunFolder(run), "mnd", "unseen")
    (run / CELLS).unlink()
    with pytest.raises(DataError, match="no finished cell of mend"):
        read_reliability(RunFolder(run), "mend", "unseen")


def test_the_command_prints_and_keeps_the_correlations(
    run: Path, cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    measured = measure_labels(points, list("aaaabbbb"), permutations=0)
    rows = [made_row(told) | measured for told in ("right", "none")]
    numbers = {"model": "m", "checksum": "sum", "tasks": {"a": {}, "b": {}}, "rows": rows, "turns": []}
    monkeypatch.setattr("instructedit.cli.analyse.read_cases", lambda *_a, **_k: [])
    monkeypatch.setattr("instructedit.analysis.choose_cases", lambda _: tiny_cases(2))
    monkeypatch.setattr("instructedit.cli.analyse._study", lambda *_: Study((), {}, (), dict(numbers)))
    monkeypatch.setattr("instructedit.analysis.draw_embedding", lambda *_: b"<svg/>")
    told = ("analyse", "--editor", "mend", "--cells", run, "--out")
    code, text, err = cli(*told, tmp_path / "one")
    assert code == 0, err
    assert "Spearman's rho with reliability" in text
    kept = json.loads((tmp_path / "one" / "numbers.json").read_text())
    assert [cell["reliability"] for cell in kept["cells"]] == [0.75, 0.25, 0.0, 0.125]
    assert kept["correlations"]["gap"]["cells"] == 4
    twice = cli(*told, tmp_path / "two", "--beside", tmp_path / "one")
    assert twice.code == DataError.exit_code
    assert "4 cells stand in two of these analyses, first: mend, a, right" in twice.err
    other = tmp_path / "one" / "numbers.json"
    other.write_text(json.dumps({**kept, "checksum": "of another model"}))
    again = cli(*told, tmp_path / "two", "--beside", tmp_path / "one", "--json")
    assert json.loads(again.out)["correlations"]["gap"]["cells"] == 8
    assert cli("analyse", "--beside", tmp_path / "one").code == DataError.exit_code
    assert cli(*told, tmp_path / "three", "--beside", run).code == DataError.exit_code
    numbers["checksum"] = "another"
    code, _, err = cli(*told, tmp_path / "three")
    assert code == DataError.exit_code
    assert "no cell of mend fits" in err
