"""Who is at work on what: lock files, so that several processes share one folder and none repeats another."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from instructedit.processes import runs, started

TOKEN = uuid4().hex  # of this process: a claim with its number and another token is of one that is gone
UNWRITTEN = 60.0  # seconds after which a claim that names nobody is taken for a dead one


class Claims:
    """Claims in one folder, each a file that only one process can create.

    A dead process's claim on the same host is taken over by creating the next file of its name, which again
    only one can do. A claim of another host is believed: remove its file when that machine is gone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def hold(self, name: str) -> Iterator[bool]:
        """Whether the claim is this block's; it is given back when the block ends."""
        path = self.take(name)
        try:
            yield path is not None
        finally:
            if path is not None:
                path.unlink(missing_ok=True)

    def take(self, name: str) -> Path | None:
        """The file of a new claim, or None where somebody alive has one.

        Whoever comes second sees the first's file: before creating one's own, in creating it, or right after
        (then it is withdrawn). So two never hold one name; at worst both of two withdraw.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        found = self._claims(name)
        if any(not is_dead(path) for path in found):
            return None
        last = max((int(path.name.rsplit(".", 2)[1]) for path in found), default=-1)
        mine = self.folder / f"{name}.{last + 1}.lock"
        try:
            handle = os.open(mine, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return None
        with os.fdopen(handle, "w") as file:
            json.dump(owner(), file)
        if any(not is_dead(path) for path in self._claims(name) if path != mine):
            mine.unlink(missing_ok=True)
            return None
        for path in found:
            path.unlink(missing_ok=True)
        return mine

    def _claims(self, name: str) -> list[Path]:
        return list(self.folder.glob(f"{name}.*.lock"))


def owner() -> dict[str, Any]:
    """This process, as its claims name it."""
    pid = os.getpid()
    return {"pid": pid, "host": socket.gethostname(), "token": TOKEN, "since": started(pid)}


def is_dead(path: Path) -> bool:
    """Whether the process behind a claim is known to be gone; one that cannot be asked counts as alive."""
    try:
        text, age = path.read_text(), time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return True
    try:
        claim = json.loads(text)
        pid, host, token = int(claim["pid"]), claim["host"], claim.get("token")
        since = claim.get("since", "")
    except (ValueError, KeyError, TypeError):  # created and not written to yet, or never
        return age > UNWRITTEN
    if host != socket.gethostname():
        return False
    if pid == os.getpid():
        return token != TOKEN
    return not runs(pid, since)
