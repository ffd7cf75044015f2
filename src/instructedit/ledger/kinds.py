"""What the files of a store hold, field by field: they may be edited by hand, or of another version."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from instructedit.data.fields import bad_field
from instructedit.errors import DataError

EXPECTED = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
NAMED = {"name": str, "checksum": str}
FACTS = {"created": str, "precision": str, "model": NAMED, "editor": NAMED}
PRECISIONS = ("float16", "float32")
SAID = {"event": str, "id": str, "time": str, "by": str, "note": str}
ROWS = {"sha256": str, "bytes": int, "rounds": int}
MADE = {**SAID, "request": {}, "instruction": str, "rows": ROWS, "measured": {}}
CHANCES = {"probability_before": float, "probability_after": float}
READING = {"group": str, "prompt": str, "before": str, "after": str, **CHANCES}
MEASURED = {"took": bool, "readings": [READING]}
EVENTS = {"added": MADE, "replaced": MADE, "undone": SAID, "redone": SAID}
ID = re.compile(r"[0-9]{1,12}")


def check_facts(facts: Mapping[str, Any]) -> None:
    """See that ``store.json`` names a model, an editor and a precision. Errors: `DataError` for the field."""
    _check(facts, FACTS, "")
    if facts["precision"] not in PRECISIONS:
        raise bad_field("precision", facts["precision"], " or ".join(PRECISIONS))


def check_event(event: Mapping[str, Any], known: Collection[str]) -> None:
    """See that a line of the log says all that its sort of event does, of the edits `known` before it.

    Errors: `DataError` for the field.
    """
    sort, name = event.get("event"), event.get("id")
    if not isinstance(sort, str) or sort not in EVENTS:
        raise bad_field("event", sort, " or ".join(EVENTS))
    _check(event, EVENTS[sort], "")
    if event.get("measured"):
        _check(event["measured"], MEASURED, "measured")
    made, old = "request" in EVENTS[sort], event.get("replaces", [])
    _check(old, [str], "replaces")
    if not ID.fullmatch(event["id"]) or made == (name in known):
        raise bad_field("id", name, "a number that no edit has yet" if made else "that of an edit before it")
    if not all(one in known for one in old):
        raise bad_field("replaces", old, "ids of edits before it")


def _check(found: Any, expected: Any, field: str) -> None:
    """See that a value is of a type, an object with such fields, or a list of such items."""
    kind = expected if isinstance(expected, type) else type(expected)
    types = (int, float) if kind is float else kind
    if not isinstance(found, types) or (isinstance(found, bool) and kind is not bool):
        raise _wrong(field, found, kind)
    if isinstance(found, dict):
        for name, inner in expected.items():
            _check(found.get(name), inner, f"{field}.{name}".lstrip("."))
    if isinstance(found, list):
        for item in found:
            _check(item, expected[0], field)


def _wrong(field: str, found: object, kind: type) -> DataError:
    return bad_field(field, found, EXPECTED.get(kind, "an object" if kind is dict else "a list"))
