"""LoRA: an adapter of low rank at every site, trained on the one case."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.batches import Batches
from instructedit.editors.descent import Descent, descend, edit_texts
from instructedit.editors.epochs import descend_together
from instructedit.editors.registry import Result
from instructedit.types import EditCase


@dataclass(frozen=True)
class LoRA:
    """Train ``dW = (alpha / rank) B A`` at the backbone's own sites, A Gaussian and B zero at the start.

    Equation 3 of Hu et al., section 4.1, with `alpha` equal to the rank as they keep it; the paper edits no
    facts, so rank, rate and steps are the common ones of its use as an editor. Every case starts from the
    same A. A sentiment's target is its carrier, the same for both sentiments.
    """

    name: ClassVar[str] = "lora"
    paper: ClassVar[str] = "Hu et al. 2021, arXiv 2106.09685"
    result: ClassVar[Result] = "delta"
    depth: ClassVar[float | None] = None

    rank: int = 8
    alpha: float = 8.0
    lr: float = 5e-3
    steps: int = 70
    weight_decay: float = 0.0
    loss: float = 0.01  # nats a token
    seed: int = 0  # of A

    def edit(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str] | None = None
    ) -> LowRankDelta:
        """One adapter a case; instructions are not read."""
        settings = Descent(self.steps, self.lr, self.weight_decay, self.loss)
        start = self._start(backbone, len(cases))
        return descend(backbone, edit_texts(backbone, cases), start, self._delta, settings)

    def in_sequence(self, backbone: Backbone) -> Batches[LowRankDelta]:
        """The method for one batch after another: an adapter a batch, on top of those before."""
        return Batches(self.name, self.edit_together)

    def edit_together(self, backbone: Backbone, cases: Sequence[EditCase]) -> LowRankDelta:
        """One adapter for all cases (b = 1), `steps` epochs long."""
        settings = Descent(self.steps, self.lr, self.weight_decay, self.loss)
        texts = edit_texts(backbone, cases)
        return descend_together(backbone, texts, self._start(backbone, 1), self._delta, settings)

    def _start(self, backbone: Backbone, cases: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        start: dict[str, Tensor] = {}
        for site in backbone.sites:
            a = torch.randn(self.rank, site.d_in, generator=generator) / site.d_in**0.5
            start[f"{site.name}.a"] = a.to(backbone.device).repeat(cases, 1, 1)
            start[f"{site.name}.b"] = torch.zeros(cases, site.d_out, self.rank, device=backbone.device)
        return start

    def _delta(self, parameters: dict[str, Tensor]) -> LowRankDelta:
        scale = self.alpha / self.rank
        return LowRankDelta(
            {name[:-2]: x for name, x in parameters.items() if name.endswith(".a")},
            {name[:-2]: scale * x for name, x in parameters.items() if name.endswith(".b")},
        )
