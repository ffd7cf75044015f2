"""Which processes still run: a number alone does not tell, for it is given again."""

import os
from pathlib import Path


def started(process: int) -> str:
    """When a process was started, in the system's own ticks; empty where the system does not tell.

    Numbers are given again, the pair is not: a container that is started anew has the old ones at once.
    """
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def runs(process: int, since: str = "") -> bool:
    """Whether a process runs, the one that was started then where `since` says when; in doubt it does."""
    if os.name != "posix":
        return True  # elsewhere the question would end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # another user's
    return not since or started(process) in ("", since)
