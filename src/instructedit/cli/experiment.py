"""`instructedit experiment`: a grid of evaluations from a plan, kept cell by cell and gone on with."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from instructedit.cli.data_files import find_files
from instructedit.cli.options import COMMON, Common, Paths, Texts
from instructedit.cli.report import Report
from instructedit.errors import DataError, InstructEditError, unknown_name

if TYPE_CHECKING:
    from instructedit.experiment.running import Outcome
    from instructedit.experiment.start import Session

RUNS = Path("runs")
UNREAD = "No model has been read for this folder yet: which cells --known holds is seen when the run begins."


def run_experiment(
    plan: Annotated[Path, Parameter(help="YAML file of the plan, such as experiments/paper.yaml.")],
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Folder of the run; left out, runs/NAME.")] = None,
    only: Annotated[Texts, Parameter(help="Table, or pattern of cells such as */mend/*; repeatable.")] = (),
    limit: Annotated[int | None, Parameter(help="Take this many records of a data set at the most.")] = None,
    seeds: Annotated[
        tuple[int, ...], Parameter(help="Seeds in the place of the plan's.", consume_multiple=True)
    ] = (),
    steps: Annotated[
        int | None, Parameter(help="Train for this many steps at the most. Goes before the plan's caps.")
    ] = None,
    model: Annotated[
        Texts, Parameter(help="Another place for a model of the plan: name=place; repeatable.")
    ] = (),
    known: Annotated[
        Paths, Parameter(help="cells.json of a report: what it holds need not be run; repeatable.")
    ] = (),
    device: Annotated[str, Parameter(help="Where models run: cpu, cuda, cuda:1, mps or auto.")] = "cpu",
    common: Common = COMMON,
) -> Report:
    """Run what is left of a plan: editors are trained once, cells are kept as they finish.

    Several processes may share the folder; an interrupted run goes on. The cost is said first; --dry-run says
    it and stops. `instructedit report` makes the tables.
    """
    from instructedit.cli.ordinary_text import read_ordinary
    from instructedit.experiment.cost import estimate_costs, format_costs
    from instructedit.experiment.plan import read_plan
    from instructedit.experiment.running import run_cells
    from instructedit.experiment.sources import Finder
    from instructedit.experiment.start import open_session

    values = put_models(override(read_plan(plan), limit, seeds, steps), model)
    session = open_session(
        values,
        out or RUNS / values["name"],
        Finder(find_files, read_ordinary),
        only=only,
        known=known,
        options={"device": device},
        command=shlex.join(["instructedit", *sys.argv[1:]]),
        dry_run=common.dry_run,
    )
    left = session.left
    costs = estimate_costs(session.workshop, left, probe=not common.dry_run)
    text = format_costs(costs, len(session.chosen) - len(left))
    data: dict[str, Any] = {"cells": len(session.chosen), "left": len(left)}
    data["costs"] = [cost.as_dict() for cost in costs]
    if common.dry_run:
        return Report(data, [text, UNREAD] if known and not session.workshop.run.checksums() else [text])
    _say(text)
    return _tell(session, run_cells(session.workshop, left, _say), data)


def override(
    values: dict[str, Any], limit: int | None, seeds: Sequence[int], steps: int | None
) -> dict[str, Any]:
    """A plan's values with those of the command line, which go before what its tables and editors say."""
    given = {"limit": limit, "seeds": list(seeds) or None, "steps": steps}
    changed = {**values, **{name: value for name, value in given.items() if value is not None}}
    if seeds:
        changed = _change_each(changed, "tables", {"seeds": list(seeds)})
    if steps is not None:
        changed = _change_each(changed, "editors", {"steps": None})
    return changed


def _change_each(values: dict[str, Any], section: str, changes: dict[str, Any]) -> dict[str, Any]:
    """A plan's values with changes to every entry of a section; what is no mapping is left to be refused."""
    entries = values.get(section)
    if not isinstance(entries, dict):
        return values
    made = {name: {**x, **changes} if isinstance(x, dict) else x for name, x in entries.items()}
    return {**values, section: made}


def put_models(values: dict[str, Any], places: Sequence[str]) -> dict[str, Any]:
    """A plan's values with models at other places, each name=place.

    Errors: `DataError` for a text of another form, `UnknownNameError` for a model that the plan lacks.
    """
    models = dict(values.get("models") or {"default": {}})
    for text in places:
        name, mark, place = text.partition("=")
        if not (mark and place):
            raise DataError(
                f"cannot read --model {text!r}. Expected name=place, such as small=~/models/small."
            )
        if name not in models:
            raise unknown_name("model of the plan", name, list(models))
        models[name] = {**(models[name] or {}), "model": place}
    return {**values, "models": models} if places else values


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _tell(session: "Session", outcome: "Outcome", data: dict[str, Any]) -> Report:
    folder = session.workshop.run.path
    data |= {name: [str(c) for c in getattr(outcome, name)] for name in ("done", "failed", "busy")}
    data["missing"] = session.missing
    lines = [f"{len(outcome.done)} cells run in {folder}; tables: instructedit report {folder}"]
    if outcome.busy:
        lines.append(
            f"{len(outcome.busy)} cells are in the hands of other processes. If one of another host is gone, "
            f"remove its file in {session.workshop.run.claims.folder}."
        )
    problems = [
        f"The model {name} is not to be had, and its cells were left out: {why} Name its place with "
        f"--model {name}=PLACE, or choose other tables with --only."
        for name, why in session.missing.items()
    ]
    if outcome.failed:
        problems.insert(
            0,
            f"{len(outcome.failed)} cells failed, first {outcome.failed[0]}; reasons are in "
            f"{folder / 'failures'}. Run the command again to try them again.",
        )
    return Report(data, lines, InstructEditError(" ".join(problems)) if problems else None)
