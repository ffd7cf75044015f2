"""One writer at a time: a lock that the system takes back when its holder ends, however that ends."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from instructedit.errors import OutputError
from instructedit.storage import cannot_write

LOCK = "lock"
LOOKS = (0.02, 0.05, 0.1)  # seconds that a look at the lock may take


@contextmanager
def hold_lock(folder: Path) -> Iterator[None]:
    """Be the only writer of a folder for as long as the block lasts.

    Errors: `OutputError` that names the holder when there is another writer, and when the folder cannot be
    written.
    """
    path = folder / LOCK
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        _take(handle, folder)
        yield
    finally:
        os.close(handle)


def is_held(folder: Path) -> bool:
    """Whether a folder has a writer at this moment; nothing is written to see it."""
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return False  # no writer was ever here, or nobody may look
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def _try(handle: int) -> None:
    """Lock; whoever only looks whether there is a writer is waited for."""
    for wait in LOOKS:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(wait)
    return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _take(handle: int, folder: Path) -> None:
    try:
        _try(handle)
    except BlockingIOError as error:
        holder = os.pread(handle, 200, 0).decode(errors="replace").strip() or "another process"
        raise OutputError(
            f"{folder} is being written by {holder}. Two writers at once are not allowed: wait until it is "
            "done, then run it again."
        ) from error
    except OSError as error:
        raise cannot_write(folder / LOCK, error) from error
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with suppress(OSError):  # who holds it is a courtesy: the lock is the system's
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()} since {now}\n".encode(), 0)
