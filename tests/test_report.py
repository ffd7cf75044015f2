"""Tables, bars and card from summaries written by hand, so every printed number is known beforehand."""

import json
from pathlib import Path

import pytest
import yaml

from instructedit.errors import DataError, UnknownNameError
from instructedit.report import (
    check_bars,
    format_levers,
    format_scores,
    read_bars,
    read_evaluations,
    read_levers,
    read_scores,
)
from report_summaries import FACTS, Tree, write_summaries, write_summary


@pytest.fixture
def summaries(tmp_path: Path) -> list[Path]:
    return write_summaries(tmp_path)


def cells_of(table: str, row: int) -> list[str]:
    return [cell.strip() for cell in table.splitlines()[row].strip("| ").split(" | ")]


def test_a_row_holds_the_headline_metrics_in_percent(summaries: list[Path]) -> None:
    table = format_scores(read_scores(read_evaluations(summaries)))
    cells = dict(zip(cells_of(table, 0), cells_of(table, 2), strict=True))
    assert cells == {
        "Data set": "counterfact",
        "n": "40",
        "Reliability, bare": "**93.4** (2.5) 91.2–95.1",
        "Reliability, instructed": "**95.0**",
        "Generalization": "**75.5** (0.0)",
        "Locality (tokens)": "**86.1**, n 31",
        "Portability (tokens)": "**62.3** (40.0)",  # token accuracy, not the whole answer
    }


def test_opinions_have_a_table_of_their_own(summaries: list[Path]) -> None:
    facts, opinions = format_scores(read_scores(read_evaluations(summaries))).split("\n\n")
    assert "convsent" not in facts
    assert cells_of(opinions, 2) == ["convsent", "40", "**88.0** (50.0)", "–", "**97.7**"]


def test_what_was_never_trained_on_is_marked(summaries: list[Path]) -> None:
    table = format_scores(read_scores(read_evaluations(summaries)), {"counterfact": 1, "convsent": 1})
    assert table.count("never trained on") == 1
    assert "| zsre, never trained on |" in table


def test_one_task_in_two_files_is_told_apart_by_the_folder(tmp_path: Path) -> None:
    paths = [write_summary(tmp_path / name, {"zsre": FACTS}) for name in ("first", "second")]
    found = {score.dataset for score in read_scores(read_evaluations(paths))}
    assert found == {"zsre (first)", "zsre (second)"}
    paths = [write_summary(tmp_path / name / "zsre", {"zsre": FACTS}) for name in ("one", "other")]
    found = {score.dataset for score in read_scores(read_evaluations(paths))}
    assert found == {"zsre (one/zsre)", "zsre (other/zsre)"}
    with pytest.raises(DataError, match="named twice"):
        read_evaluations([paths[0], paths[0]])


def test_levers_show_both_instructions_and_the_signed_difference(summaries: list[Path]) -> None:
    table = format_levers(read_levers(read_evaluations(summaries)))
    whole, named = cells_of(table, 2), cells_of(table, 3)
    assert whole[2:] == ["all probes", "wide 60.0", "narrow 44.0", "20.0", "**+16.0** +10.0 to +22.0", "25"]
    assert named[2:] == ["Reasoning", "wide 50.0", "narrow 60.0", "–", "**-10.0**", "40"]
    assert len({line.count("|") for line in table.splitlines()}) == 1


def test_a_folder_stands_for_its_summary(summaries: list[Path]) -> None:
    assert read_evaluations([summaries[0].parent]) == read_evaluations(summaries[:1])


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"rows": 1}', '{"tasks": 1}', '{"tasks": {}, "leverage": []}', None]
)
def test_a_file_that_is_no_summary_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "summary.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match="instructedit evaluate --out"):
        read_evaluations([path])


def test_a_broken_entry_is_named(tmp_path: Path) -> None:
    broken = {"reliability": {"bare": {"exact": {"edited": {"mean": 1.0}}}}}
    path = write_summary(tmp_path / "a", {"recent": broken})
    with pytest.raises(DataError, match="recent, reliability"):
        read_scores(read_evaluations([path]))


def reach(tmp_path: Path, summaries: list[Path], bars: Tree) -> dict[str, tuple[float | None, bool]]:
    path = tmp_path / "bars.yaml"
    path.write_text(yaml.safe_dump(bars))
    evaluations = read_evaluations(summaries)
    checked = check_bars(read_bars(path), read_scores(evaluations), read_levers(evaluations))
    return {f"{bar.dataset}.{bar.measure}": (bar.reached, bar.holds) for bar in checked}


def test_bars_compare_percent_gains_and_leverage(tmp_path: Path, summaries: list[Path]) -> None:
    bars = {
        "counterfact": {"reliability": 93.4, "generalization": 75.6, "portability_gain": 22},
        "convsent": {"win_rate": 88},
        "leverage": {"scope": 15, "sentiment": 60},
        "recent": {"reliability": 0},
    }
    found = reach(tmp_path, summaries, bars)
    assert {name: holds for name, (_, holds) in found.items()} == {
        "counterfact.reliability": True,
        "counterfact.generalization": False,
        "counterfact.portability_gain": True,
        "convsent.win_rate": True,
        "leverage.scope": True,
        "leverage.sentiment": False,  # not measured, so not reached
        "recent.reliability": False,
    }
    assert found["leverage.scope"][0] == pytest.approx(16)
    assert found["recent.reliability"][0] is None


def test_of_several_files_the_lowest_counts(tmp_path: Path) -> None:
    low = json.loads(json.dumps(FACTS))
    low["reliability"]["bare"]["exact"]["edited"]["mean"] = 0.5
    paths = [write_summary(tmp_path / "a", {"zsre": FACTS}), write_summary(tmp_path / "b", {"zsre": low})]
    found = reach(tmp_path, paths, {"zsre": {"reliability": 90}, "zsre (a)": {"reliability": 90}})
    assert found == {"zsre.reliability": (50.0, False), "zsre (a).reliability": (pytest.approx(93.4), True)}


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("[1]", DataError, "holds no bars"),
        ("zsre: 3", DataError, "holds no bars"),
        ("zsre: {reliability: much}", DataError, "a number"),
        ("zsre: {reliabilty: 3}", UnknownNameError, "Did you mean 'reliability'"),
        ("a: [", DataError, "YAML"),
    ],
)
def test_wrong_bars_are_refused(tmp_path: Path, text: str, error: type[Exception], said: str) -> None:
    path = tmp_path / "bars.yaml"
    path.write_text(text)
    with pytest.raises(error, match=said):
        read_bars(path)
