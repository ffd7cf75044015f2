"""The edits in force as requests: a file that another store, or any command that takes edits, reads."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from instructedit.data import case_from_request, case_to_record
from instructedit.data.fields import read_text
from instructedit.data.reading import read_records
from instructedit.errors import DataError
from instructedit.ledger.entries import goal_of, place_of
from instructedit.ledger.store import Store
from instructedit.storage import write_atomic
from instructedit.types import EditCase

SAID = ("by", "note")  # fields of a request that are none of the edit
Told = Mapping[object, Mapping[str, Any]]


def write_requests(store: Store, out: Path) -> None:
    """Write the edits in force as JSON Lines, each with its instruction, its probes, who asked and why.

    Errors: `OutputError` when the file cannot be written; what was there is kept then.
    """
    records = [
        case_to_record(entry.case) | {name: entry.made[name] for name in SAID if entry.made[name]}
        for entry in store.in_force
    ]
    write_atomic(out, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def read_said(path: Path, task: str = "auto") -> Told:
    """Who asked for the edits of a file and why, by `key_of` the edit, where its records say so.

    Records that are broken are passed over: whoever reads the edits tells of them.
    """
    told: dict[object, dict[str, str]] = {}
    for _, record in read_records(path):
        if isinstance(record, dict) and any(map(record.get, SAID)):
            with suppress(DataError):
                case = case_from_request(record, task)
                told[key_of(case)] = {name: read_text(record.get(name), name) for name in SAID}
    return told


def key_of(case: EditCase) -> object:
    """What an edit asks and wants there."""
    return place_of(case), goal_of(case)
