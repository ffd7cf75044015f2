"""Progress bars: on the terminal only, and never where a machine reads."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Item = TypeVar("Item")

_silent: ContextVar[bool] = ContextVar("silent", default=False)


@contextmanager
def silent() -> Iterator[None]:
    """Show no progress bar inside the block, whoever asks for one."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def track(iterable: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """Give the items one by one and show how far along they are, with the time left, on stderr.

    `total` is needed where `iterable` has no length. Silent inside `silent()` and when stderr is no terminal.
    """
    if _silent.get() or not sys.stderr.isatty():
        yield from iterable
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield from bar.track(iterable, total=total, description=description)
