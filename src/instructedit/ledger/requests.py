"""The edits in force as requests: a file that another store, or any command that takes edits, reads."""

import json
from pathlib import Path

from instructedit.data import case_to_record
from instructedit.ledger.store import Store
from instructedit.storage import write_atomic


def write_requests(store: Store, out: Path) -> None:
    """Write the edits in force as JSON Lines, each with its instruction and probes.

    Errors: `OutputError` when the file cannot be written; what was there is kept then.
    """
    lines = [json.dumps(case_to_record(entry.case), ensure_ascii=False) + "\n" for entry in store.in_force]
    write_atomic(out, "".join(lines))
