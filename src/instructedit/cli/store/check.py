"""`instructedit store check`: does every edit in force still hold?"""

from instructedit.cli.options import COMMON, MODEL, Common, ModelChoice
from instructedit.cli.report import Report, make_table
from instructedit.cli.store.options import STORE, StoreChoice


def check_store(*, store: StoreChoice = STORE, model: ModelChoice = MODEL, common: Common = COMMON) -> Report:
    """Ask every edit in force again, under all of them together, and end with exit code 8 where one fails.

    The record's files are checked too: their checksums, the editor's and the model's.
    """
    from instructedit.ledger.store import Store

    kept = Store(store.store)
    entries = kept.in_force
    for entry in entries:
        kept.read_rows(entry)
    if common.dry_run or not entries:
        return Report(
            {"holds": None, "edits": len(entries)}, [f"{len(entries)} edits in force, files whole."]
        )
    from instructedit.cli.store.making import COLUMNS, failure, measure_edits, reading_rows
    from instructedit.cli.store.opening import load_store_pair
    from instructedit.ledger.adding import solve_entries

    backbone, editor = load_store_pair(kept, model)
    cases = [entry.case for entry in entries]
    words = [case.instruction for case in cases]
    found = measure_edits(backbone, solve_entries(kept, backbone, editor, entries), cases, words)
    took = [one["took"] for one in found]
    rows = [row for e, one in zip(entries, found, strict=True) for row in reading_rows(e.id, one)]
    data = {"holds": all(took), "edits": [{"id": e.id, **one} for e, one in zip(entries, found, strict=True)]}
    table = make_table(f"{sum(took)} of {len(entries)} edits hold", COLUMNS, rows)
    return Report(data, [table], failure(entries, took, "do not hold"))
