"""Batches of edits that add up in one model: each is made on the model as edited so far."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.descent import dense_delta
from instructedit.types import EditCase

CHUNK = 16  # edits that are made side by side at one time


@dataclass
class SummedEdits:
    """The edits of any other editor: every batch is made on the model as edited so far, and added.

    The sum is one full matrix a site ``[d_out d_in]``, however many edits it holds. An editor with a
    `memory` is given whole batches and makes one delta of each; any other makes the edits of a batch side by
    side, `CHUNK` at a time, and they are summed.
    """

    editor: Any
    backbone: Backbone
    updates: dict[str, Float[Tensor, "_ _"]] = field(default_factory=dict)
    count: int = 0

    @property
    def delta(self) -> LowRankDelta:
        """All the edits as one delta, b = 1."""
        return dense_delta({name: update[None] for name, update in self.updates.items()})

    @property
    def memory(self) -> dict[str, Tensor]:
        """What the editor itself knows of earlier edits; most know nothing."""
        return getattr(self.editor, "memory", {})

    @memory.setter
    def memory(self, tensors: dict[str, Tensor]) -> None:
        if tensors:
            self.editor.memory = tensors

    def add(self, cases: Sequence[EditCase], instructions: Sequence[str]) -> None:
        """Edit once more, on top of what is there."""
        step = len(cases) if hasattr(type(self.editor), "memory") else CHUNK
        made: dict[str, Tensor] = {}
        with self.delta.applied_to(self.backbone.model):
            for start in range(0, len(cases), step):
                part = slice(start, start + step)
                change = self.editor.edit(self.backbone, cases[part], instructions[part]).merge()
                for name in change.a:
                    made[name] = change.dense(name)[0].detach() + made.get(name, 0)
        for name, update in made.items():
            self.updates[name] = update + self.updates.get(name, 0)
        self.keep(cases, instructions)

    def keep(self, cases: Sequence[EditCase], _instructions: Sequence[str]) -> None:
        """Count some edits as made."""
        self.count += len(cases)
