"""One piece of work at a model: how far it is, and whether it shall stop."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock

from instructedit.errors import InstructEditError

Tell = Callable[[float, str], None]  # the share that is done, and what is being done
WAIT = 0.2  # seconds between two looks at whether a waiting person still wants it


class WorkCancelledError(InstructEditError):
    """Work that is not wanted any more."""

    exit_code = 130


def tell_nobody(_share: float, _what: str) -> None:
    """Say nothing: for work that nobody watches."""


@dataclass
class Work:
    """Whoever works calls `step` and `check`; whoever waits listens to `tell` and may set `stop`.

    What is `settled` cannot be cancelled any more: its result is kept already.
    """

    tell: Tell = tell_nobody
    stop: Event = field(default_factory=Event)
    settled: bool = False

    def check(self) -> None:
        """Go on, or not.

        Errors: `WorkCancelledError` when the work is not wanted any more.
        """
        if self.stop.is_set() and not self.settled:
            raise WorkCancelledError("Cancelled: nothing was changed.")

    def step(self, done: int, total: int, what: str) -> None:
        """Say how far the work is, and stop where that was asked for.

        Errors: as `check`.
        """
        self.check()
        self.tell(min(done / total, 1.0) if total else 0.0, what)

    @contextmanager
    def hold(self, lock: Lock, what: str) -> Iterator[None]:
        """Have a lock inside the block; while others have it, say `what` is waited for.

        Errors: as `check`, also while it is waited for.
        """
        while not lock.acquire(timeout=WAIT):
            self.step(0, 1, what)
        try:
            self.check()
            yield
        finally:
            lock.release()
