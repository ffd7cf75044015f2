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
    """The last line of a log is not whole, and does not count."""


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
    head, mark, tail = line.rpartition(MARK)
    body = head + b"}"
    if not mark or tail != _digest(body) + END:
        return None
    return json.loads(body)


def read_log(path: Path) -> list[Event]:
    """The events of a log, in order; event n stands at place n - 1.

    A line without a right checksum at the end was being written when its writer stopped: it does not count,
    and `UnfinishedLine` is warned of. The next writer leaves it there and goes on behind it.
    Errors: `DataError` when the file cannot be read, or a line that counted is broken or gone.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}. Expected the log of a store.") from error
    events: list[Event] = []
    broken = 0
    for place, line in enumerate(lines, 1):
        event = decode_line(line)
        if event is None:
            broken = place if line else broken
            continue
        if event.get("n") != len(events) + 1:
            raise DataError(
                f"{path}, line {place}: found event {event.get('n')}, expected {len(events) + 1}. Lines were "
                "changed or lost: put the file back from a copy, and leave it alone from then on."
            )
        events.append(event)
        broken = 0
    if broken:
        warnings.warn(
            f"{path}, line {broken} is not whole: a writer is at work or was stopped. It does not count.",
            UnfinishedLine,
            stacklevel=2,
        )
    return events


def append_log(path: Path, events: Sequence[Mapping[str, Any]], after: int) -> list[Event]:
    """Write events behind the first `after` ones, numbered, and wait until the disk has them.

    Errors: `OutputError` when the disk is full or writing is not allowed; the file is as it was then.
    """
    numbered = [{"n": after + place, **event} for place, event in enumerate(events, 1)]
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
    if size and os.pread(handle, 1, size - 1) != b"\n":  # close the line that was never finished
        payload = b"\n" + payload
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
