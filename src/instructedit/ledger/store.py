"""A store as it is read: which model and editor it belongs to, its edits, and what they are solved from."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from instructedit.errors import DataError, unknown_name
from instructedit.ledger.entries import Entry, replay
from instructedit.ledger.kinds import ID, check_facts
from instructedit.ledger.log import Event, read_log
from instructedit.storage import new_folder, read_json, write_atomic, write_json

FORMAT = "instructedit-store-1"
FACTS, LOG, EDITS, SUMS = "store.json", "log.jsonl", "edits", "sums.safetensors"
ELSEWHERE = "Choose another folder: a store begins in a new one."


def create_store(
    folder: Path, model: dict[str, str], editor: dict[str, str], precision: str = "float16"
) -> "Store":
    """Make an empty store for one base model and one editor, each given by name and checksum.

    Errors: `OutputError` when the folder exists or cannot be written.
    """
    with new_folder(folder, hint=ELSEWHERE) as place:
        (place / EDITS).mkdir()
        write_atomic(place / LOG, b"")
        write_json(
            place / FACTS,
            {
                "format": FORMAT,
                "version": version("instructedit"),
                "created": now(),
                "model": model,
                "editor": editor,
                "precision": precision,
            },
        )
    return Store(folder)


class Store:
    """The record in a folder as it was when it was opened; see `writer.open_writer` to change it.

    Errors: `DataError` when the folder is no store, one of another version, or broken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.facts = read_facts(self.folder / FACTS)
        self.events: list[Event] = read_log(self.folder / LOG)

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """Every edit ever made, by id, in order. Errors: `DataError` when the log is none of this version."""
        return self._replay(self.events)

    @property
    def in_force(self) -> list[Entry]:
        """The edits that the model answers under, in order."""
        return [entry for entry in self.entries.values() if entry.status == "in force"]

    def at(self, count: int) -> list[Entry]:
        """The edits that were in force after the first `count` events.

        Errors: `DataError` when there are not so many.
        """
        if not 0 <= count <= len(self.events):
            raise DataError(f"{self.folder} has no event {count}. Expected 0 to {len(self.events)}: see log.")
        entries = self._replay(self.events[:count]).values()
        return [entry for entry in entries if entry.status == "in force"]

    def _replay(self, events: Sequence[Event]) -> dict[str, Entry]:
        try:
            return replay(events)
        except DataError as error:
            raise DataError(
                f"{self.folder / LOG}, {error}. It was changed, or another version wrote it: put it back "
                "from a copy, or use that version."
            ) from None

    def find(self, name: str) -> Entry:
        """The edit with an id; leading zeros may be left out.

        Errors: `UnknownNameError` with the nearest id when there is none.
        """
        entry = self.entries.get(name.zfill(ID_DIGITS))
        if entry is None:
            raise unknown_name(f"edit in {self.folder}", name, sorted(self.entries)[-ID_SHOWN:])
        return entry

    def history(self, name: str) -> list[Event]:
        """The events in which an edit was made, taken back, or replaced."""
        return [event for event in self.events if name == event["id"] or name in event.get("replaces", ())]

    def rows_path(self, name: str) -> Path:
        """Where the rows of an edit are kept."""
        return self.folder / EDITS / f"{name}.safetensors"

    def read_rows(self, entry: Entry) -> bytes:
        """The file of what an edit is solved from.

        Errors: `DataError` when it is missing, or is not as it was written.
        """
        path = self.rows_path(entry.id)
        instead = f", or undo edit {entry.id}" if entry.status == "in force" else ""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(
                f"cannot read {path}: {error.strerror}. Put it back from a copy{instead}."
            ) from error
        if hashlib.sha256(data).hexdigest() != entry.made["rows"]["sha256"]:
            raise DataError(
                f"{path} is not what was written for edit {entry.id}: its checksum differs. "
                f"Put it back from a copy{instead}."
            )
        return data

    def strays(self) -> list[Path]:
        """Files of rows that no edit has: a writer was stopped, or the log has lost its last lines."""
        files = sorted((self.folder / EDITS).glob("*.safetensors"))
        return [path for path in files if path.stem not in self.entries]


ID_DIGITS = 4  # of an id; more where there are more edits
ID_SHOWN = 20  # ids that the error for an unknown one lists


def now() -> str:
    """The time as it stands in a record: UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def next_ids(known: Iterable[str], count: int) -> list[str]:
    """Ids for `count` further edits, behind all that are `known`."""
    last = max((int(name) for name in known if ID.fullmatch(name)), default=0)
    return [str(last + place).zfill(ID_DIGITS) for place in range(1, count + 1)]


def read_facts(path: Path) -> dict[str, Any]:
    """What ``store.json`` says.

    Errors: `DataError` when it cannot be read, is of another version, or lacks something.
    """
    expected = "Expected a store: make one with `instructedit store init FOLDER`, and name it with --store."
    try:
        facts = read_json(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}. {expected}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {error}. {expected}") from error
    found = facts.get("format") if isinstance(facts, dict) else None
    if found != FORMAT:
        raise DataError(f"{path} has the format {found!r}; this version reads {FORMAT!r}. {expected}")
    try:
        check_facts(facts)
    except DataError as error:
        raise DataError(f"{path}, {error}. Correct it, or put it back from a copy.") from None
    return facts
