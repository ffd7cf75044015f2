"""Figures of a run: bars of a table's numbers, embedded in the page, or a sentence in their place."""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cli_run import Run
from experiment_plans import plan_values, register, run, write_records
from instructedit.evaluation.bootstrap import Estimate
from instructedit.experiment import report
from instructedit.experiment.figures import choose_bars, draw_table, make_figure
from instructedit.experiment.page import Heading, Paragraph, Picture, write_html, write_markdown
from instructedit.experiment.plan import parse_plan
from instructedit.experiment.results import Entry, Grid, Place
from instructedit.experiment.specs import TableSpec

SVG = '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg width="1"><text>a &lt; b</text></svg>\n'
MEASURES = ("reliability", "locality")


def make_grid(editors: tuple[str, ...], data: tuple[str, ...], **changes: object) -> Grid:
    """Editor i has i/10 on the first data set, 0.05 around it; the others have the first editor only."""
    table = TableSpec(editors=editors, data=data, measures=MEASURES, **{"figure": MEASURES, **changes})  # type: ignore
    entries = {}
    for place, name in enumerate(editors):
        for measure in MEASURES:
            mean = place / 10
            found = Entry(Estimate(mean, mean - 0.05, mean + 0.05, 9, 9, mean), 1)
            entries[Place("tiny", data[0], name, "right", measure)] = found
    for other in data[1:]:
        only = Entry(Estimate(0.7, None, None, 1, 1, 0.7), 1)
        entries[Place("tiny", other, editors[0], "right", "locality")] = only
    axes = {
        "model": ("tiny",),
        "data": data,
        "editor": editors,
        "condition": ("right",),
        "measure": MEASURES,
    }
    return Grid(table, axes, entries, {}, 1, 1)


def plan_of(folder: Path, tmp_path: Path):
    return parse_plan(plan_values(folder, tmp_path / "lands.jsonl"))


@pytest.mark.slow
def test_bars_are_the_numbers_and_lines_their_intervals(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch)
    grid = make_grid(("base", "still", "noisy"), ("lands", "seas"))
    bars = choose_bars(grid)
    assert bars is not None
    assert (bars.across, bars.coloured) == ("editor", "measure")
    upper, lower = make_figure(plan_of(folder, tmp_path), bars).axes
    first, second = upper.containers[1], upper.containers[3]  # each colour has its bars and its lines
    assert [bar.get_height() for bar in first] == pytest.approx([0.0, 10.0, 20.0])
    assert [bar.get_height() for bar in second] == pytest.approx([0.0, 10.0, 20.0])
    (lines,) = first.errorbar.lines[2]
    assert [tuple(line[:, 1]) for line in lines.get_segments()] == [
        pytest.approx((mean - 5, mean + 5)) for mean in (0, 10, 20)
    ]
    assert [bar.get_height() for part in lower.containers if len(part) == 1 for bar in part] == [70.0]
    assert [axes.get_title(loc="left") for axes in (upper, lower)] == ["lands", "seas"]


def test_the_shorter_of_measures_and_rivals_is_told_by_colour() -> None:
    few = choose_bars(make_grid(("still",), ("lands",)))
    many = choose_bars(make_grid(tuple("abcd"), ("lands",)))
    assert few is not None
    assert many is not None
    assert (few.across, few.coloured) == ("measure", "editor")
    assert (many.across, many.coloured) == ("editor", "measure")
    assert choose_bars(make_grid(("still",), ("lands",), figure=())) is None


def test_a_caption_counts_the_cases_of_what_is_drawn(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch)
    grid = make_grid(("base", "still"), ("lands", "seas"), figure=("reliability",))  # seas: locality of one
    (picture,) = draw_table(plan_of(folder, tmp_path), {}, "main", grid)
    assert "means over 9 cases" in picture.caption


def test_a_page_holds_its_pictures_and_markdown_names_their_files() -> None:
    blocks = [Heading("Report", 1), Picture("main", SVG, "a < b, `x`"), Paragraph("end")]
    page, text = write_html(blocks), write_markdown(blocks)
    assert ' width="1"><text>a &lt; b</text></svg>\n<figcaption>' in page
    assert "<figcaption>a &lt; b" in page
    assert "<?xml" not in page
    assert page.index("<h1>") < page.index("<svg") < page.index("<p>end</p>")
    assert "![main](figures/main.svg)\n\na < b, `x`" in text


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run with a figure, one of a table without a number, and a table that wants none."""
    place = tmp_path_factory.mktemp("figures")
    with pytest.MonkeyPatch.context() as patch:
        register(patch)
        values = plan_values(folder, write_records(place / "lands.jsonl"))
        values["tables"]["main"]["figure"] = "locality"
        values["tables"]["main"]["title"] = "Costs $1 & $2"
        values["tables"]["later"] = {**values["tables"]["main"], "data": ["lands"], "conditions": ["none"]}
        values["conditions"] = {"right": {}, "none": {"control": "none"}}
        values["tables"]["bare"] = {"editors": ["still"], "data": ["lands"]}
        run(values, place / "run", only=["main"])
        yield place / "run"


@pytest.mark.slow
def test_a_report_draws_what_is_finished_and_says_where_it_comes_from(
    finished: Path, cli: Run, tmp_path: Path
) -> None:
    result = cli("report", finished, "--out", tmp_path)
    assert result.code == 0, result.err
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["main.svg"]
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == page.count("<figure>") == 1
    (caption,) = re.findall(r"<figcaption>(.*?)</figcaption>", page, re.S)
    for word in (
        "Costs $1 &amp; $2",
        "Last command: ",
        "Seeds: 0",
        "weights ",
        "torch",
        "matplotlib",
        "Plan tiny",
    ):
        assert word in caption
    ElementTree.fromstring((tmp_path / "figures" / "main.svg").read_text())
    again = tmp_path / "again"
    cli("report", finished, "--out", again)
    files = [place / "figures" / "main.svg" for place in (tmp_path, again)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_without_matplotlib_a_sentence_stands_in_the_figures_place(
    finished: Path, cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "can_draw", lambda: False)
    assert cli("report", finished, "--out", tmp_path).code == 0
    page = (tmp_path / "report.html").read_text()
    assert "<svg" not in page
    assert "matplotlib is not installed here" in page
    assert not (tmp_path / "figures").exists()
