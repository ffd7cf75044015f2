"""What is left of a plan and how long it will take, from what finished cells took or from one case tried."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, inf
from statistics import median
from time import perf_counter
from typing import Any

from instructedit.experiment.cells import Cell, digest
from instructedit.experiment.running import Workshop

Times = dict[tuple[str, ...], list[float]]
SLOW = 20.0  # seconds of a case that is tried


@dataclass(frozen=True)
class Cost:
    """What one editor has left: cells, edits, training steps; `seconds` is None where part is unknown."""

    model: str
    editor: str
    cells: int
    edits: int
    steps: int
    seconds: float | None

    def as_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def estimate_costs(
    workshop: Workshop, cells: Sequence[tuple[Cell, str]], *, probe: bool = False
) -> list[Cost]:
    """The cost of each editor's unfinished cells, in the order in which they are run.

    An edit is taken to cost what it did in finished cells of the editor under the condition, on the same data
    if there are any; with `probe` an editor without such a cell is tried on one case (on one alone, so it is
    rather too much). A training step costs what steps of the run's finished trainings did.
    """
    times, steps = _times(workshop), _step_seconds(workshop)
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell, _ in cells:
        groups.setdefault((cell.model, cell.editor), []).append(cell)
    return [_cost(workshop, group, times, steps, probe) for group in groups.values()]


def _cost(workshop: Workshop, cells: list[Cell], times: Times, step: float | None, probe: bool) -> Cost:
    edits = [_edits(workshop, cell) for cell in cells]
    rates = [_rate(workshop, cell, times, probe) for cell in cells]
    left = {t.folder: t for cell in cells if (t := workshop.training(cell)) is not None and not t.is_done}
    steps = sum(training.config.steps for training in left.values())
    parts = [None if rate is None else rate * n for rate, n in zip(rates, edits, strict=True)]
    parts += [None if step is None else step * steps] if steps else []
    known = [part for part in parts if part is not None]
    seconds = fsum(known) if len(known) == len(parts) else None
    return Cost(cells[0].model, cells[0].editor, len(cells), sum(edits), steps, seconds)


def _edits(workshop: Workshop, cell: Cell) -> int:
    """The cases of a cell; one that measures leverage edits each of them several times."""
    condition = workshop.plan.conditions[cell.condition]
    return len(workshop.keys.sources.data(cell.data, condition).cases)


def _times(workshop: Workshop) -> Times:
    """Seconds of one case in finished cells: by model, editor and condition, and by their data as well."""
    times: Times = {}
    for summary in workshop.run.summaries():
        model, editor, data, condition, _ = summary["cell"].rsplit("/", 4)
        for name in ((model, editor, condition), (model, editor, condition, data)):
            times.setdefault(name, []).append(summary["seconds"] / max(1, summary["edits"]))
    return times


def _step_seconds(workshop: Workshop) -> float | None:
    taken = [t["seconds"] / t["steps"] for t in workshop.run.trainings() if t["steps"]]
    return median(taken) if taken else None


def _rate(workshop: Workshop, cell: Cell, times: Times, probe: bool) -> float | None:
    for name in (
        (cell.model, cell.editor, cell.condition, cell.data),
        (cell.model, cell.editor, cell.condition),
    ):
        if name in times:
            return median(times[name])
    config = workshop.keys.config(cell)
    place = digest([config["model"], config["editor"], config["condition"], cell.data])
    known = workshop.run.probe(place)
    if known is None and probe and _can_probe(workshop, cell):
        known = _probe(workshop, cell, place)
    if known is not None:  # the editor's other data are taken to be alike
        times[cell.model, cell.editor, cell.condition] = [known]
    return known


def _can_probe(workshop: Workshop, cell: Cell) -> bool:
    training = workshop.training(cell)
    return training is None or training.is_done


def _probe(workshop: Workshop, cell: Cell, place: str) -> float | None:
    """The seconds of one case; None where the editor cannot do it, which the run will say in full.

    A slow one is tried again: the first may have made what all others share, such as a covariance.
    """
    condition = workshop.plan.conditions[cell.condition]
    case = workshop.keys.sources.data(cell.data, condition).cases[:1]
    seconds = inf
    try:
        workshop.editor(cell)
        for _ in range(2):
            start = perf_counter()
            workshop.ask(cell, case)
            seconds = min(seconds, perf_counter() - start)
            if seconds < SLOW:
                break
    except Exception:
        return None
    workshop.run.keep_probe(place, seconds)
    return seconds


def format_costs(costs: Sequence[Cost], finished: int) -> str:
    """The cost in one sentence for each editor, and in all."""
    lines = [
        f"{cost.model}/{cost.editor}: {cost.cells} cells, {cost.edits} edits"
        + (f", {cost.steps} training steps" if cost.steps else "")
        + f", {_duration(cost.seconds)}"
        for cost in costs
    ]
    cells, edits = sum(cost.cells for cost in costs), sum(cost.edits for cost in costs)
    lines.append(f"To do: {cells} cells ({finished} are finished), {edits} edits, {_sum(costs)}.")
    return "\n".join(lines)


def _sum(costs: Sequence[Cost]) -> str:
    known = [cost.seconds for cost in costs if cost.seconds is not None]
    unknown = len(costs) - len(known)
    if not unknown:
        return _duration(fsum(known))
    beside = f"{_duration(fsum(known))} and " if known else ""
    return f"{beside}{unknown} editors that no time is known of yet"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "time unknown"
    return f"about {seconds:.0f} s" if seconds < 120 else f"about {seconds / 60:.0f} min"
