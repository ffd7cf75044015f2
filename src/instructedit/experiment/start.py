"""Opening a plan on a folder: models looked at, cells keyed and chosen, the plan kept for the report."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from instructedit.backbone.loading import load_backbone
from instructedit.errors import DataError, InstructEditError, ModelError, UnknownNameError
from instructedit.experiment.cells import Cell, Keys, all_cells, choose_cells
from instructedit.experiment.plan import parse_plan
from instructedit.experiment.running import Workshop
from instructedit.experiment.sources import Finder, Sources
from instructedit.experiment.specs import Plan, Values
from instructedit.experiment.store import RunFolder, unfinished


@dataclass(frozen=True)
class Session:
    """A plan opened on a folder: the chosen cells with their keys, and the workshop that makes editors.

    `missing` says why a model of the plan could not be loaded: its cells are not among the chosen.
    """

    plan: Plan
    workshop: Workshop
    chosen: list[tuple[Cell, str]]
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def left(self) -> list[tuple[Cell, str]]:
        """The chosen cells that are not finished."""
        return unfinished(self.workshop.run, self.chosen)


def open_session(
    values: Values,
    folder: Path,
    finder: Finder,
    *,
    only: Sequence[str] = (),
    known: Sequence[Path] = (),
    options: Values | None = None,
    command: str = "",
    dry_run: bool = False,
) -> Session:
    """Check a plan, read its records, key its cells and choose those that `only` names.

    Models are loaded to learn their checksums and the plan is written into `folder`; with `dry_run` neither
    is done and the checksums of the run's last start are believed. The cells of a model that cannot be loaded
    are left out, unless none can. Cells of the files `known` count as finished. `options` go to
    `load_backbone` and are in no key. Errors: as `parse_plan`, `Sources.data`, `read_known` and
    `load_backbone`; `DataError` for a plan without a cell; `UnknownNameError` where `only` names nothing.
    """
    plan, run = parse_plan(values), RunFolder(folder)
    if not all_cells(plan):
        raise DataError(
            f"the plan {plan.name} has no cell. Expected a table with at least one editor, data set and "
            "seed; see docs/experiments.md."
        )
    chosen = choose_cells(plan, only)
    if not chosen:
        raise UnknownNameError(
            f"no cell is named {', '.join(only)}. Expected a table ({', '.join(plan.tables)}), or a pattern "
            f"such as {all_cells(plan)[0]} with * for any name."
        )
    for file in (*run.reported(), *known):
        run.learn(file, keep=not dry_run)
    checksums, missing = run.checksums(), {}
    if not dry_run:
        read, missing = _read_checksums(
            plan, list(dict.fromkeys(cell.model for cell in chosen)), options or {}
        )
        checksums |= read
        chosen = [cell for cell in chosen if cell.model not in missing]
    sources = Sources(plan, finder)
    keys = Keys(plan, sources, checksums)
    keyed = list(keys.all(chosen))
    if not dry_run:
        found = _all_keys(keys, dict(keyed))
        facts = {"checksums": checksums, "left_out": sources.left_out, "command": command}
        run.write_plan(values, found, facts)
    return Session(plan, Workshop(plan, keys, run, options or {}), keyed, missing)


def _read_checksums(
    plan: Plan, models: Sequence[str], options: Values
) -> tuple[dict[str, str], dict[str, str]]:
    """The checksums of the models that can be loaded, and why the others cannot.

    Errors: `ModelError` where none can.
    """
    found: dict[str, str] = {}
    missing: dict[str, str] = {}
    for model in models:
        try:
            found[model] = load_backbone(**{**plan.models[model], **options}).checksum
        except ModelError as error:
            missing[model] = str(error)
            if len(missing) == len(models):
                raise
    return found, missing


def _all_keys(keys: Keys, known: dict[Cell, str]) -> dict[str, str]:
    """The keys of the cells that were not chosen too, as far as their files are here."""
    found = {str(cell): key for cell, key in known.items()}
    for cell in all_cells(keys.plan):
        if cell not in known:
            with suppress(InstructEditError):
                found[str(cell)] = keys.key(cell)
    return found
