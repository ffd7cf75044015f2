"""The edits that a session, or all who share a store, have on one model: a store and its pair."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from instructedit.app.answers import explain_readings
from instructedit.app.pair import Pair
from instructedit.app.work import Work
from instructedit.cli.edit import FULL_READINGS
from instructedit.cli.store.making import measure_edits
from instructedit.errors import DataError
from instructedit.instructions import instruction_for
from instructedit.ledger.adding import draft_edits, solve_with
from instructedit.ledger.entries import Entry, OnConflict, Plan, goal_of, plan_edits, show_case
from instructedit.ledger.store import Store
from instructedit.ledger.writer import StoreWriter, open_writer
from instructedit.types import EditCase


@dataclass(frozen=True)
class Book:
    """A folder with a store, and the model and editor that it is for."""

    folder: Path
    pair: Pair

    def edits(self) -> list[dict[str, Any]]:
        """Every edit ever made, in order; see `describe_entry`."""
        return [describe_entry(entry) for entry in Store(self.folder).entries.values()]

    def add(
        self, cases: Sequence[EditCase], work: Work, on_conflict: OnConflict = "refuse", by: str = ""
    ) -> dict[str, Any]:
        """Put edits in force together with those that are, and say what each did.

        ``edits`` are the new ones, with all their ``questions`` where there are few; ``repeated`` were in
        force already. Cancelled, or refused, it leaves the store as it was.
        Errors: `DataError` for conflicts to refuse; `OutputError` when the store has another writer or
        cannot be written; `WorkCancelledError`.
        """
        with self.pair.at_work(work), open_writer(self.folder) as writer:
            plan = plan_edits(writer.in_force, cases, on_conflict)
            made = self._make(writer, plan, work, by) if plan.cases else []
        took = sum(edit["took"] for edit in made)
        repeated = [show_case(case) for case in plan.repeated]
        return {"added": len(made), "took": took, "edits": made, "repeated": repeated}

    def _make(self, writer: StoreWriter, plan: Plan, work: Work, by: str) -> list[dict[str, Any]]:
        backbone, count = self.pair.backbone, len(plan.cases)
        words = [instruction_for(case) for case in plan.cases]
        drafts = draft_edits(writer, backbone, self.pair.watched(work, count), plan, words)
        work.step(count, count, f"Solving {len(writer.in_force) + count} edits together")
        delta = solve_with(writer, self.pair.editor, drafts)
        work.step(count, count, "Asking before and after")
        measured = measure_edits(backbone, delta, plan.cases, words)
        work.check()
        entries = writer.add(
            [replace(draft, measured=found) for draft, found in zip(drafts, measured, strict=True)], by
        )
        work.settled = True
        self.pair.keep(writer, delta)
        shown = [describe_entry(entry) | _replaced(entry) for entry in entries]
        if count <= FULL_READINGS:
            for edit, found in zip(shown, measured, strict=True):
                edit["questions"] = explain_readings(backbone, delta, found["readings"])
        return shown

    def undo(self, names: Sequence[str], work: Work, by: str = "") -> list[str]:
        """Take edits back; the ids of those that were in force.

        Errors: `UnknownNameError` for an id that does not exist: then none is undone; `DataError` for none.
        """
        if not names:
            raise DataError(
                "no edit was named. Expected the ids of one or more edits, as the table shows them."
            )
        with self.pair.at_work(work), open_writer(self.folder) as writer:
            return [entry.id for entry in writer.undo(names, by)]

    def redo(self, name: str, work: Work, on_conflict: OnConflict = "refuse", by: str = "") -> bool:
        """Put an edit back in force; False when it, or its like, is in force already.

        Errors: `UnknownNameError` for an id that does not exist; `DataError` for a conflict to refuse.
        """
        with self.pair.at_work(work), open_writer(self.folder) as writer:
            return writer.redo(name, on_conflict, by)


def describe_entry(entry: Entry) -> dict[str, Any]:
    """An edit in flat words: what was asked for, whether it took, and what became of it."""
    made, case = entry.made, entry.case
    return {
        "id": entry.id,
        "now": entry.status,
        "took": bool(made["measured"].get("took")),
        "prompt": case.prompt,
        "target": goal_of(case)[1] or case.target_new,
        "kind": case.kind,
        "scope": case.scope,
        "instruction": made["instruction"],
        "by": made["by"],
        "time": made["time"],
    }


def _replaced(entry: Entry) -> dict[str, Any]:
    return {"replaces": list(entry.made["replaces"])} if "replaces" in entry.made else {}
