"""A batch of edits that a method makes as one update of the model as edited so far."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.editors.descent import Made
from instructedit.types import EditCase


@dataclass(frozen=True)
class Batches(Generic[Made]):
    """A method for one batch after another that keeps nothing of earlier ones but the model they edited.

    `make` turns all cases of a batch into one change, b = 1.
    """

    name: str
    make: Callable[[Backbone, Sequence[EditCase]], Made]

    @property
    def memory(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def edit(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str] | None = None
    ) -> Made:
        """One change, b = 1, of all cases together, for the model as it is now; instructions are not read."""
        return self.make(backbone, cases)
