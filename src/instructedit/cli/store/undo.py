"""`instructedit store undo` and `redo`: edits out of force, and back. No model is loaded."""

from typing import Annotated

from cyclopts import Parameter

from instructedit.cli.options import COMMON, Common
from instructedit.cli.report import Report
from instructedit.cli.store.options import CONFLICTS, SAID, STORE, Conflicts, Said, StoreChoice


def undo_edits(
    edits: Annotated[tuple[str, ...], Parameter(help="Ids of the edits, as `store log` shows them.")],
    /,
    *,
    store: StoreChoice = STORE,
    said: Said = SAID,
    common: Common = COMMON,
) -> Report:
    """Take edits back: the others are solved as if these had never been made."""
    from instructedit.ledger.store import Store
    from instructedit.ledger.writer import open_writer

    if common.dry_run:
        named = {entry.id: entry for entry in map(Store(store.store).find, edits)}
        found = [entry for entry in named.values() if entry.status == "in force"]
    else:
        with open_writer(store.store) as writer:
            found = writer.undo(edits, said.by, said.note)
    names = [entry.id for entry in found]
    verb = "Would undo" if common.dry_run else "Undone:"
    return Report({"undone": names}, [f"{verb} {', '.join(names)}" if names else "None of them is in force."])


def redo_edit(
    edit: Annotated[str, Parameter(help="Id of an edit that was undone or replaced.")],
    /,
    *,
    store: StoreChoice = STORE,
    said: Said = SAID,
    conflicts: Conflicts = CONFLICTS,
    common: Common = COMMON,
) -> Report:
    """Put an edit back in force; it was kept, so nothing is computed."""
    from instructedit.ledger.store import Store
    from instructedit.ledger.writer import open_writer, plan_redo

    if common.dry_run:
        done = bool(plan_redo(Store(store.store), [edit], conflicts.on_conflict))
    else:
        with open_writer(store.store) as writer:
            done = bool(writer.redo([edit], conflicts.on_conflict, said.by, said.note))
    verb = "Would be in force again" if common.dry_run else "In force again"
    return Report({"redone": done}, [f"{verb}: {edit}" if done else "It, or its like, is in force already."])
