"""LocFT-BF: plain fine-tuning of one well-chosen layer, over all edits at once where there are several."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.batches import Batches
from instructedit.editors.descent import Descent, dense_delta, edit_texts, fine_tune
from instructedit.editors.epochs import descend_together
from instructedit.editors.location import output_projections
from instructedit.editors.registry import Result
from instructedit.types import EditCase


@dataclass(frozen=True)
class LocFTBF:
    """Fine-tuning as it is done elsewhere: epochs of mini-batches, and the loss on the answer's tokens only.

    One MLP output projection is trained, without a bound on its change. The paper finds late layers best
    (block 22 of 32 for Llama-3-8B, with the rate, steps and batch that stand here) and counts the end token
    into the answer. A single edit leaves nothing to batch: it is trained until its answer is the model's
    first choice. A sentiment's target is its carrier, the same for both sentiments.
    """

    name: ClassVar[str] = "locft-bf"
    paper: ClassVar[str] = "Yang et al. 2025, arXiv 2509.22072"
    result: ClassVar[Result] = "delta"
    depth: ClassVar[float | None] = 0.7

    lr: float = 5e-4
    steps: int = 25  # epochs, where several cases are edited together
    weight_decay: float = 0.0
    loss: float = 0.01  # nats a token
    first_choice: bool = True  # else only `loss` and `steps` say when to stop
    end: bool = True
    batch: int = 100
    seed: int = 0  # of the order in which cases are edited together

    @property
    def _settings(self) -> Descent:
        return Descent(self.steps, self.lr, self.weight_decay, self.loss, self.first_choice)

    def edit(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str] | None = None
    ) -> LowRankDelta:
        """One full update of one layer a case; instructions are not read.

        Errors: `ModelError` when the backbone's sites hold no MLP output projection.
        """
        return fine_tune(backbone, edit_texts(backbone, cases, self.end), self._settings)

    def edit_together(self, backbone: Backbone, cases: Sequence[EditCase]) -> LowRankDelta:
        """One update for all cases (b = 1), breadth first: every epoch passes once over all of them.

        A case that is done at its turn gives no gradient in that turn. Errors: as `edit`.
        """
        texts, site = edit_texts(backbone, cases, self.end), output_projections(backbone)[0]
        start = {site.name: torch.zeros(1, site.d_out, site.d_in, device=backbone.device)}
        return descend_together(
            backbone, texts, start, dense_delta, self._settings, batch=self.batch, seed=self.seed
        )

    def in_sequence(self, backbone: Backbone) -> Batches[LowRankDelta]:
        """The method for one batch after another: each is trained on the model with those before."""
        return Batches(self.name, self.edit_together)
