"""Tables of a run: measures, intervals and the mark of the best against numbers worked out by hand."""

import json
import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from cli_run import Run
from experiment_plans import plan_values, register, run, write_records
from instructedit.evaluation.bootstrap import Estimate, estimate
from instructedit.evaluation.rows import make_row
from instructedit.experiment.known import read_known
from instructedit.experiment.measures import combine, find_best, measure_rows, merge_seeds
from instructedit.experiment.page import Heading, Paragraph, Table, write_html, write_markdown
from instructedit.experiment.published import published_names, published_table
from instructedit.experiment.report import make_report, show_difference
from instructedit.experiment.results import Place, best_places
from instructedit.experiment.specs import TableSpec
from instructedit.experiment.store import RunFolder

Finished = tuple[dict[str, Any], Path]  # a plan and the folder of its run


def clusters(*values: float) -> dict[int, list[float]]:
    return {case: [float(value)] for case, value in enumerate(values)}


def test_the_best_is_marked_only_where_every_difference_is_beyond_its_interval() -> None:
    top, low = clusters(1, 1, 0, 1), clusters(0.5, 0.5, -0.5, 0.5)  # 1/2 apart on every case
    near = clusters(1, 0, 0, 1)  # behind on one case of four, which 3 in 10 resamples lack
    two = estimate(clusters(0.0, 1.0))  # resampled means 0, 1/2 and 1 with chances 1/4, 1/2 and 1/4
    assert two is not None
    assert (two.mean, two.low, two.high) == (0.5, 0.0, 1.0)
    assert find_best({"top": top, "low": low}) == "top"
    assert find_best({"top": top, "near": near}) is None
    assert find_best({"top": top, "low": low, "near": near}) is None
    assert find_best({"top": top, "low": low}, higher_is_better=False) == "low"
    assert find_best({"top": top, "same": dict(top)}) is None


def test_overlapping_intervals_do_not_hide_a_paired_difference() -> None:
    first = clusters(*(number / 10 for number in range(10)))
    second = {case: [value - 0.01] for case, (value,) in first.items()}
    assert find_best({"first": first, "second": second}) == "first"
    assert find_best({"first": first, "second": {f"other {c}": v for c, v in second.items()}}) is None


def test_a_mean_of_measures_weighs_each_the_same() -> None:
    """Means 1/2 over cases 0 and 1, and 1 over case 0 alone: 3/4, whose parts by case are 1 and 1/2."""
    made = combine([clusters(1.0, 0.0), {0: [1.0]}])
    assert made == {0: [1.0], 1: [0.5]}
    whole = estimate(combine([clusters(1.0, 0.0, 0.25), clusters(0.5, 0.5, 0.2), {1: [0.9]}]))
    assert whole is not None
    assert whole.mean == pytest.approx((1.25 / 3 + 1.2 / 3 + 0.9) / 3)


def test_seeds_of_one_case_count_once() -> None:
    merged = merge_seeds([{0: [1.0, 0.0], 1: [1.0]}, {0: [1.0], 1: [0.0]}])
    assert merged == {0: [0.5, 1.0], 1: [1.0, 0.0]}
    found = estimate(merged)
    assert found is not None
    assert (found.mean, found.cases) == (pytest.approx(0.625), 2)


def best_on(measure: str, unedited: dict, **rivals: dict) -> list[str]:
    table = TableSpec(editors=("base", *rivals), data=("d",))
    values = {Place("m", "d", name, "c", measure): each for name, each in rivals.items()}
    values[Place("m", "d", "base", "c", measure)] = unedited
    return [place.editor for place in best_places(table, values)]


def test_the_best_mean_has_to_lie_beyond_the_unedited_model() -> None:
    high, low = clusters(0.6, 0.7, 0.6, 0.7), clusters(0.3, 0.4, 0.3, 0.4)
    above, below = clusters(0.8, 0.9, 0.8, 0.9), clusters(0.5, 0.6, 0.5, 0.6)
    assert best_on("mean", below, high=high, low=low) == ["high"]
    assert best_on("mean", above, high=high, low=low) == []
    assert best_on("locality", above, high=high, low=low) == ["high"]  # an unedited model keeps everything


def row(case: int, group: str, instructed: bool = False, condition: str = "", **values: float) -> dict:
    kind = "sentiment" if condition in ("positive", "negative") else "change"
    labels = {"task": "t", "case": case, "group": group, "instructed": instructed, "condition": condition}
    return make_row(labels | {"kind": kind}, values)


def test_measures_read_the_rows_that_they_are_named_after() -> None:
    rows = [
        row(0, "reliability", edited_exact=1.0, base_exact=0.0),
        row(0, "reliability", instructed=True, edited_exact=0.0),
        row(1, "reliability", edited_win_rate=0.25),  # an opinion
        row(0, "rephrase", edited_exact=0.0),
        row(0, "rephrase", edited_exact=1.0),
        row(0, "locality", edited_unchanged=0.75, edited_unchanged_exact=0.0),
        row(0, "portability", edited_accuracy=0.5, edited_exact=0.0),
    ]
    found = measure_rows(rows)
    assert found["reliability"] == {("t", 0, ""): [1.0], ("t", 1, ""): [0.25]}
    assert found["reliability_instructed"] == {("t", 0, ""): [0.0]}
    assert found["generalization"] == {("t", 0, ""): [0.0, 1.0]}
    assert found["locality"] == {("t", 0, ""): [0.75]}
    assert found["portability"] == {("t", 0, ""): [0.5]}
    assert "portability_instructed" not in found
    mean = estimate(found["mean"])
    assert mean is not None
    assert mean.mean == pytest.approx((0.625 + 0.5 + 0.75 + 0.5) / 4)


def test_leverage_is_first_minus_second_condition() -> None:
    rows = [
        row(0, "portability", condition="wide", edited_accuracy=1.0),
        row(0, "portability", condition="narrow", edited_accuracy=0.25),
        row(1, "portability", condition="wide", edited_accuracy=0.5),  # has no second side
        row(0, "reliability", condition="positive", edited_win_rate=0.75),
        row(0, "reliability", condition="negative", edited_win_rate=0.75),  # negative ones win
    ]
    found = measure_rows(rows)
    assert found == {"scope": {("t", 0, ""): [0.75]}, "sentiment": {("t", 0, ""): [0.5]}}


def test_a_difference_is_bold_where_its_interval_does_not_hold_zero() -> None:
    place = Place("m", "d", "e", "c", "reliability")
    assert show_difference(place, Estimate(0.1, 0.02, 0.2, 9, 9, 0.1)) == "**+10.0** [+2.0, +20.0]"
    assert show_difference(place, Estimate(-0.1, -0.3, 0.1, 9, 9, 0.1)) == "-10.0 [-30.0, +10.0]"
    assert show_difference(place, Estimate(0.1, None, None, 1, 1, 0.1)) == "+10.0"


def test_the_papers_figures_are_marked_as_anothers() -> None:
    table = published_table("gpt2-xl")
    assert "another model, GPT2-XL" in table.foreign
    cells = {tuple(row[:2]): dict(zip(table.columns[2:], row[2:], strict=True)) for row in table.rows}
    assert cells["ZsRE, held out", "Reliability"]["InstructEdit"] == "82.83"
    assert cells["CounterFact", "Portability"]["MEND"] == "41.88"
    for name in published_names():
        one = published_table(name)
        assert {len(row) for row in one.rows} == {len(one.columns)}


def test_a_page_is_escaped_and_stands_alone() -> None:
    blocks = [
        Heading("A <b> & c", 1),
        Paragraph("**bold** and `code`"),
        Table(["x|y"], [["**1** <2"]], "another's"),
    ]
    page, text = write_html(blocks), write_markdown(blocks)
    assert "<h1>A &lt;b&gt; &amp; c</h1>" in page
    assert "<td><strong>1</strong> &lt;2</td>" in page
    assert "<code>code</code>" in page
    assert not any(mark in page for mark in ("<script", "http", "src=", "<link"))
    assert "# A <b> & c" in text
    assert r"x\|y" in text


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """A plan whose main table is run and whose second one is not: nobody may write into its folder."""
    place = tmp_path_factory.mktemp("experiment")
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        values = plan_values(folder, write_records(place / "lands.jsonl"))
        values["data"]["again"] = {**values["data"]["lands"], "title": "Lands again"}
        values["tables"]["main"] |= {"data": ["lands", "again"], "average": True, "published": "unseen"}
        values["tables"]["main"]["pairs"] = [["still", "noisy"]]
        values["tables"]["later"] = {"editors": ["noisy"], "data": ["lands"], "seeds": [7]}
        run(values, place / "run", only=["main"])
        yield values, place / "run"


@pytest.mark.slow
def test_a_report_holds_every_table_as_far_as_it_is_run(finished: Finished) -> None:
    blocks, numbers = make_report(RunFolder(finished[1]))
    main, differences, published, origin = (block for block in blocks if isinstance(block, Table))
    assert main.columns == ["Data", "Editor", "Reliability", "Locality"]
    assert len(main.rows) == 9
    assert list(main.rows[4][:2]) == ["Lands again", "still"]
    by_name = {(n["data"], n["editor"], n["measure"]): n for n in numbers if n["table"] == "main"}
    still, noisy = (by_name["all data sets", name, "locality"] for name in ("still", "noisy"))
    assert (still["mean"], still["cases"], still["seeds"]) == (pytest.approx(1.0), 12, 1)
    assert noisy["mean"] < 1.0
    assert not by_name["lands", "base", "locality"]["best"]
    lows = [by_name["lands", name, "locality"]["low"] for name in ("base", "still")]
    assert lows == [1.0, pytest.approx(0.025 ** (1 / 6))]  # by definition, and 6 of 6
    assert len(differences.rows) == 3
    assert published.foreign and not origin.foreign  # noqa: PT018
    text = write_markdown(blocks)
    assert "Finished: 6 of 6 cells." in text
    assert "## Without a number yet\n\nlater (1 to run)." in text


def test_report_writes_three_files(finished: Finished, cli: Run, tmp_path: Path) -> None:
    result = cli("report", finished[1], "--out", tmp_path / "pages")
    assert result.code == 0, result.err
    found = {path.name for path in (tmp_path / "pages").iterdir()}
    assert found == {"report.md", "report.html", "report.json", "cells.json", "plan.json"}
    assert cli("report", tmp_path).code == 3


@pytest.mark.slow
def test_a_run_whose_folder_is_gone_goes_on_from_its_report(
    finished: Finished, cli: Run, tmp_path: Path
) -> None:
    """Cells of a report and others that are run give the tables of one folder; a key is run and kept once."""
    path, cells = tmp_path / "tiny.yaml", tmp_path / "pages" / "cells.json"
    path.write_text(json.dumps(finished[0]))
    first, again = tmp_path / "first", tmp_path / "again"
    cli("experiment", path, "--out", first, "--only", "base", "--only", "still")
    assert cli("report", first, "--out", cells.parent).code == 0
    told = ("experiment", path, "--out", again, "--only", "main", "--known", cells)
    assert "No model has been read for this folder yet" in cli(*told, "--dry-run").out
    code, out, err = cli(*told, "--json")
    assert code == 0, err
    assert json.loads(out)["done"] == ["tiny/noisy/lands/right/0"]  # "again" is the same
    assert make_report(RunFolder(again))[1] == make_report(RunFolder(finished[1]))[1]
    assert cli("report", again, "--out", tmp_path / "both").code == 0
    assert len(read_known(tmp_path / "both" / "cells.json")) == 3
    assert "No model has been read" not in cli(*told, "--dry-run").out


def test_a_report_is_made_again_from_its_own_folder(finished: Finished, cli: Run, tmp_path: Path) -> None:
    assert cli("report", finished[1], "--out", tmp_path).code == 0
    pages = {path.name: path.read_text() for path in tmp_path.iterdir()}
    (tmp_path / "report.md").unlink()
    assert cli("report", tmp_path).code == 0
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == pages
    (france, *_) = json.loads(pages["cells.json"])["cells"][0]["subjects"]
    assert france == ["counterfact", 0, "france"]


@pytest.mark.slow
def test_a_reports_folder_can_be_run_on(finished: Finished, cli: Run, tmp_path: Path) -> None:
    path, pages = tmp_path / "tiny.yaml", tmp_path / "pages"
    path.write_text(json.dumps(finished[0]))
    assert cli("report", finished[1], "--out", pages).code == 0
    before = read_known(pages / "cells.json")
    code, out, err = cli("experiment", path, "--out", pages, "--json")
    assert code == 0, err
    assert json.loads(out)["done"] == ["tiny/noisy/lands/right/7"]
    assert json.loads(cli("experiment", path, "--out", pages, "--json").out)["done"] == []
    assert cli("report", pages).code == 0
    after = read_known(pages / "cells.json")
    assert len(after) == len(before) + 1
    assert before.keys() < after.keys()


def test_versions_are_those_of_the_cells(finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished[1], tmp_path / "run")
    one, other, last = sorted((tmp_path / "run").glob("cells/*/summary.json"))
    for path, told in ((one, {"torch": "1.0"}), (other, {"torch": "2.0"}), (last, {})):
        path.write_text(json.dumps({**json.loads(path.read_text()), "versions": told}))
    *_, origin = (block for block in make_report(RunFolder(tmp_path / "run"))[0] if isinstance(block, Table))
    found = {name: text for name, text in origin.rows if "ersion" in name}
    assert found == {
        "Version of torch": "1.0, 2.0",
        "Version of all that was used": "not kept by 1 of 3 cells",
    }


def test_cells_of_another_kind_are_refused_and_nothing_is_kept(
    finished: Finished, cli: Run, tmp_path: Path
) -> None:
    path, wrong = tmp_path / "tiny.yaml", tmp_path / "report.json"
    path.write_text(json.dumps(finished[0]))
    for text in ("[]", "{", '{"format": 9, "cells": []}', '{"format": 1, "cells": [{"key": "a"}]}'):
        wrong.write_text(text)
        code, _, err = cli("experiment", path, "--out", tmp_path / "run", "--known", wrong)
        assert code == 3
        assert "cannot read the cells of" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_commands_say_the_cost_run_and_exit(finished: Finished, cli: Run, tmp_path: Path) -> None:
    values, folder = deepcopy(finished[0]), tmp_path / "run"
    shutil.copytree(finished[1], folder)
    values["tables"]["main"]["editors"].append("broken")
    path = tmp_path / "tiny.yaml"
    path.write_text(json.dumps(values))
    said = cli("experiment", path, "--out", folder, "--dry-run", "--json")
    assert (said.code, json.loads(said.out)["left"]) == (0, 3)
    code, out, err = cli("experiment", path, "--out", folder, "--only", "noisy", "--json")
    assert code == 0, err
    assert json.loads(out)["done"] == ["tiny/noisy/lands/right/7"]
    assert "To do: 1 cells (2 are finished), 6 edits, about" in err
    code, _, err = cli("experiment", path, "--out", folder)
    assert code == 1
    assert "2 cells failed, first tiny/broken/lands/right/0" in err
    assert cli("report", folder).code == 0
    assert "this one is broken" in (folder / "report.md").read_text()
    assert cli("experiment", path, "--out", folder, "--limit", 2, "--seeds", 3, "--dry-run").code == 0
