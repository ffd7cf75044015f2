"""Changing a store: rows are on disk before the line that makes them count, and one line is one change."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instructedit.data import case_to_record
from instructedit.ledger.entries import Entry, OnConflict, plan_edits
from instructedit.ledger.lock import hold_lock
from instructedit.ledger.log import append_log
from instructedit.ledger.store import EDITS, FACTS, LOG, SUMS, Store, next_ids, now, read_facts
from instructedit.storage import cannot_write, write_atomic
from instructedit.types import EditCase


@dataclass(frozen=True)
class Draft:
    """An edit whose rows are kept, and which does not count yet.

    `rows` is what `StoreWriter.keep_rows` gave; `measured` what was found before and after.
    """

    id: str
    case: EditCase
    instruction: str
    rows: dict[str, Any]
    replaces: Sequence[str] = ()
    measured: dict[str, Any] = field(default_factory=dict)

    def line(self) -> dict[str, Any]:
        """What the log says of it, but for who asked and when."""
        return {
            "event": "replaced" if self.replaces else "added",
            "id": self.id,
            **({"replaces": list(self.replaces)} if self.replaces else {}),
            "request": case_to_record(self.case),
            "instruction": self.instruction,
            "rows": self.rows,
            "measured": self.measured,
        }


@contextmanager
def open_writer(folder: Path) -> "Iterator[StoreWriter]":
    """Be the one writer of a store inside the block.

    Errors: `DataError` as `Store`; `OutputError` when it has another writer or cannot be written.
    """
    read_facts(Path(folder) / FACTS)  # so that what is no store gets no lock
    with hold_lock(Path(folder)):
        yield StoreWriter(folder)


class StoreWriter(Store):
    """A store that may be changed: made by `open_writer`, which keeps others out."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        left_over = [*(self.folder / EDITS).glob(".*"), *self.folder.glob(f".{SUMS}.*")]
        for left in left_over:  # by a writer that was stopped
            with suppress(OSError):
                left.unlink()

    def new_ids(self, count: int) -> list[str]:
        """The ids of the next edits."""
        return next_ids(self.entries, count)

    def keep_rows(self, name: str, data: bytes, rounds: int = 1) -> dict[str, Any]:
        """Write what an edit is solved from, and give what its line says of the file.

        Errors: `OutputError` when it cannot be written.
        """
        write_atomic(self.rows_path(name), data)
        return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "rounds": rounds}

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

    def redo(self, name: str, on_conflict: OnConflict = "refuse", by: str = "", note: str = "") -> bool:
        """Put an edit in force again; False when it, or one that asks the same, is in force already.

        Errors: `UnknownNameError` for an id that does not exist; `DataError` for a conflict to refuse.
        """
        entry = self.find(name)
        plan = plan_edits(self.in_force, [entry.case], on_conflict)
        events = [
            {"event": "redone", "id": entry.id} | ({"replaces": old} if old else {}) for old in plan.replaces
        ]
        self._append(events, by, note)
        return bool(events)

    def _append(self, events: Sequence[dict[str, Any]], by: str, note: str) -> None:
        if not events:
            return
        sync_folder(self.folder / EDITS)
        said = {"time": now(), "by": by, "note": note}
        lines = [{"event": event["event"], "id": event["id"], **said, **event} for event in events]
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
