"""A loaded model with its editor, which one piece of work at a time may use."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from jaxtyping import Float
from torch import Tensor

from instructedit.app.work import Work
from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.instructed import InstructedEditor
from instructedit.export.record import base_path
from instructedit.ledger.adding import solve_entries
from instructedit.ledger.store import Store

SOLVED = 6  # updates that are kept; each is about as large as the weights that it changes
SOLVED_BYTES = 1 << 30  # that they may take together; the latest is kept however large it is


@dataclass
class Pair:
    """A model and an editor that was trained for it; `name` is what strangers see of the editor.

    `solved` holds the latest updates of stores, by the checksums of what they are solved from; `directions`
    those of edits of each kind, by stage, once they were asked for.
    """

    name: str
    backbone: Backbone
    editor: InstructedEditor
    lock: Lock = field(default_factory=Lock)
    solved: OrderedDict[tuple[str, ...], LowRankDelta] = field(default_factory=OrderedDict)
    directions: dict[str, Float[Tensor, "n _"]] = field(default_factory=dict)

    @property
    def model_name(self) -> str:
        """The model as a stranger may see it: a folder without the way to it."""
        return Path(base_path(self.backbone)).name

    @property
    def folders(self) -> list[Path]:
        """Where the model lies on this machine: nowhere, of one that is named by its hub id."""
        places = (Path(base_path(self.backbone)), Path(self.backbone.name))
        return [place for place in places if place.is_absolute() or place.exists()]

    @contextmanager
    def at_work(self, work: Work) -> Iterator[None]:
        """Be the only one who uses the model inside the block; it stops at the next pass when cancelled.

        Errors: `WorkCancelledError`, also while others are waited for.
        """
        with work.hold(self.lock, "Waiting until the model is free"):
            hook = self.backbone.model.base_model.register_forward_pre_hook(lambda *_: work.check())
            try:
                yield
            finally:
                hook.remove()

    def solve(self, store: Store) -> LowRankDelta | None:
        """The one update of all edits of a store that are in force; None when there are none.

        Errors: `DataError` when rows are missing or broken.
        """
        if not store.in_force:
            return None
        key = _contents(store)
        if key not in self.solved:
            self.keep(store, solve_entries(store, self.backbone, self.editor, store.in_force))
        self.solved.move_to_end(key)
        return self.solved[key]

    def keep(self, store: Store, delta: LowRankDelta) -> None:
        """Remember the update of a store as it is now; the one not asked for longest makes room."""
        self.solved[_contents(store)] = delta
        self.solved.move_to_end(_contents(store))
        while len(self.solved) > 1 and (len(self.solved) > SOLVED or self._solved_bytes() > SOLVED_BYTES):
            self.solved.popitem(last=False)

    def _solved_bytes(self) -> int:
        sides = [side for delta in self.solved.values() for side in (delta.a, delta.b)]
        return sum(part.nbytes for side in sides for part in side.values())


def _contents(store: Store) -> tuple[str, ...]:
    """What the update of a store is solved from: a folder and a number of events may be those of another."""
    return tuple(entry.made["rows"]["sha256"] for entry in store.in_force)
