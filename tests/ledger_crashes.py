"""A writer of a store that is stopped at its n-th step; run as a program, it is so for every n.

`python ledger_crashes.py FOLDER HOW` lays down FOLDER/n for every n: the store, what was exported, and
`said`, what the writer had acknowledged. HOW is kill (SIGKILL), full or readonly (the disk, from then on).
"""

import errno
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from instructedit.data import case_from_request
from instructedit.errors import OutputError
from instructedit.ledger.requests import write_requests
from instructedit.ledger.store import SUMS, Store, create_store
from instructedit.ledger.writer import Draft, open_writer
from instructedit.storage import new_folder, write_atomic
from instructedit.types import EditCase

REAL = {name: getattr(os, name) for name in ("write", "open", "fdopen", "fsync")}
STEPS = ("mkdir", "pwrite", "ftruncate", "chmod", "replace", "rename", "unlink", "rmdir")
SURE = ("ftruncate", "chmod", "unlink", "rmdir")  # what a full disk still does
REASONS = {"full": errno.ENOSPC, "readonly": errno.EROFS}
WEIGHTS = b"w" * 300


def parts(data: bytes) -> list[bytes]:
    """What is written, in four pieces: a stop may come between any two."""
    cuts = [len(data) * quarter // 4 for quarter in range(5)]
    return [data[start:end] for start, end in pairwise(cuts)]


class Fuse:
    """Stops the process, or fails what writes, from the n-th step on."""

    def __init__(self, limit: int, how: str) -> None:
        self.count, self.limit, self.how = 0, limit, how

    def step(self, *, sure: bool = False) -> None:
        if sure and self.how != "kill":
            return
        self.count += 1
        if self.limit and self.count >= self.limit:
            if self.how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            reason = REASONS[self.how]
            raise OSError(reason, os.strerror(reason))

    def wrap(self, name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any, **options: Any) -> Any:
            self.step(sure=name in SURE)
            return real(*args, **options)

        return call

    def open(self, path: Any, flags: int, *args: Any, **options: Any) -> int:
        writes = os.O_CREAT | (os.O_RDWR if self.how == "readonly" else 0)
        self.step(sure=not flags & writes)
        return REAL["open"](path, flags, *args, **options)

    def write(self, handle: int, data: bytes) -> int:
        for part in parts(data):
            self.step()
            REAL["write"](handle, part)
        return len(data)

    def fsync(self, _handle: int) -> None:
        self.step()

    def fdopen(self, handle: int, mode: str) -> "TornFile":
        return TornFile(REAL["fdopen"](handle, mode), self)

    def arm(self) -> None:
        for name in STEPS:
            setattr(os, name, self.wrap(name))
        for name in REAL:
            setattr(os, name, getattr(self, name))


class TornFile:
    """A file whose writing has steps in between."""

    def __init__(self, file: Any, fuse: Fuse) -> None:
        self.file, self.fuse = file, fuse

    def write(self, data: bytes) -> None:
        for part in parts(data):
            self.fuse.step()
            self.file.write(part)
            self.file.flush()

    def __enter__(self) -> "TornFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def add(store: Path, numbers: list[int], replaces: tuple[str, ...] = (), *, sums: bool = False) -> None:
    """Add edits with made-up rows; with `sums`, these are kept as those that the edits were solved from."""
    with open_writer(store) as writer:
        drafts = []
        for name, number in zip(writer.new_ids(len(numbers)), numbers, strict=True):
            rows = writer.keep_rows(name, WEIGHTS + bytes([number]))
            drafts.append(Draft(name, EditCase(f"Prompt {number} is", "Rome"), "Change it.", rows, replaces))
        if sums:
            with suppress(OutputError):  # as `sum_up` does
                write_atomic(store / SUMS, WEIGHTS)
        writer.add(drafts, by="a test")


def use(place: Path, say: Callable[[int], None]) -> None:
    """Everything that is done to a store, telling after each change how many events are acknowledged."""
    store = place / "store"
    add(store, [1])
    say(1)
    add(store, [2, 3], sums=True)
    say(3)
    with open_writer(store) as writer:
        writer.undo(["1", "2"])
    say(5)
    with open_writer(store) as writer:
        writer.redo(["2"])
    say(6)
    add(store, [4], replaces=("0003",))
    say(7)
    write_requests(Store(store), place / "out.jsonl")
    with new_folder(place / "lora") as folder:
        write_atomic(folder / "adapter_config.json", "{}")
        write_atomic(folder / "adapter_model.safetensors", WEIGHTS)


def run(root: Path, name: str, limit: int, how: str) -> None:
    """Use a copy of the store in a child process that is stopped at step `limit`; 0: never."""
    place = root / name
    shutil.copytree(root / "base", place / "store")
    said = os.open(place / "said", os.O_WRONLY | os.O_CREAT, 0o644)
    child = os.fork()
    if child:
        os.close(said)
        os.waitpid(child, 0)
        return
    fuse = Fuse(limit, how)
    try:
        fuse.arm()
        use(place, lambda count: REAL["write"](said, f"{count}\n".encode()))
        REAL["write"](said, f"steps {fuse.count}\n".encode())
    except OutputError as error:
        REAL["write"](said, f"error {error}\n".encode())
    except BaseException:
        REAL["write"](said, f"broken {traceback.format_exc()}\n".encode())
    finally:
        os._exit(0)


def main(root: Path, how: str) -> None:
    case_from_request({"prompt": "A is", "target_new": "B"})  # the layouts are read here, not in each child
    create_store(root / "base", {"name": "tiny", "checksum": "m"}, {"name": "tiny", "checksum": "e"})
    run(root, "whole", 0, how)
    steps = int((root / "whole" / "said").read_text().split()[-1])
    assert "torch" not in sys.modules  # or this would take minutes
    for limit in range(1, 2 if how == "readonly" else steps + 1):
        run(root, str(limit), limit, how)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
