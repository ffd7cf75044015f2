"""Running what is left of a plan: each cell is claimed, asked and kept; a failure is noted and not fatal."""

import platform
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from time import perf_counter
from typing import Any, cast

from instructedit.backbone import Backbone, PrefixCache
from instructedit.errors import one_line
from instructedit.evaluation import evaluate, measure_leverage
from instructedit.evaluation.rows import Row
from instructedit.experiment.cells import Cell, Keys, digest, editor_spec
from instructedit.experiment.making import BusyError, Training, load_editor, training_config
from instructedit.experiment.sources import reword
from instructedit.experiment.specs import EditorSpec, Plan, Values
from instructedit.experiment.store import RunFolder
from instructedit.instructions.banks import Split
from instructedit.types import EditCase

PACKAGES = ("instructedit", "torch", "transformers")
Say = Callable[[str], None]


@dataclass
class Outcome:
    """What became of the cells: run by this process, failed, or left to others that are at work on them."""

    done: list[Cell] = field(default_factory=list)
    failed: list[Cell] = field(default_factory=list)
    busy: list[Cell] = field(default_factory=list)


class Workshop:
    """Editors with their backbones; the last one is kept, for cells of one editor follow one another."""

    def __init__(self, plan: Plan, keys: Keys, run: RunFolder, options: Values) -> None:
        self.plan, self.keys, self.run, self.options = plan, keys, run, options
        self._last: tuple[Any, Backbone, Any, PrefixCache | None] | None = None

    def model_options(self, cell: Cell) -> Values:
        """What `load_backbone` is told: the plan's options for the model, and the device."""
        return {**self.plan.models[cell.model], **self.options}

    def editor(self, cell: Cell) -> tuple[Backbone, Any, PrefixCache | None]:
        """The cell's editor, trained first where it has to be, with its backbone and prefix cache.

        Errors: `BusyError` when another process is training it; as `load_editor` and `Training.finish`.
        """
        wanted = (cell.model, cell.editor, self.keys.editor(cell.editor, cell.seed))
        if self._last is None or self._last[0] != wanted:
            self._last = None  # its memory is needed
            spec, options = editor_spec(self.plan, cell.editor), self.model_options(cell)
            if (training := self.training(cell)) is not None:
                spec = EditorSpec(file=str(training.finish(self.run.claims)), edit=spec.edit)
            backbone, editor = load_editor(spec, options)
            cache = PrefixCache(self.run.cache, backbone) if self.plan.cache else None
            self._last = (wanted, backbone, editor, cache)
        return self._last[1:]

    def training(self, cell: Cell) -> Training | None:
        """The training that a cell's editor comes from, or None."""
        spec = editor_spec(self.plan, cell.editor)
        if not spec.is_trained_here:
            return None
        config = self.keys.config(cell)
        editor = {name: value for name, value in config["editor"].items() if name != "edit"}  # no part in it
        decides = {"package": config["package"], "model": config["model"], "editor": editor}
        folder = self.run.training(digest(decides))
        records = self.keys.sources.training(spec.data)
        settings = training_config(spec, self.plan, cell.seed)
        return Training(settings, records, self.model_options(cell), folder, self.run.cache)

    def ask(self, cell: Cell, cases: Sequence[EditCase]) -> tuple[list[Row], Values]:
        """Evaluate a cell's editor on cases: its rows, and its summary under ``tasks`` and ``leverage``.

        Wordings and replies are drawn by the plan's seed, so that cells pair; a cell's own is its training's.
        """
        backbone, editor, cache = self.editor(cell)
        condition = self.plan.conditions[cell.condition]
        if condition.wordings:
            cases = reword(cases, self.plan.wordings[condition.wordings], self.plan.sample)
        split = cast(Split, condition.split)
        options: Values = {"split": split, "batch": self.plan.batch, "seed": self.plan.sample, "cache": cache}
        if condition.leverage:
            lever = measure_leverage(backbone, editor, cases, **options)
            return lever.rows, {"tasks": {}, "leverage": lever.summary}
        asked: Values = {name: getattr(condition, name) for name in ("control", "instructed", "together")}
        result = evaluate(backbone, editor, cases, fluency=condition.fluency, **asked, **options)
        return result.rows, {"tasks": result.summary}


def run_cells(workshop: Workshop, cells: Sequence[tuple[Cell, str]], say: Say = print) -> Outcome:
    """Run the cells that are not finished and that nobody else is at, one after the other.

    What others are at is looked at again at the end, in case they died. An error in one cell is written down
    and the next is run.
    """
    outcome, left = Outcome(), list(cells)
    while left:
        busy = [pair for pair in left if not _run_cell(workshop, *pair, outcome, say)]
        if len(busy) == len(left):
            break
        left = busy
    outcome.busy = [cell for cell, _ in left]
    return outcome


def _run_cell(workshop: Workshop, cell: Cell, key: str, outcome: Outcome, say: Say) -> bool:
    """Run one cell, unless it is finished; False where another process is at it or at its editor."""
    run = workshop.run
    with run.claims.hold(key[:24]) as held:
        if run.is_finished(key):
            return True
        if not held:
            return False
        try:
            seconds = _make(workshop, cell, key)
        except BusyError:
            return False
        except Exception as error:
            run.fail(cell, key, error)
            outcome.failed.append(cell)
            say(f"{cell}: failed, {type(error).__name__}: {one_line(error)}")
        else:
            outcome.done.append(cell)
            say(f"{cell}: {seconds:.0f} s")
    return True


def _make(workshop: Workshop, cell: Cell, key: str) -> float:
    workshop.editor(cell)  # loading and training are no part of the time of edits
    cases = workshop.keys.sources.data(cell.data, workshop.plan.conditions[cell.condition]).cases
    start = perf_counter()
    rows, summary = workshop.ask(cell, cases)
    seconds = perf_counter() - start
    facts = {"seconds": seconds, "edits": len(cases), "host": socket.gethostname(), "versions": versions()}
    config = workshop.keys.config(cell)
    workshop.run.keep(cell, key, config, {**facts, **summary}, rows)
    return seconds


def versions() -> dict[str, str]:
    """The versions that results depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
