"""FT-L: fine-tuning of one layer whose weights may move by so much and no more."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.batches import Batches
from instructedit.editors.descent import Descent, dense_delta, edit_texts, fine_tune
from instructedit.editors.epochs import descend_together
from instructedit.editors.location import output_projections
from instructedit.editors.registry import Result
from instructedit.types import EditCase


@dataclass(frozen=True)
class FTL:
    """Minimise the NLL of the answer over one MLP output projection, subject to ``max |dW| <= radius``.

    Adam, and after each step a projection onto that ball. The constraint is Zhu et al.'s, in the L-infinity
    norm; layer, radius, rate, steps and the loss to stop at are those that ROME's authors (Meng et al. 2022,
    arXiv 2202.05262) chose for GPT-2 XL. A sentiment's target is its carrier, the same for both sentiments.
    """

    name: ClassVar[str] = "ft-l"
    paper: ClassVar[str] = "Zhu et al. 2020, arXiv 2012.00363"
    result: ClassVar[Result] = "delta"
    depth: ClassVar[float | None] = 0.0

    radius: float = 5e-4
    lr: float = 5e-4
    steps: int = 25
    loss: float = 0.01  # nats a token

    def edit(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str] | None = None
    ) -> LowRankDelta:
        """One full update of one layer a case; instructions are not read.

        Errors: `ModelError` when the backbone's sites hold no MLP output projection.
        """
        settings = Descent(self.steps, self.lr, loss=self.loss)
        return fine_tune(backbone, edit_texts(backbone, cases), settings, self._project)

    def in_sequence(self, backbone: Backbone) -> Batches[LowRankDelta]:
        """The method for one batch after another; the radius bounds what each batch moves."""
        return Batches(self.name, self.edit_together)

    def edit_together(self, backbone: Backbone, cases: Sequence[EditCase]) -> LowRankDelta:
        """One update for all cases (b = 1), `steps` epochs long; errors as `edit`."""
        texts, site = edit_texts(backbone, cases), output_projections(backbone)[0]
        start = {site.name: torch.zeros(1, site.d_out, site.d_in, device=backbone.device)}
        settings = Descent(self.steps, self.lr, loss=self.loss)
        return descend_together(backbone, texts, start, dense_delta, settings, self._project)

    def _project(self, update: Tensor) -> Tensor:
        return update.clamp(-self.radius, self.radius)
