"""`instructedit store log`, `show` and `diff`: what the record says. No model is loaded."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.text import Text

from instructedit.cli.options import COMMON, Common
from instructedit.cli.report import Report, make_facts, make_table
from instructedit.cli.store.options import STORE, StoreChoice
from instructedit.errors import DataError
from instructedit.ledger.entries import compare, show_case

if TYPE_CHECKING:
    from instructedit.ledger.entries import Entry
    from instructedit.ledger.store import Store

COLUMNS = ("event", "time", "what", "edit", "by", "request", "now", "note")


def show_log(
    *,
    last: Annotated[int | None, Parameter(help="Show so many of the latest events.")] = None,
    in_force: Annotated[bool, Parameter(negative="", help="List the edits in force instead.")] = False,
    store: StoreChoice = STORE,
    common: Common = COMMON,
) -> Report:
    """List what was done to the store, in order, or the edits in force."""
    from instructedit.ledger.store import Store

    if last is not None and last < 1:
        raise DataError(f"found --last {last}. Expected 1 or more, or leave it out to see all.")
    kept = Store(store.store)
    wanted = {entry.made["n"] for entry in kept.in_force}
    events = [event for event in kept.events if not in_force or event["n"] in wanted]
    events = events[-last:] if last is not None else events
    rows = []
    for event in events:
        entry = kept.entries[event["id"]]
        about = (event["event"], entry.id, event["by"], show_case(entry.case), entry.status, event["note"])
        rows.append((str(event["n"]), event["time"], *about))
    title = f"{len(kept.entries)} edits, {len(kept.in_force)} in force"
    data = {"edits": len(kept.entries), "in_force": [e.id for e in kept.in_force], "events": events}
    return Report(data, [make_table(title, COLUMNS, rows)])


def show_edit(
    edit: Annotated[str, Parameter(help="Id of the edit, as `store log` shows it.")],
    /,
    *,
    store: StoreChoice = STORE,
    common: Common = COMMON,
) -> Report:
    """Show all that is known of one edit: who asked for it, what was measured, and what became of it."""
    from instructedit.cli.store.making import COLUMNS as READINGS
    from instructedit.cli.store.making import reading_rows
    from instructedit.ledger.store import Store

    kept = Store(store.store)
    entry = kept.find(edit)
    made, case = entry.made, entry.case
    facts = {"request": show_case(case), "instruction": made["instruction"], "kind": case.kind}
    facts |= {"scope": case.scope, "subject": case.subject, "by": made["by"], "note": made["note"]}
    facts |= {
        "now": entry.status,
        "model": kept.facts["model"]["name"],
        "editor": kept.facts["editor"]["name"],
    }
    facts |= {"kept in": str(kept.rows_path(entry.id)), "bytes": made["rows"]["bytes"]}
    history = kept.history(entry.id)
    rows = [(str(e["n"]), e["time"], e["event"], e["id"], e["by"], e["note"]) for e in history]
    tables = [make_facts(f"Edit {entry.id}", facts)]
    if made["measured"]:
        tables.append(make_table("", READINGS, reading_rows(entry.id, made["measured"])))
    tables.append(make_table("", ("event", "time", "what", "edit", "by", "note"), rows))
    return Report({"status": entry.status, **made, "history": history}, tables)


def show_difference(
    first: Annotated[str, Parameter(help="Number of an event (0: before the first), or another store.")],
    second: Annotated[str, Parameter(help="The same; left out, the store as it is now.")] = "",
    /,
    *,
    store: StoreChoice = STORE,
    common: Common = COMMON,
) -> Report:
    """Show which edits were in force then and are not now, or in one store and not in another."""
    from instructedit.ledger.store import Store

    kept = Store(store.store) if first.isdecimal() or not second or second.isdecimal() else None
    gone, come = compare(_pick(kept, first), _pick(kept, second))
    lines = [
        Text(f"{mark} {e.id}  {show_case(e.case)}") for mark, side in (("-", gone), ("+", come)) for e in side
    ]
    data = {
        name: [dict(e.made) for e in side] for name, side in (("only_first", gone), ("only_second", come))
    }
    return Report(data, lines or ["The same edits are in force."])


def _pick(kept: "Store | None", name: str) -> "list[Entry]":
    """The edits in force at an event, in another store, or now."""
    from instructedit.ledger.store import Store

    if kept is not None and not name:
        return kept.in_force
    if kept is not None and name.isdecimal():
        return kept.at(int(name))
    if not Path(name).is_dir():
        raise DataError(
            f"{name} is neither the number of an event nor the folder of a store. See `store log`."
        )
    return Store(Path(name)).in_force
