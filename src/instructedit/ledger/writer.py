"""Changing a store: rows are on disk before the line that makes them count, and one line is one change."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instructedit.data import case_to_record
from instructedit.errors import DataError
from instructedit.ledger.entries import Entry, OnConflict, plan_edits
from instructedit.ledger.lock import hold_lock
from instructedit.ledger.log import append_log, read_log
from instructedit.ledger.room import check_room
from instructedit.ledger.store import EDITS, FACTS, LOG, SUMS, Store, next_ids, now, read_facts
from instructedit.storage import cannot_write, write_atomic
from instructedit.types import EditCase


@dataclass(frozen=True)
class Draft:
    """An edit whose rows are kept, and which does not count yet.

    `rows` is what `StoreWriter.keep_rows` gave; `measured` what was found before and after; `by` and `note`
    count where the change is made without them.
    """

    id: str
    case: EditCase
    instruction: str
    rows: dict[str, Any]
    replaces: Sequence[str] = ()
    measured: dict[str, Any] = field(default_factory=dict)
    by: str = ""
    note: str = ""

    def line(self) -> dict[str, Any]:
        """What the log says of it, but for when it was made."""
        return {
            "event": "replaced" if self.replaces else "added",
            "id": self.id,
            "by": self.by,
            "note": self.note,
            **({"replaces": list(self.replaces)} if self.replaces else {}),
            "request": case_to_record(self.case),
            "instruction": self.instruction,
            "rows": self.rows,
            "measured": self.measured,
        }


@contextmanager
def open_writer(folder: Path) -> "Iterator[StoreWriter]":
    """Be the one writer of a store inside the block; rows that it kept in vain are gone behind it.

    Errors: `DataError` as `Store`; `OutputError` when it has another writer or cannot be written.
    """
    read_facts(Path(folder) / FACTS)  # so that what is no store gets no lock
    with hold_lock(Path(folder)):
        writer = StoreWriter(folder)
        try:
            yield writer
        finally:
            writer.drop_drafts()


def plan_redo(
    store: Store, names: Sequence[str], on_conflict: OnConflict = "refuse"
) -> list[tuple[Entry, list[str]]]:
    """The edits that come back in force, each with those that it replaces.

    Left out are those that are in force, or whose like is. Errors: as `StoreWriter.redo`.
    """
    asked = [(entry, entry.case) for entry in {one.id: one for one in map(store.find, names)}.values()]
    plan = plan_edits(store.in_force, [case for _, case in asked], on_conflict)
    back = [next(entry for entry, case in asked if case is kept) for kept in plan.cases]
    gone = {old for olds in plan.replaces for old in olds}
    for entry in back:
        store.read_rows(entry)
    check_room(store, back, [one for one in store.in_force if one.id not in gone])
    return list(zip(back, plan.replaces, strict=True))


class StoreWriter(Store):
    """A store that may be changed: made by `open_writer`, which keeps others out."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.drafted: set[str] = set()  # ids of rows that are kept, and no line counts as yet
        left_over = [*(self.folder / EDITS).glob(".*"), *self.folder.glob(f".{SUMS}.*")]
        for left in left_over:  # by a writer that was stopped
            with suppress(OSError):
                left.unlink()

    def new_ids(self, count: int) -> list[str]:
        """The ids of the next edits: none of an edit, nor of a file whose line was lost."""
        return next_ids([*self.entries, *(path.stem for path in self.strays())], count)

    def keep_rows(self, name: str, data: bytes, rounds: int = 1) -> dict[str, Any]:
        """Write what an edit is solved from, and give what its line says of the file.

        Errors: `OutputError` when it cannot be written.
        """
        self.drafted.add(name)
        write_atomic(self.rows_path(name), data)
        return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "rounds": rounds}

    def drop_drafts(self) -> None:
        """Delete the rows that were kept for edits which do not count."""
        if not (self.drafted and self.drafted - self.entries.keys()):
            return
        with suppress(OSError, DataError):  # what the log says: a line may be there though writing it failed
            counted = {event["id"] for event in read_log(self.folder / LOG)}
            for name in self.drafted - counted:
                self.rows_path(name).unlink(missing_ok=True)

    def add(self, drafts: Sequence[Draft], by: str = "", note: str = "") -> list[Entry]:
        """Put edits in force; what each replaces goes out of force with the same line.

        Errors: `OutputError` when it cannot be written: then none of them counts.
        """
        self._append([draft.line() for draft in drafts], by, note)
        return [self.entries[draft.id] for draft in drafts]

    def undo(self, names: Sequence[str], by: str = "", note: str = "") -> list[Entry]:
        """Take edits out of force and give those that were in it.

        Errors: `UnknownNameError` for an id that does not exist: then none is undone.
        """
        found = {entry.id: entry for entry in map(self.find, names)}
        gone = [entry for entry in found.values() if entry.status == "in force"]
        self._append([{"event": "undone", "id": entry.id} for entry in gone], by, note)
        return [self.entries[entry.id] for entry in gone]

    def redo(
        self, names: Sequence[str], on_conflict: OnConflict = "refuse", by: str = "", note: str = ""
    ) -> list[Entry]:
        """Put edits in force again, all or none; those that were not, nor one that asks the same.

        Errors: `UnknownNameError` for an id that does not exist; `DataError` for a conflict to refuse, for
        rows that are not whole, or where no neurons are left for them. Then none comes back.
        """
        back = plan_redo(self, names, on_conflict)
        events = [
            {"event": "redone", "id": entry.id} | ({"replaces": old} if old else {}) for entry, old in back
        ]
        self._append(events, by, note)
        return [self.entries[entry.id] for entry, _ in back]

    def _append(self, events: Sequence[dict[str, Any]], by: str, note: str) -> None:
        if not events:
            return
        sync_folder(self.folder / EDITS)
        lines = [
            {
                "event": event["event"],
                "id": event["id"],
                "time": now(),
                **event,
                "by": by or event.get("by", ""),
                "note": note or event.get("note", ""),
            }
            for event in events
        ]
        self.events = [*self.events, *append_log(self.folder / LOG, lines, len(self.events))]
        self.__dict__.pop("entries", None)


def sync_folder(folder: Path) -> None:
    """Wait until the disk knows the names of a folder's files.

    Errors: `OutputError` when it cannot.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise cannot_write(folder, error) from error
