"""`instructedit store check`: does every edit in force still hold?"""

from typing import TYPE_CHECKING

from instructedit.cli.options import COMMON, MODEL, Common, ModelChoice
from instructedit.cli.report import Report, make_table
from instructedit.cli.store.options import STORE, StoreChoice
from instructedit.errors import DataError

if TYPE_CHECKING:
    from instructedit.ledger.store import Store

LISTED = 10  # files that are named


def check_store(*, store: StoreChoice = STORE, model: ModelChoice = MODEL, common: Common = COMMON) -> Report:
    """Ask every edit in force again, under all of them together, and end with exit code 8 where one fails.

    The record's files are checked too: their checksums, the editor's and the model's. What is broken of edits
    that are not in force, or belongs to none, is said, and is no failure.
    """
    from instructedit.cli.store.opening import check_editor
    from instructedit.ledger.store import Store

    kept = Store(store.store)
    check_editor(kept)
    entries, broken = kept.in_force, _read_all(kept)
    said = [*broken.values(), *_name_strays(kept)]
    if common.dry_run or not entries:
        data = {"holds": None, "edits": len(entries), "broken": list(broken)}
        return Report(data, [f"{len(entries)} edits in force, their files whole.", *said])
    from instructedit.cli.store.making import COLUMNS, failure, reading_rows
    from instructedit.cli.store.opening import load_store_pair
    from instructedit.evaluation.readings import measure_edits
    from instructedit.ledger.adding import solve_entries

    backbone, editor = load_store_pair(kept, model)
    cases = [entry.case for entry in entries]
    words = [case.instruction for case in cases]
    found = measure_edits(backbone, solve_entries(kept, backbone, editor, entries), cases, words)
    took = [one["took"] for one in found]
    pairs = list(zip(entries, found, strict=True))
    rows = [row for entry, one in pairs for row in reading_rows(entry.id, one)]
    edits = [{"id": entry.id, **one} for entry, one in pairs]
    data = {"holds": all(took), "edits": edits, "broken": list(broken)}
    table = make_table(f"{sum(took)} of {len(entries)} edits hold", COLUMNS, rows)
    return Report(data, [table, *said], failure(entries, took, "do not hold"))


def _read_all(kept: "Store") -> dict[str, str]:
    """By id what is wrong with the rows of edits that are not in force.

    Errors: `DataError` for one that is.
    """
    broken = {}
    for entry in kept.entries.values():
        try:
            kept.read_rows(entry)
        except DataError as error:
            if entry.status == "in force":
                raise
            broken[entry.id] = f"Edit {entry.id} is {entry.status} and cannot be redone: {error}"
    return broken


def _name_strays(kept: "Store") -> list[str]:
    from instructedit.ledger.lock import is_held
    from instructedit.ledger.store import Store

    if not kept.strays():
        return []
    if is_held(kept.folder):
        return ["A writer is at work: what it has not written down yet is not checked."]
    names = [path.name for path in Store(kept.folder).strays()]  # as it is once that writer was done
    listed = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
    told = "a writer was stopped, or the log has lost its last lines: compare it with a copy"
    return [f"{len(names)} file(s) of rows belong to no edit ({listed}): {told}."] if names else []
