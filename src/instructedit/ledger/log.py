"""The lines of a record: appended whole, each with its number and a checksum, and never changed again."""

import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from instructedit.errors import DataError
from instructedit.storage import cannot_write

Event = dict[str, Any]
MARK = b', "check": "'
END = b'"}'


class UnfinishedLine(UserWarning):
    """The last line of a log, or its last change, is not whole, and does not count."""


def encode_line(event: Mapping[str, Any]) -> bytes:
    """One JSON object on one line; its last field is the start of the SHA-256 of all before it.

    Errors: `DataError` for text that is not Unicode, such as half of a surrogate pair.
    """
    try:
        body = json.dumps(event, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"an edit holds text that is not Unicode: {error}. Write it in UTF-8.") from error
    return body[:-1] + MARK + _digest(body) + END + b"\n"


def decode_line(line: bytes) -> Event | None:
    """What `encode_line` was given; None for a line that is not as it was written."""
    head, mark, tail = line.rstrip(b" ").rpartition(MARK)  # spaces: see `_write`
    body = head + b"}"
    if not mark or tail != _digest(body) + END:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def read_log(path: Path) -> list[Event]:
    """The events of a log, in order; event n stands at place n - 1.

    What was being written when its writer stopped does not count, and `UnfinishedLine` is warned of: a line
    at the end that is cut short, and the lines of one change (``batch`` n ``of`` m) of which the last is not
    there. The next writer leaves it there and goes on behind it.
    Errors: `DataError` when the file cannot be read, or a line that counted is broken or gone.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}. Expected the log of a store.") from error
    events: list[Event] = []
    begun: list[Event] = []  # lines of a change whose last one is still to come
    broken = 0
    for place, line in enumerate(lines, 1):
        event = decode_line(line)
        if event is None:
            broken = place if line else broken
            continue
        if event.get("n") == len(events) + 1:
            begun = []  # what was begun before was given up
        elif event.get("n") != len(events) + len(begun) + 1:
            raise DataError(
                f"{path}, line {place}: found event {event.get('n')}, expected "
                f"{len(events) + len(begun) + 1}. Lines were changed or lost: put the file back from a copy, "
                "and leave it alone from then on."
            )
        begun.append(event)
        if event.get("batch") == event.get("of"):
            events += begun
            begun = []
        broken = 0
    _tell_end(path, lines, broken, begun)
    return events


def _tell_end(path: Path, lines: Sequence[bytes], broken: int, begun: Sequence[Event]) -> None:
    """Warn of an end that does not count.

    Errors: `DataError` for a line that was written to its end, and is not as it was.
    """
    if broken and broken < len(lines) and lines[broken - 1].endswith(b"}"):
        raise DataError(
            f"{path}, line {broken}: its checksum differs, though it was written to its end. Put the file "
            "back from a copy, or delete the line: then what it did is not done."
        )
    if broken or begun:
        what = f"line {broken}" if broken else f"the change that event {begun[0]['n']} begins"
        warnings.warn(
            f"{path}, {what} is not whole: a writer is at work or was stopped. It does not count.",
            UnfinishedLine,
            stacklevel=3,
        )


def append_log(path: Path, events: Sequence[Mapping[str, Any]], after: int) -> list[Event]:
    """Write events behind the first `after` ones, numbered, and wait until the disk has them.

    They are one change: each of several says which it is of how many, and none counts without the last.
    Errors: `OutputError` when the disk is full or writing is not allowed; the file is as it was then.
    """
    numbered: list[Event] = []
    for place, event in enumerate(events, 1):
        several = {"batch": place, "of": len(events)} if len(events) > 1 else {}
        numbered.append({"n": after + place, **several, **event})
    payload = b"".join(encode_line(event) for event in numbered)
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND)
        try:
            _write(handle, payload)
        finally:
            os.close(handle)
    except OSError as error:
        raise cannot_write(path, error) from error
    return numbered


def _write(handle: int, payload: bytes) -> None:
    size = os.fstat(handle).st_size
    if size and os.pread(handle, 1, size - 1) != b"\n":
        payload = b" \n" + payload  # closes the line that was never finished, as no whole one ends
    try:
        while payload:
            payload = payload[os.write(handle, payload) :]
        os.fsync(handle)
    except OSError:
        with suppress(OSError):
            os.ftruncate(handle, size)
        raise


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:16].encode()
