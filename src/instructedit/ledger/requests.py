"""The edits in force as requests: a file that another store, or any command that takes edits, reads."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instructedit.data import case_to_record
from instructedit.data.fields import read_text
from instructedit.data.layouts import choose_layout
from instructedit.data.reading import read_records
from instructedit.data.records import build_cases
from instructedit.errors import DataError
from instructedit.ledger.store import Store
from instructedit.storage import write_atomic
from instructedit.types import EditCase

SAID = ("by", "note")  # fields of a request that are none of the edit


@dataclass(frozen=True)
class Told:
    """Who asks for an edit, and why."""

    by: str = ""
    note: str = ""


def request_lines(store: Store) -> str:
    """The edits in force as JSON Lines, each with its instruction, its probes, who asked and why."""
    records = [
        case_to_record(entry.case) | {name: entry.made[name] for name in SAID if entry.made[name]}
        for entry in store.in_force
    ]
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def write_requests(store: Store, out: Path) -> None:
    """Write the `request_lines` of a store.

    Errors: `OutputError` when the file cannot be written; what was there is kept then.
    """
    write_atomic(out, request_lines(store))


def read_told(path: Path, cases: Sequence[EditCase], task: str = "auto", *, seed: int = 0) -> list[Told]:
    """Who asked for each of `cases` and why, as far as the records of the file that they were read from say.

    `task` and `seed` are those that they were read with. Records that are broken are passed over: whoever
    reads the edits tells of them.
    """
    told: dict[object, Told] = {}
    for place, record in read_records(path) if path.is_file() else ():  # a pipe is read once
        said = _said(record) if isinstance(record, dict) else Told()
        if said == Told():
            continue
        with suppress(DataError):
            layout, role = choose_layout(record, task)
            for case in build_cases(record, layout, role, seed=seed):
                told[_key(case, f"{path.stem}:{place.split()[-1]}")] = said
    return [told.get(_key(case), Told()) for case in cases]


def told_of(chosen: Sequence[EditCase], cases: Sequence[EditCase], told: Sequence[Told]) -> list[Told]:
    """What `told` says of some of `cases`, which are the very same objects; nothing where it is empty."""
    known = {id(case): said for case, said in zip(cases, told, strict=bool(told))}
    return [known.get(id(case), Told()) for case in chosen]


def _said(record: dict[str, Any]) -> Told:
    texts = {}
    for name in SAID:
        with suppress(DataError):  # another file's field of this name
            texts[name] = read_text(record.get(name), name)
    return Told(**texts)


def _key(case: EditCase, name: str = "") -> object:
    """What tells a record's edit from others, before words change it: its id, prompt and target."""
    return case.case_id or name, case.prompt, case.target_new
