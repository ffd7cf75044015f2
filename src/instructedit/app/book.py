"""The edits that a session, or all who share a store, have on one model: a store and its pair."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from instructedit.app.answers import explain_readings
from instructedit.app.pair import Pair
from instructedit.app.work import Work
from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors import as_told
from instructedit.errors import DataError
from instructedit.evaluation.readings import FULL_READINGS, measure_edits
from instructedit.instructions import instruction_for
from instructedit.ledger.adding import draft_edits, solve_with
from instructedit.ledger.entries import Entry, OnConflict, Plan, goal_of, plan_edits, show_case
from instructedit.ledger.requests import Told, told_of
from instructedit.ledger.store import Store
from instructedit.ledger.writer import StoreWriter, open_writer
from instructedit.types import EditCase

MOST_LOOKED, MOST_NAMED = 50, 1000  # edits that one call asks again, or undoes or redoes


@dataclass(frozen=True)
class Book:
    """A folder with a store, and the model and editor that it is for."""

    folder: Path
    pair: Pair

    def edits(self) -> list[dict[str, Any]]:
        """Every edit ever made, in order; see `describe_entry`."""
        return [describe_entry(entry) for entry in Store(self.folder).entries.values()]

    def add(
        self,
        cases: Sequence[EditCase],
        work: Work,
        on_conflict: OnConflict = "refuse",
        by: str = "",
        told: Sequence[Told] = (),
    ) -> dict[str, Any]:
        """Put edits in force together with those that are, and say what each did.

        ``edits`` are the new ones, with all their ``questions`` where there are few; ``repeated`` were in
        force already. Cancelled, or refused, it leaves the store as it was. `told` is who asked for each and
        why; `by` counts before it.
        Errors: `DataError` for conflicts to refuse; `OutputError` when the store has another writer or
        cannot be written; `WorkCancelledError`.
        """
        with self.pair.at_work(work), open_writer(self.folder) as writer:
            work.step(0, 1, "Reading the instructions")
            heard = as_told(self.pair.editor, self.pair.backbone, cases)
            plan = plan_edits(writer.in_force, heard, on_conflict)
            asked = told_of(plan.cases, heard, told)
            made = self._make(writer, plan, work, by, asked) if plan.cases else []
        took = sum(edit["took"] for edit in made)
        repeated = [show_case(case) for case in plan.repeated]
        return {"added": len(made), "took": took, "edits": made, "repeated": repeated}

    def _make(
        self, writer: StoreWriter, plan: Plan, work: Work, by: str, asked: Sequence[Told]
    ) -> list[dict[str, Any]]:
        backbone, count = self.pair.backbone, len(plan.cases)
        words = [instruction_for(case) for case in plan.cases]

        def reading(place: int) -> None:
            work.step(place, count, f"Reading edit {place + 1} of {count}")

        drafts = draft_edits(writer, backbone, self.pair.editor, plan, words, reading=reading)
        work.step(count, count, f"Putting {len(writer.in_force) + count} edits together")
        delta = solve_with(writer, backbone, self.pair.editor, drafts)
        work.step(count, count, "Asking before and after")
        measured = measure_edits(backbone, delta, plan.cases, words)
        questions = self._explain(measured, delta) if count <= FULL_READINGS else []
        work.check()
        whole = [
            replace(draft, measured=found, by=one.by, note=one.note)
            for draft, found, one in zip(drafts, measured, asked, strict=True)
        ]
        entries = writer.add(whole, by)
        work.settled = True
        self.pair.keep(writer, delta)
        shown = [describe_entry(entry) | _replaced(entry) for entry in entries]
        for edit, shown_questions in zip(shown, questions, strict=bool(questions)):
            edit["questions"] = shown_questions
        return shown

    def look(self, names: Sequence[str], work: Work) -> list[dict[str, Any]]:
        """Ask the questions of some edits again: of the base model, and of the one with all edits in force.

        ``holds``: whether the edited model does now what the edit asks for. Of many edits, the bare prompts.
        Errors: `UnknownNameError` for an id that does not exist; `DataError` for none, or more than
        `MOST_LOOKED`; `WorkCancelledError`.
        """
        _check_names(names, MOST_LOOKED)
        backbone = self.pair.backbone
        with self.pair.at_work(work):
            store = Store(self.folder)  # as it is once the others are done
            entries = list({entry.id: entry for entry in map(store.find, names)}.values())
            words = [entry.made["instruction"] for entry in entries]
            work.step(0, 2, "Putting the edits in force together")
            delta = self.pair.solve(store) or change_nothing(backbone)
            work.step(1, 2, "Asking before and after")
            measured = measure_edits(backbone, delta, [entry.case for entry in entries], words)
            questions = self._explain(measured, delta)
        return [
            describe_entry(entry) | {"holds": found["took"], "questions": asked}
            for entry, found, asked in zip(entries, measured, questions, strict=True)
        ]

    def _explain(self, measured: Sequence[dict[str, Any]], delta: LowRankDelta) -> list[list[dict[str, Any]]]:
        """The questions of each edit, token by token."""
        return [explain_readings(self.pair.backbone, delta, found["readings"]) for found in measured]

    def undo(self, names: Sequence[str], work: Work, by: str = "") -> list[str]:
        """Take edits back; the ids of those that were in force.

        Errors: `UnknownNameError` for an id that does not exist: then none is undone; `DataError` for none,
        or more than `MOST_NAMED`.
        """
        _check_names(names, MOST_NAMED)
        with self.pair.at_work(work), open_writer(self.folder) as writer:
            return [entry.id for entry in writer.undo(names, by)]

    def redo(
        self, names: Sequence[str], work: Work, on_conflict: OnConflict = "refuse", by: str = ""
    ) -> list[str]:
        """Put edits back in force, all or none; the ids of those that were not, nor their like.

        Errors: `UnknownNameError` for an id that does not exist; `DataError` for a conflict to refuse, for
        none, or more than `MOST_NAMED`.
        """
        _check_names(names, MOST_NAMED)
        with self.pair.at_work(work), open_writer(self.folder) as writer:
            return [entry.id for entry in writer.redo(names, on_conflict, by)]


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


def change_nothing(backbone: Backbone) -> LowRankDelta:
    """The update under which a model answers as it is."""
    sites, device = backbone.sites, backbone.device
    return LowRankDelta(
        {site.name: torch.zeros(1, 1, site.d_in, device=device) for site in sites},
        {site.name: torch.zeros(1, site.d_out, 1, device=device) for site in sites},
    )


def _check_names(names: Sequence[str], most: int) -> None:
    if not names:
        raise DataError("no edit was named. Expected the ids of one or more edits, as the table shows them.")
    if len(names) > most:
        raise DataError(
            f"{len(names):,} edits were named. Expected {most:,} at the most: name them in parts."
        )


def _replaced(entry: Entry) -> dict[str, Any]:
    return {"replaces": list(entry.made["replaces"])} if "replaces" in entry.made else {}
