"""A run's report: every table with its intervals, the paper's own figures, and where all of it comes from."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

from instructedit.evaluation.bootstrap import RESAMPLES, Estimate
from instructedit.experiment.cells import all_cells
from instructedit.experiment.figures import ABSENT, draw_table
from instructedit.experiment.measures import MEASURES, Measure, title_of
from instructedit.experiment.origin import list_facts
from instructedit.experiment.page import Block, Heading, Paragraph, Table
from instructedit.experiment.plan import parse_plan
from instructedit.experiment.published import published_table
from instructedit.experiment.results import Entry, Grid, Place, Results, make_grid
from instructedit.experiment.specs import AXES, Plan
from instructedit.experiment.store import RunFolder
from instructedit.report.curve import can_draw

NOTE = (
    "In percent unless said otherwise: the mean over cases of the mean over each case's probes, its 95 % "
    f"interval from resampled subjects ({RESAMPLES:,} times), or the exact one where all cases are 0 or all "
    "are 100 (the unedited model's Locality is 100 by definition). Several seeds: a case counts once, with "
    "its mean over the seeds; the least and the greatest seed stand in brackets, because the interval knows "
    "nothing of another training. **Bold** is the best only where its paired difference from every other "
    "editor (or what else a table compares) lies beyond its interval, one pair at a time, without a "
    "correction for many pairs; the unedited model (`base`) does not compete, but the best Mean has to lie "
    "beyond its as well. n and seeds stand where they differ from the table's usual. For an opinion, "
    "Reliability and Generalization are win rates. Mean: of Reliability, Generalization, Locality and "
    "Portability, as far as the data have them."
)


def make_report(run: RunFolder) -> tuple[list[Block], list[dict[str, Any]]]:
    """The blocks of the page, and all its numbers as plain values.

    Errors: `DataError` where the folder holds no run.
    """
    stored = run.read_plan()
    plan = parse_plan(stored["plan"])
    results = Results(run, stored["keys"])
    stored = {**stored, "versions": results.versions()}  # of the cells, whatever the last start had
    blocks: list[Block] = [Heading(f"Experiment: {plan.name}", 1), Paragraph(NOTE)]
    drawn = can_draw()
    if not drawn and any(table.figure for table in plan.tables.values()):
        blocks.append(Paragraph(ABSENT))
    numbers: list[dict[str, Any]] = []
    waiting: list[str] = []
    for name, table in plan.tables.items():
        grid = make_grid(plan, table, results)
        if not grid.entries:
            waiting.append(f"{grid.table.title or name} ({grid.cells} to run)")
            continue
        blocks += _table_blocks(plan, name, grid)
        blocks += draw_table(plan, stored, name, grid) if table.figure and drawn else ()
        numbers += [{"table": name, **number} for number in _numbers(grid)]
    if waiting:
        blocks += [Heading("Without a number yet"), Paragraph("; ".join(waiting) + ".")]
    return [*blocks, *_failures(plan, run, stored["keys"]), *_origin(plan, stored)], numbers


def _table_blocks(plan: Plan, name: str, grid: Grid) -> Iterator[Block]:
    yield Heading(grid.table.title or name)
    usual = _usual(grid)
    yield Paragraph(" ".join(filter(None, (grid.table.note, _caption(grid, usual)))))
    if grid.entries:
        yield layout(plan, grid, {place: _show(place, e, usual) for place, e in grid.entries.items()})
    for (first, second), found in grid.differences.items():
        if found:
            texts = {place: show_difference(place, difference) for place, difference in found.items()}
            yield Paragraph(f"{first} minus {second}, case by case, in points; **bold** beyond the interval:")
            yield layout(plan, grid, texts)
    for published in grid.table.published:
        yield published_table(published)


def _usual(grid: Grid) -> tuple[int, int]:
    """The most common number of cases and seeds."""
    counts = Counter((entry.estimate.cases, entry.seeds) for entry in grid.entries.values())
    return counts.most_common(1)[0][0] if counts else (0, 0)


def _caption(grid: Grid, usual: tuple[int, int]) -> str:
    fixed = [f"{axis} {grid.names(axis)[0]}" for axis in AXES if len(grid.names(axis)) == 1]
    text = f"Finished: {grid.finished} of {grid.cells} cells."
    text += " Bold is best of those that are." if grid.finished < grid.cells else ""
    seeds = "1 seed" if usual[1] == 1 else f"{usual[1]} seeds"
    return f"{text} n = {usual[0]}, {seeds}" + (f"; {', '.join(fixed)}." if fixed else ".")


def layout(plan: Plan, grid: Grid, texts: dict[Place, str]) -> Table:
    """Texts by place as a table: axes that are no columns stand in rows, those of one name are left out."""
    across = [axis for axis in AXES if axis in grid.table.columns]
    down = [axis for axis in AXES if axis not in across]
    shown = [axis for axis in down if len(grid.names(axis)) > 1] or down[-1:]
    heads = list(product(*(grid.names(axis) for axis in across)))
    rows = []
    for row in product(*(grid.names(axis) for axis in down)):
        at = dict(zip(down, row, strict=True))
        places = [Place(**at, **dict(zip(across, head, strict=True))) for head in heads]
        if any(place in texts for place in places):
            labels = [title_of(plan, axis, at[axis]) for axis in shown]
            rows.append([*labels, *(texts.get(place, "–") for place in places)])
    columns = [
        ", ".join(title_of(plan, axis, name) for axis, name in zip(across, head, strict=True))
        for head in heads
    ]
    return Table([*(axis.capitalize() for axis in shown), *columns], rows)


def _show(place: Place, entry: Entry, usual: tuple[int, int]) -> str:
    measure = MEASURES[place.measure]
    number = _number(measure, entry.estimate.mean)
    text = f"**{number}**" if entry.best else number
    text += _interval(measure, entry.estimate)
    if entry.spread:
        text += f" ({' to '.join(_number(measure, end) for end in entry.spread)})"
    text += f", n {entry.estimate.cases}" if entry.estimate.cases != usual[0] else ""
    return text + (f", seeds {entry.seeds}" if entry.seeds != usual[1] else "")


def show_difference(place: Place, found: Estimate) -> str:
    """A difference with its sign and interval, bold where the interval does not hold zero."""
    measure = MEASURES[place.measure]
    text = f"{_number(measure, found.mean, '+')}"
    beyond = found.low is not None and found.high is not None and not found.low <= 0 <= found.high
    return (f"**{text}**" if beyond else text) + _interval(measure, found, "+")


def _interval(measure: Measure, found: Estimate, sign: str = "") -> str:
    if found.low is None or found.high is None:
        return ""
    return f" [{_number(measure, found.low, sign)}, {_number(measure, found.high, sign)}]"


def _number(measure: Measure, value: float, sign: str = "") -> str:
    return f"{value if measure.plain else 100 * value:{sign}.1f}"


def _numbers(grid: Grid) -> Iterator[dict[str, Any]]:
    for place, entry in grid.entries.items():
        names = {axis: getattr(place, axis) for axis in AXES}
        rest = {"seeds": entry.seeds, "spread": entry.spread, "best": entry.best}
        yield {**names, **entry.estimate.as_dict(), **rest}
    for (first, second), found in grid.differences.items():
        for place, difference in found.items():
            named = replace(place, **{grid.table.compare: f"{first} minus {second}"})
            yield {**{axis: getattr(named, axis) for axis in AXES}, **difference.as_dict()}


def _failures(plan: Plan, run: RunFolder, keys: dict[str, str]) -> list[Block]:
    """Cells that were tried and could not be run."""
    rows = []
    for cell in all_cells(plan):
        failure = run.failure(keys[str(cell)]) if str(cell) in keys else None
        if failure is not None and not run.is_finished(keys[str(cell)]):
            rows.append([str(cell), failure["error"], failure["message"]])
    return [Heading("Cells that failed"), Table(["Cell", "Error", "Message"], rows)] if rows else []


def _origin(plan: Plan, stored: dict[str, Any]) -> list[Block]:
    """The command, models, seeds and versions that the numbers come from."""
    facts = list_facts(plan, stored)
    return [Heading("Where it comes from"), Table(["What", "Value"], [[k, v] for k, v in facts.items()])]
