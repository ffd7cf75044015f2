"""The report card of a store as plain data: what was asked, took and moved, and where it comes from."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from instructedit.ledger.entries import Entry, goal_of, place_of
from instructedit.ledger.store import LOG, Store, now
from instructedit.report.store_card_probes import places
from instructedit.storage import sha256_file

FORMAT = "instructedit-store-card-1"


@dataclass(frozen=True)
class Measured:
    """What was measured for a card; whatever was not is empty.

    `edits[i]` is what `Store.in_force[i]` does now: ``took`` and ``readings``. `beside` is from
    `measure_beside`, `perplexity` from `Perplexity.as_dict` with the file's name and checksum, `tasks` from
    `measure_abilities`.
    """

    edits: Sequence[Mapping[str, Any]] = ()
    beside: Mapping[str, Any] = field(default_factory=dict)
    perplexity: Mapping[str, Any] = field(default_factory=dict)
    tasks: Mapping[str, Any] = field(default_factory=dict)


def make_store_card(store: Store, measured: Measured, versions: Mapping[str, str]) -> dict[str, Any]:
    """Everything that the page says, ready for JSON.

    Errors: `OSError` when the log has gone since it was read.
    """
    entries = store.in_force
    gone = [entry for entry in store.entries.values() if entry.status != "in force"]
    found = [*measured.edits, *({} for _ in entries)]
    pairs = zip(entries, found, strict=False)
    return {
        "format": FORMAT,
        "made": now(),
        "store": _describe_store(store),
        "edits": [_describe(entry) | {"now": dict(one)} for entry, one in pairs],
        "contradictions": find_contradictions(entries),
        "gone": [_describe(entry) | {"history": _history(store, entry)} for entry in gone],
        "beside": dict(measured.beside),
        "perplexity": dict(measured.perplexity),
        "tasks": dict(measured.tasks),
        "versions": dict(versions),
    }


def find_contradictions(entries: Sequence[Entry]) -> list[list[str]]:
    """Pairs of ids of edits that ask for the same in different words and want different things there.

    Two prompts ask for the same where one is a known form, or a wording in the record, of the other.
    """
    cases = {entry.id: entry.case for entry in entries}
    there = {place_of(case): name for name, case in cases.items()}
    found = {
        tuple(sorted((name, there[place])))
        for name, case in cases.items()
        for place in places(case)
        if place in there and goal_of(cases[there[place]]) != goal_of(case)
    }
    return [list(pair) for pair in sorted(found)]


def _describe_store(store: Store) -> dict[str, Any]:
    counts = Counter(entry.status for entry in store.entries.values())
    return {
        "folder": store.folder.resolve().name,
        **{name: store.facts[name] for name in ("format", "created", "precision", "model", "editor")},
        "events": len(store.events),
        "edits": {status: counts[status] for status in ("in force", "undone", "replaced")},
        "log_sha256": sha256_file(store.folder / LOG),
    }


def _describe(entry: Entry) -> dict[str, Any]:
    made, case = entry.made, entry.case
    kind, goal = goal_of(case)
    return {
        "id": entry.id,
        "status": entry.status,
        **{name: made[name] for name in ("by", "note", "time", "instruction")},
        "prompt": case.prompt,
        "target": goal,
        "goal": kind,
        "kind": case.kind,
        "scope": case.scope,
        "subject": case.subject,
        "took_when_made": made["measured"].get("took"),
    }


def _history(store: Store, entry: Entry) -> list[dict[str, Any]]:
    names = ("event", "id", "time", "by", "note")
    return [{name: event[name] for name in names} for event in store.history(entry.id)]
