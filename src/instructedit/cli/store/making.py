"""What `add`, `import` and `replace` share: from requests to edits in force, measured before and after."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instructedit.cli.edit import UNREAD, name_failed
from instructedit.cli.options import Common, ModelChoice, Sample
from instructedit.cli.report import Report, make_table
from instructedit.cli.requests import Request
from instructedit.cli.store.opening import load_store_pair
from instructedit.cli.store.options import Conflicts, Said
from instructedit.errors import DataError, EditFailedError
from instructedit.ledger.entries import Entry, Plan, plan_edits, show_case
from instructedit.types import EditCase

if TYPE_CHECKING:
    from instructedit.ledger.requests import Told
    from instructedit.ledger.store import Store

COLUMNS = ("edit", "took", "asked", "prompt", "before", "p", "after", "p after")


def make_edits(
    folder: Path,
    cases: Sequence[EditCase],
    said: Said,
    conflicts: Conflicts,
    model: ModelChoice,
    sample: Sample,
    common: Common,
    replacing: Sequence[str] = (),
    told: "Sequence[Told]" = (),
) -> Report:
    """Add requests to a store, in the place of the edits `replacing`, and report what each did.

    `told` is who asked for each and why (`read_told`). A dry run says what would be done.

    Errors: `DataError` for conflicts to refuse, and where nothing would come in the place of `replacing`;
    `OutputError` when the store has another writer or cannot be written. Then the store is as it was.
    """
    if common.dry_run:
        return _plan_only(folder, cases, conflicts, replacing)
    from instructedit.editors import as_told
    from instructedit.evaluation.readings import measure_edits
    from instructedit.instructions import instruction_for
    from instructedit.ledger.writer import open_writer

    with open_writer(folder) as writer:
        gone = _find_old(writer, replacing)
        backbone, editor = load_store_pair(writer, model)
        cases = as_told(editor, backbone, cases)
        plan = _plan(writer, cases, conflicts, gone)
        if not plan.cases:
            return show_plan(plan)
        from instructedit.ledger.adding import draft_edits, solve_with
        from instructedit.ledger.requests import told_of

        words = [instruction_for(case, seed=sample.seed) for case in plan.cases]
        drafts = draft_edits(writer, backbone, editor, plan, words, gone)
        delta = solve_with(writer, backbone, editor, drafts)
        measured = measure_edits(backbone, delta, plan.cases, words)
        asked = told_of(plan.cases, cases, told)
        made = [
            replace(draft, measured=found, by=one.by, note=one.note)
            for draft, found, one in zip(drafts, measured, asked, strict=True)
        ]
        return _report(writer.add(made, said.by, said.note), plan)


def tell_requests(request: Request, cases: Sequence[EditCase], sample: Sample) -> "list[Told]":
    """Who asked for the edits of a request and why, where a file of them says so."""
    from instructedit.ledger.requests import read_told

    if request.file is None:
        return []
    return read_told(request.file, cases, request.task, seed=sample.seed)


def show_plan(plan: Plan) -> Report:
    """What would be done, or that there is nothing to do."""
    rows = [(show_case(case), ", ".join(old)) for case, old in zip(plan.cases, plan.replaces, strict=True)]
    table = [make_table("Would add", ("edit", "replaces"), rows)] if rows else []
    data = {"edits": [{"prompt": case.prompt, "target": case.target_new} for case in plan.cases]}
    return Report(data | _repeated(plan), [*table, *_say_repeated(plan)])


def _plan_only(
    folder: Path, cases: Sequence[EditCase], conflicts: Conflicts, replacing: Sequence[str]
) -> Report:
    """What `make_edits` would do; nothing is loaded or written."""
    from instructedit.ledger.store import Store

    store = Store(folder)
    made = show_plan(_plan(store, cases, conflicts, _find_old(store, replacing)))
    if not any(case.instruction for case in cases):
        return made
    return replace(made, data={**made.data, "unread": UNREAD}, shown=[*made.shown, UNREAD])


def _find_old(store: "Store", replacing: Sequence[str]) -> list[str]:
    """The ids of the edits to replace. Errors: `DataError` for one that is not in force."""
    found = [store.find(name) for name in replacing]
    for entry in found:
        if entry.status != "in force":
            raise DataError(
                f"edit {entry.id} is {entry.status}, so nothing can take its place. Expected an edit in "
                "force (`store log --in-force`); `store add` makes one without replacing any."
            )
    return [entry.id for entry in found]


def _plan(store: "Store", cases: Sequence[EditCase], conflicts: Conflicts, gone: Sequence[str]) -> Plan:
    """What is new of some requests, the edits `gone` not counted.

    Errors: `DataError` for conflicts to refuse, and where nothing is new to come in the place of `gone`.
    """
    plan = plan_edits(store.in_force, cases, conflicts.on_conflict, gone)
    if gone and not plan.cases:
        raise DataError(
            f"{'; '.join(map(show_case, plan.repeated))} is in force already, so nothing would come in the "
            f"place of edit {', '.join(gone)}. Nothing was changed. Undo that edit, or ask for another."
        )
    return plan


def reading_rows(name: str, measured: dict[str, Any]) -> list[tuple[object, ...]]:
    """The lines of a table with `COLUMNS`."""
    chances = ("probability_before", "probability_after")
    return [
        (
            name,
            measured["took"],
            r["group"],
            r["prompt"],
            r["before"],
            r[chances[0]],
            r["after"],
            r[chances[1]],
        )
        for r in measured["readings"]
    ]


def failure(entries: Sequence[Entry], took: Sequence[bool], what: str) -> EditFailedError | None:
    """The error that names the edits which do not hold; None when all do."""
    named = [f"{entry.id}: {show_case(entry.case)}" for entry in entries]
    return name_failed(
        named, took, what, "Undo them, or replace them with another wording or a shorter target."
    )


def _report(entries: Sequence[Entry], plan: Plan) -> Report:
    rows = [row for entry in entries for row in reading_rows(entry.id, dict(entry.made["measured"]))]
    took = [entry.made["measured"]["took"] for entry in entries]
    title = f"Added {len(entries)}, of which {sum(took)} took"
    replaced = [f"{e.id} replaces {', '.join(e.made['replaces'])}." for e in entries if "replaces" in e.made]
    data = {"took": all(took), "edits": [dict(entry.made) for entry in entries]} | _repeated(plan)
    shown = [make_table(title, COLUMNS, rows), *replaced, *_say_repeated(plan)]
    return Report(data, shown, failure(entries, took, "were kept and did not take"))


def _repeated(plan: Plan) -> dict[str, Any]:
    return {"repeated": [{"prompt": c.prompt, "target": c.target_new} for c in plan.repeated]}


def _say_repeated(plan: Plan) -> list[str]:
    return [f"Already in force, not applied twice: {show_case(case)}" for case in plan.repeated]
