"""What `add`, `import` and `replace` share: from requests to edits in force, measured before and after."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instructedit.cli.edit import FULL_READINGS
from instructedit.cli.options import Common, ModelChoice, Sample
from instructedit.cli.report import Report, make_table
from instructedit.cli.store.opening import load_store_pair
from instructedit.cli.store.options import Conflicts, Said
from instructedit.errors import EditFailedError
from instructedit.ledger.entries import Entry, Plan, plan_edits, show_case
from instructedit.types import EditCase

if TYPE_CHECKING:
    from instructedit.backbone import Backbone
    from instructedit.delta import LowRankDelta
    from instructedit.ledger.requests import Told

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
    told: "Told | None" = None,
) -> Report:
    """Add requests to a store, in the place of the edits `replacing`, and report what each did.

    `told` is who asked for each and why (`read_said`). A dry run says what would be done.

    Errors: `DataError` for conflicts to refuse; `OutputError` when the store has another writer or cannot
    be written. Then the store is as it was.
    """
    if common.dry_run:
        return _plan_only(folder, cases, conflicts, replacing)
    from instructedit.editors import as_told
    from instructedit.instructions import instruction_for
    from instructedit.ledger.writer import open_writer

    with open_writer(folder) as writer:
        gone = [writer.find(name).id for name in replacing]
        backbone, editor = load_store_pair(writer, model)
        cases = as_told(editor, backbone, cases)
        plan = plan_edits(writer.in_force, cases, conflicts.on_conflict, gone)
        if not plan.cases:
            return show_plan(plan)
        from instructedit.ledger.adding import draft_edits, solve_with
        from instructedit.ledger.requests import key_of

        words = [instruction_for(case, seed=sample.seed) for case in plan.cases]
        drafts = draft_edits(writer, backbone, editor, plan, words, gone)
        delta = solve_with(writer, backbone, editor, drafts)
        measured = measure_edits(backbone, delta, plan.cases, words)
        made = [
            replace(draft, measured=found, **(told or {}).get(key_of(draft.case), {}))
            for draft, found in zip(drafts, measured, strict=True)
        ]
        return _report(writer.add(made, said.by, said.note), plan)


def show_plan(plan: Plan) -> Report:
    """What would be done, or that there is nothing to do."""
    rows = [(show_case(case), ", ".join(old)) for case, old in zip(plan.cases, plan.replaces, strict=True)]
    table = [make_table("Would add", ("edit", "replaces"), rows)] if rows else []
    data = {"edits": [{"prompt": case.prompt, "target": case.target_new} for case in plan.cases]}
    return Report(data | _repeated(plan), [*table, *_say_repeated(plan)])


def _plan_only(
    folder: Path, cases: Sequence[EditCase], conflicts: Conflicts, replacing: Collection[str]
) -> Report:
    """What `make_edits` would do; nothing is loaded or written."""
    from instructedit.ledger.store import Store

    store = Store(folder)
    gone = [store.find(name).id for name in replacing]
    return show_plan(plan_edits(store.in_force, cases, conflicts.on_conflict, gone))


def measure_edits(
    backbone: "Backbone", delta: "LowRankDelta", cases: Sequence[EditCase], words: Sequence[str]
) -> list[dict[str, Any]]:
    """Whether each edit holds under a delta, and what was asked before and after."""
    from instructedit.cli.readings import edit_took, list_questions, take_readings

    questions = list_questions(cases, words, brief=len(cases) > FULL_READINGS)
    readings = take_readings(backbone.reaching(delta.a), delta, cases, questions)
    measured = []
    for index, case in enumerate(cases):
        own = [reading for reading in readings if reading.asked.edit == index]
        records = [reading.as_record() for reading in own]
        for record in records:
            record.pop("edit")
        measured.append({"took": edit_took(case, own[0]), "readings": records})
    return measured


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
    bad = [entry for entry, fine in zip(entries, took, strict=True) if not fine]
    if not bad:
        return None
    listed = "; ".join(f"{entry.id}: {show_case(entry.case)}" for entry in bad[:10])
    more = f" and {len(bad) - 10} more" if len(bad) > 10 else ""
    return EditFailedError(
        f"{len(bad)} of {len(entries)} edits {what}: {listed}{more}. "
        "Undo them, or replace them with another wording or a shorter target."
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
