"""Figures of a run: a table as grouped bars with their intervals, and where they come from beneath."""

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from typing import Any

from instructedit.analysis.pictures import COLOURS, STYLE
from instructedit.experiment.measures import title_of
from instructedit.experiment.origin import list_facts
from instructedit.experiment.page import Picture
from instructedit.experiment.results import Entry, Grid, Place
from instructedit.experiment.specs import AXES, Plan
from instructedit.extras import install_with

HATCHES = ("", "//", "..", "xx")  # one for each round through the colours
BAR, GAP = 0.12, 0.45  # inches: a bar, and the space around a group of them
ABSENT = (
    f"The figures are left out: matplotlib is not installed here. {install_with('plot')}, and write the "
    "report again."
)
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True)
class Bars:
    """What is drawn of a table: groups of bars along `across`, told apart by colour along `coloured`.

    Each of `panels` holds the names on the other axes.
    """

    grid: Grid
    across: str
    coloured: str
    panels: tuple[dict[str, str], ...]
    names: dict[str, tuple[str, ...]]

    def entry(self, panel: dict[str, str], group: str, bar: str) -> Entry | None:
        """The number that a bar stands for, if there is one."""
        return self.grid.entries.get(Place(**panel, **{self.across: group, self.coloured: bar}))


def choose_bars(grid: Grid) -> Bars | None:
    """How a table is drawn: of measures and rivals the fewer are told by colour; None without a number."""
    compared = grid.table.compare if grid.table.compare != "measure" else "editor"
    drawn = {place for place in grid.entries if place.measure in grid.table.figure}
    if not drawn:
        return None
    names = {axis: tuple(n for n in grid.names(axis) if _has(drawn, axis, n)) for axis in AXES}
    across, coloured = sorted((compared, "measure"), key=lambda axis: -len(names[axis]))
    others = [axis for axis in AXES if axis not in (across, coloured)]
    panels = (dict(zip(others, each, strict=True)) for each in product(*(names[axis] for axis in others)))
    found = tuple(panel for panel in panels if any(_is_in(place, panel) for place in drawn))
    return Bars(grid, across, coloured, found, names)


def _has(places: set[Place], axis: str, name: str) -> bool:
    return any(getattr(place, axis) == name for place in places)


def _is_in(place: Place, panel: dict[str, str]) -> bool:
    return all(getattr(place, axis) == name for axis, name in panel.items())


def make_figure(plan: Plan, bars: Bars) -> Any:
    """The bars as a figure of matplotlib, one panel above the other, all with the same axes."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    groups, kinds = bars.names[bars.across], bars.names[bars.coloured]
    width = max(6.0, 1.2 + len(groups) * (BAR * len(kinds) + GAP))
    figure = Figure(figsize=(width, 1.2 + 1.9 * len(bars.panels)), layout="constrained")
    FigureCanvasSVG(figure)
    grid = figure.subplots(len(bars.panels), 1, squeeze=False, sharex=True, sharey=True)
    for axes, panel in zip(grid.flat, bars.panels, strict=True):
        for number, kind in enumerate(kinds):
            _draw_kind(axes, bars, panel, kind, number)
        told = [_title(plan, axis, name) for axis, name in panel.items() if len(bars.names[axis]) > 1]
        axes.set_title(", ".join(told), loc="left")
        axes.set_xticks(range(len(groups)), [_title(plan, bars.across, name) for name in groups])
        axes.tick_params(axis="x", labelrotation=30 if len(groups) > 5 else 0)
        axes.set_ylabel("%")
        axes.grid(axis="y", linewidth=0.3)
    handles = [Patch(label=_title(plan, bars.coloured, kind), **_look(i)) for i, kind in enumerate(kinds)]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(4, len(kinds)), frameon=False)
    return figure


def _look(number: int) -> dict[str, Any]:
    turn, colour = divmod(number, len(COLOURS))
    return {"facecolor": COLOURS[colour], "hatch": HATCHES[turn % len(HATCHES)]}


def _draw_kind(axes: Any, bars: Bars, panel: dict[str, str], kind: str, number: int) -> None:
    """The bars of one colour; a place without a number has none."""
    kinds = len(bars.names[bars.coloured])
    size = 0.8 / kinds
    found = [(i, bars.entry(panel, group, kind)) for i, group in enumerate(bars.names[bars.across])]
    here = [
        (i + (number - (kinds - 1) / 2) * size, entry.estimate) for i, entry in found if entry is not None
    ]
    places, means = [x for x, _ in here], [100 * one.mean for _, one in here]
    low = [0.0 if one.low is None else max(0.0, 100 * (one.mean - one.low)) for _, one in here]
    high = [0.0 if one.high is None else max(0.0, 100 * (one.high - one.mean)) for _, one in here]
    if here:
        axes.bar(places, means, size, yerr=[low, high], error_kw={"linewidth": 0.8}, **_look(number))


def _title(plan: Plan, axis: str, name: str) -> str:
    """A name as a person reads it; a dollar sign opens no formula."""
    return title_of(plan, axis, name).replace("$", r"\$")


def draw_table(plan: Plan, stored: dict[str, Any], name: str, grid: Grid) -> Iterator[Picture]:
    """The picture of a table, or none where it has no number to draw. Needs matplotlib."""
    from matplotlib import rc_context

    bars = choose_bars(grid)
    if bars is None:
        return
    file = io.StringIO()
    with rc_context({**STYLE, "hatch.linewidth": 0.4}):
        make_figure(plan, bars).savefig(file, format="svg", metadata=NO_METADATA)
    title = grid.table.title or name
    yield Picture(re.sub(r"[^\w-]+", "-", name), file.getvalue(), _caption(plan, stored, title, bars))


def _caption(plan: Plan, stored: dict[str, Any], title: str, bars: Bars) -> str:
    """What is to be seen, then command, configuration, seeds and versions."""
    facts = list_facts(plan, stored) | {"Version of matplotlib": version("matplotlib")}
    seeds: Sequence[int] = bars.grid.table.seeds or plan.seeds
    facts["Seeds"] = ", ".join(map(str, seeds))
    told = "; ".join(f"{name}: {text.strip('`')}" for name, text in facts.items())
    drawn = {place: e for place, e in bars.grid.entries.items() if place.measure in bars.grid.table.figure}
    cases = sorted({entry.estimate.cases for entry in drawn.values()})
    counts = str(cases[0]) if len(cases) == 1 else f"{cases[0]} to {cases[-1]}"
    return (
        f"{title}: means over {counts} cases, lines are 95 % intervals over cases. Plan {plan.name}. {told}."
    )
