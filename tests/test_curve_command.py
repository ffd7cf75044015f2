"""`instructedit curve` on a tiny model: files, table, plot, going on, and what is refused."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cli_run import PatientEditor, Run, use_editor
from instructedit.cli.curve_editors import name_editors
from instructedit.cli.data_files import find_text
from instructedit.errors import DataError, UnknownNameError
from instructedit.report import curve as report
from instructedit.report.curve import COLUMNS, draw_curves, list_numbers, list_remarks, table_rows
from tiny_models import LINES

LANDS = ("France", "England", "Italy", "Spain")


def record(land: str) -> dict:
    return {
        "prompt": f"The capital of {land} is",
        "target_new": "Rome",
        "subject": land,
        "rephrase_prompt": f"{land} has the capital",
        "locality": {"neighbour": [{"prompt": f"People in {land} speak", "ground_truth": "French"}]},
        "portability": {
            "hop": [{"prompt": f"People in the capital of {land} speak", "ground_truth": "French"}]
        },
    }


def estimate(mean: float, **bounds: float) -> dict:
    return {"edited": {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "cases": 4, **bounds}}


def point(edits: int, **values: object) -> dict:
    share = {name: estimate(0.5) for name in ("reliability", "generalization", "locality")}
    own = {"perplexity": {"ratio": 1.25}, "seconds_per_edit": 0.5, "recent_seconds_per_edit": 0.25}
    return {"edits": edits, **share, **own, "rank": 3, "bytes": 2_000_000, "probed": edits, **values}


CURVES = {
    "first": [point(10), point(100, probed=20, contradicted=2)],
    "second": [
        point(10, reliability=estimate(0.25), perplexity={"ratio": 50.0}),
        {"edits": 100, "broken_after": 40},
    ],
}


@pytest.fixture
def arguments(folder: Path, tmp_path: Path) -> list[object]:
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(record(land)) + "\n" for land in LANDS))
    return ["curve", "--model", folder, "--data", path, "--size", 2, "--out", tmp_path / "out"]


@pytest.mark.slow
def test_editors_side_by_side_are_kept_and_gone_on_with(
    cli: Run, arguments: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_editor(monkeypatch, PatientEditor(steps=4))
    (tmp_path / "text.txt").write_text("\n".join(LINES))
    told = ["--at", "2,4", "--text", tmp_path / "text.txt", "--text-tokens", 40]
    editors = ["--editor", "default", "--editor", "ultra=ultraedit", "--setting", "ultra.step=1e-4"]
    whole = [*arguments, *told, *editors]
    code, out, err = cli(*whole, "--json")
    assert code == 0, err
    editors = json.loads(out)["editors"]
    assert {name: [p["edits"] for p in points] for name, points in editors.items()} == {
        "default": [2, 4],
        "ultra": [2, 4],
    }
    assert all(p["reliability"]["edited"]["cases"] == p["edits"] for p in editors["default"])
    assert "default: 4 edits made in" in err
    lines = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert len(lines) == 4 * len(report.LINES)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["editors"]["ultra"]["editor"]["settings"]["step"] == 1e-4
    assert summary["editors"]["ultra"]["points"] == editors["ultra"]
    assert ElementTree.fromstring((tmp_path / "out" / "curve.svg").read_text()).tag.endswith("svg")
    use_editor(monkeypatch, None)  # whatever were asked of it would fail
    code, out, _ = cli(*whole)
    assert code == 0
    assert "Reliability" in out
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary
    code, _, err = cli(*whole, "--probe", 1)
    assert code == 6
    assert "probe was None and is 1" in err
    code, _, err = cli(*whole[:-1], "ultra.step=2.5")
    assert code == 6
    assert "settings was" in err


def test_without_matplotlib_there_is_a_table_and_no_plot(
    cli: Run, arguments: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "can_draw", lambda: False)
    code, out, err = cli(*arguments, "--editor", "ultraedit", "--at", "2")
    assert code == 0, err
    assert "matplotlib is not installed" in out
    assert not (tmp_path / "out" / "curve.svg").exists()


TWICE = ("--setting", "default.polish=3", "--setting", "default.polish.steps=4")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extra", "code", "words"),
    [
        (["--at", "3"], 3, "multiples of 2"),
        (["--at", "ten"], 3, "cannot read --at"),
        (["--at", "2,40"], 3, "found 4 edits"),
        (["--at", "2", "--editor", "ultraedti"], 7, "Did you mean 'ultraedit'"),
        (["--at", "2", "--editor", "grace"], 3, "no deltas"),
        (["--at", "2", "--editor", "ultraedit", "--setting", "rome.steps=3"], 7, "editor of --setting"),
        (["--at", "2", "--editor", "ultraedit", "--setting", "ultraedit.stpe=3"], 7, "Did you mean 'step'"),
        (["--at", "2", "--setting", "default.mend.stpes=3"], 7, "Did you mean 'mend.steps'"),
        (["--at", "2", "--setting", "default.mend.steps=many"], 3, "Expected a number, such as 0"),
        (["--at", "2", "--setting", "default.mend.steps=1.5"], 3, "Expected a whole number, such as 0"),
        (["--at", "2", "--setting", "default.transform.rank=3"], 3, "fixed when the editor was trained"),
        (["--at", "2", *TWICE], 3, "setting polish.steps: polish is 3 already"),
        (["--at", "2", "--editor", "gone.safetensors"], 3, "no editor at"),
        (["--at", "2", "--text", "gone.txt"], 3, "no text at"),
    ],
)
def test_what_cannot_be_run_is_refused_before_any_work(
    extra: list[str], code: int, words: str, cli: Run, arguments: list[object], tmp_path: Path
) -> None:
    found = cli(*arguments, *extra)
    assert found.code == code
    assert words in found.err
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_what_would_be_done(cli: Run, arguments: list[object], tmp_path: Path) -> None:
    code, out, _ = cli(*arguments, "--at", "2,4", "--dry-run", "--json")
    assert (code, json.loads(out)) == (0, {"editors": ["default"], "edits": 4, "at": [2, 4]})
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(cli: Run, arguments: list[object], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    code, _, err = cli(*arguments, "--at", "2")
    assert code == 6
    assert "something else" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_editors_get_names() -> None:
    named = name_editors(
        ["default", "runs/a/editor.safetensors", "b.safetensors", "slow=memit", "memit"],
        ["slow.steps=3", "memit.steps=4", "memit.lr=1.5"],
    )
    assert [each.label for each in named] == ["default", "a", "b", "slow", "memit"]
    assert [each.settings for each in named[3:]] == [("steps=3",), ("steps=4", "lr=1.5")]
    for wrong in (["memit", "memit"], ["a b=memit"], ["..=memit"]):
        with pytest.raises(DataError, match="does not name one editor"):
            name_editors(wrong, [])
    with pytest.raises(UnknownNameError, match="editor of --setting"):
        name_editors(["memit"], ["steps=3"])


# The report


def test_the_table_says_what_was_measured() -> None:
    rows = table_rows(CURVES)
    assert all(len(row) == len(COLUMNS) for row in rows)
    assert rows[0] == ("first", 10, *["50.0 (40.0–60.0)"] * 3, "1.25", "0.5", "0.25", 3, "2")
    assert rows[3][:3] == ("second", 100, "–")
    remarks = " ".join(list_remarks(CURVES))
    assert "20 of 100" in remarks
    assert "10 of 10" not in remarks
    assert "2 of the edits are contradicted" in remarks
    assert "second broke the model after 40 edits" in remarks
    assert list(list_remarks({"first": [point(10)]})) == []


def test_the_records_hold_every_number() -> None:
    found = list_numbers(CURVES)
    assert len(found) == 3 * len(report.LINES)
    first = next(each for each in found if each["editor"] == "second")
    assert (first["measure"], first["edits"], first["value"], first["cases"]) == ("reliability", 10, 25.0, 4)
    assert {each["edits"] for each in found if each["editor"] == "second"} == {10}


@pytest.mark.slow
def test_the_plot_is_the_same_for_the_same_numbers() -> None:
    first = draw_curves(CURVES)
    assert first == draw_curves(CURVES)
    texts = "".join(ElementTree.fromstring(first.decode()).itertext())
    assert all(word in texts for word in ("first", "second", *(line.title for line in report.LINES)))
    assert first != draw_curves({**CURVES, "second": CURVES["first"]})


def test_the_text_is_looked_for_among_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "plain.txt").write_text("Some words.")
    monkeypatch.setenv("INSTRUCTEDIT_DATA", str(tmp_path))
    assert find_text(Path("text/plain.txt")) == tmp_path / "text" / "plain.txt"
    assert find_text(None) is None
    with pytest.raises(DataError, match="no text at text"):
        find_text(Path("text"))
