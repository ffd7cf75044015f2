"""The numbers of a curve as a person reads them: rows of a table, plain records, and one picture."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from instructedit.extras import list_missing

Point = Mapping[str, Any]
Curves = Mapping[str, Sequence[Point]]  # by editor, in the order of the edits
MEGABYTE = 1e6
COLUMNS = (
    "editor",
    "edits",
    "Reliability",
    "Generalization",
    "Locality",
    "perplexity ×",
    "s an edit",
    "s lately",
    "rank",
    "MB",
)


@dataclass(frozen=True)
class Line:
    """One measure of a point: its value times `scale`, with an interval where it has one."""

    name: str
    title: str
    find: Callable[[Point], Any]
    scale: float = 1.0

    def read(self, point: Point) -> dict[str, Any] | None:
        """`value`, `low`, `high` and `base` in the line's units, and `cases`; None without a value."""
        found = self.find(point)
        whole = found if isinstance(found, Mapping) else {"edited": {"mean": found}}
        edited = whole.get("edited", {})
        if edited.get("mean") is None:
            return None
        values = {"value": edited["mean"], "low": edited.get("low"), "high": edited.get("high")}
        values["base"] = whole.get("base", {}).get("mean")
        scaled = {name: None if x is None else self.scale * x for name, x in values.items()}
        return {**scaled, "cases": edited.get("cases")}


LINES = (
    Line("reliability", "Reliability over all edits, %", lambda point: point.get("reliability"), 100.0),
    Line("generalization", "Generalization, %", lambda point: point.get("generalization"), 100.0),
    Line("locality", "Locality, unchanged tokens, %", lambda point: point.get("locality"), 100.0),
    Line(
        "perplexity",
        "Perplexity of ordinary text, × unedited",
        lambda point: point.get("perplexity", {}).get("ratio"),
    ),
    Line("seconds_per_edit", "Seconds an edit, so far", lambda point: point.get("seconds_per_edit")),
    Line(
        "recent_seconds_per_edit",
        "Seconds an edit, since the point before",
        lambda point: point.get("recent_seconds_per_edit"),
    ),
    Line("rank", "Rank of the sum of edits", lambda point: point.get("rank")),
    Line("megabytes", "State, MB", lambda point: point.get("bytes"), 1 / MEGABYTE),
)


def list_numbers(curves: Curves) -> list[dict[str, Any]]:
    """One record a measured number: editor, edits, measure, value, low, high, base, cases."""
    return [
        {"editor": editor, "edits": point["edits"], "measure": line.name, **found}
        for editor, points in curves.items()
        for point in points
        for line in LINES
        if (found := line.read(point)) is not None
    ]


def table_rows(curves: Curves) -> list[tuple[object, ...]]:
    """The cells under `COLUMNS`; shares in percent with their intervals, a dash where there is no number."""
    return [
        (editor, point["edits"], *(_cell(line, point) for line in LINES))
        for editor, points in curves.items()
        for point in points
    ]


def _cell(line: Line, point: Point) -> object:
    found = line.read(point)
    if found is None:
        return "–"
    if line.name in ("reliability", "generalization", "locality"):
        return _share(found)
    return found["value"] if line.name == "rank" else f"{found['value']:.3g}"


def _share(found: Mapping[str, Any]) -> str:
    text = f"{found['value']:.1f}"
    return text if found["low"] is None else f"{text} ({found['low']:.1f}–{found['high']:.1f})"


def list_remarks(curves: Curves) -> Iterator[str]:
    """What has to be said beside the numbers: samples, edits that cannot hold, models that broke."""
    points = [point for each in curves.values() for point in each]
    sampled = sorted({(p["edits"], p["probed"]) for p in points if p.get("probed", p["edits"]) < p["edits"]})
    if sampled:
        told = ", ".join(f"{probed} of {edits}" for edits, probed in sampled)
        yield f"Generalization and Locality are of a drawn sample of the edits ({told}); Reliability of all."
    clashes = max((point.get("contradicted", 0) for point in points), default=0)
    if clashes:
        yield f"{clashes} of the edits are contradicted by a later one and cannot hold."
    for editor, each in curves.items():
        broken = [point["broken_after"] for point in each if "broken_after" in point]
        if broken:
            yield f"{editor} broke the model after {min(broken)} edits: it gives no numbers any more."


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return "matplotlib" not in list_missing("plot")


def draw_curves(curves: Curves) -> bytes:
    """All measures over the number of edits, the editors side by side, as the bytes of an SVG without a date.

    A band is a 95 % interval, a dotted line the unedited model's perplexity.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    from instructedit.analysis.pictures import STYLE, choose_look

    with rc_context(STYLE):
        figure = Figure(figsize=(13.0, 6.0), layout="constrained")
        FigureCanvasSVG(figure)
        for axes, line in zip(figure.subplots(2, len(LINES) // 2).flat, LINES, strict=True):
            for number, (editor, points) in enumerate(curves.items()):
                colour, marker = choose_look(number)
                _draw(axes, line, editor, points, {"color": colour, "marker": marker})
            _dress(axes, line, sorted({point["edits"] for points in curves.values() for point in points}))
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(6, len(labels)), frameon=False)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _draw(axes: Any, line: Line, editor: str, points: Sequence[Point], look: dict[str, str]) -> None:
    found = [(point["edits"], values) for point in points if (values := line.read(point)) is not None]
    axes.plot([x for x, _ in found], [y["value"] for _, y in found], label=editor, markersize=4, **look)
    banded = [(x, y["low"], y["high"]) for x, y in found if y["low"] is not None]
    if banded:
        x, low, high = zip(*banded, strict=True)
        axes.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)


def _dress(axes: Any, line: Line, edits: Sequence[int]) -> None:
    """Edits by their powers of ten, shares on one scale, and where the unedited model stands."""
    axes.set(title=line.title, xlabel="edits", xscale="log")
    axes.set_xticks(edits, [f"{count:,}" for count in edits])
    axes.minorticks_off()
    axes.grid(alpha=0.3, linewidth=0.5)
    if line.scale == 100.0:
        axes.set_ylim(-2.0, 102.0)
    elif line.name == "perplexity":
        axes.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
        axes.set_yscale("log" if axes.get_ylim()[1] > 10 else "linear")
    else:
        axes.set_ylim(bottom=0.0)
