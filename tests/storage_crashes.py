"""A folder that is replaced, stopped at the n-th step; run as a program, it is so for every n.

`python storage_crashes.py FOLDER HOW` lays down FOLDER/n/result for every n. HOW is as in ledger_crashes.
"""

import os
import sys
from pathlib import Path

from instructedit.errors import OutputError
from instructedit.storage import new_folder, write_json
from ledger_crashes import Fuse


def run(place: Path, limit: int, how: str) -> int:
    """Replace a folder in a child process that is stopped at step `limit`, 0: never; its steps then."""
    write_json(place / "result" / "old", ["whole"])
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        os.waitpid(child, 0)
        return int(os.fdopen(reading).read() or 0)
    fuse = Fuse(limit, how)
    write = os.write
    try:
        fuse.arm()
        with new_folder(place / "result", force=True) as folder:
            write_json(folder / "new", ["whole"])
    except OutputError:
        pass
    finally:
        write(writing, str(fuse.count).encode())
        os._exit(0)


def main(root: Path, how: str) -> None:
    steps = run(root / "0", 0, how)
    for limit in range(1, steps + 1):
        run(root / str(limit), limit, how)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
