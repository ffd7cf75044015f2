"""ROME: one fact written into one MLP as one key and one value; and what the methods after it share."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.batches import Batches
from instructedit.editors.covariance import divide, insert_pairs, ordinary_factors
from instructedit.editors.location import CONTEXTS, Located, locate, moved, output_projections, read_keys
from instructedit.editors.registry import Result
from instructedit.editors.tails import cut_texts
from instructedit.factors import answer_nll
from instructedit.metrics.tokens import kl_divergence
from instructedit.types import EditCase

BATCH = 8  # cases whose vectors are looked for side by side: bounds the memory


@dataclass(frozen=True, kw_only=True)
class ValueSearch(ABC):
    """How the vector that makes the model give the answer is looked for: Adam, with ROME's settings.

    `text` names a plain text or JSON-lines file of ordinary text for the covariance of keys; empty: the
    package's own ordinary text.
    """

    steps: int = 20
    lr: float = 0.5
    decay: float = 0.5  # times the vector's norm, over the square of the norm it is added to
    kl: float = 0.0625  # weight of what the essence prompt, "{subject} is a", changes
    clamp: float = 4.0  # the most that its norm may be, in units of the norm it is added to
    contexts: int = 4  # the bare prompt, and neutral sentences in front of it
    text: str = ""

    def __post_init__(self) -> None:
        if self.steps < 1 or not 1 <= self.contexts <= len(CONTEXTS):
            raise ValueError(f"steps are 1 or more and contexts 1 to {len(CONTEXTS)}")

    def edit(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str] | None = None
    ) -> LowRankDelta:
        """One delta a case, each for the unedited model; instructions are not read."""
        starts = range(0, len(cases), BATCH)
        parts = [self.insert(backbone, cases[start : start + BATCH]) for start in starts]
        return LowRankDelta(
            {name: torch.cat([part.a[name] for part in parts]) for name in parts[0].a},
            {name: torch.cat([part.b[name] for part in parts]) for name in parts[0].b},
        )

    @abstractmethod
    def insert(self, backbone: Backbone, cases: Sequence[EditCase]) -> LowRankDelta:
        """The same for a few cases."""

    def find(self, backbone: Backbone, module: nn.Module, located: Located) -> Float[Tensor, "b d"]:
        """What the module shall give at the subject's last token of the bare prompt: its output and a vector.

        Minimises, for each case alone, the loss on the answer over contexts, the KL of the essence prompt
        to the unedited model, and the decay. Source: ROME, section 3.1, step 2; MEMIT (arXiv 2210.07229),
        eq. 16.
        """
        tails = cut_texts(backbone, located.texts, located.hidden, located.places)
        count, places = located.count, located.places - tails.firsts
        ends = [len(text.ids) - 1 for text in tails.texts[-count:]]
        shift = torch.zeros(count, backbone.width, device=backbone.device, requires_grad=True)
        adam = torch.optim.Adam([shift], lr=self.lr)
        start = before = shift.detach()
        for step in range(self.steps):
            with torch.enable_grad(), moved(module, shift[located.owner], places) as seen:
                top = tails.top(backbone)
                asked, essence = top[: located.requests], top[located.requests :]
                now = backbone.logits(essence[list(range(count)), ends]).float()
                if step == 0:
                    start, before = located.bare(seen[0]), now.detach()
                loss = answer_nll(backbone, asked, tails.texts[: located.requests]).view(count, -1).mean(1)
                loss = loss + self.kl * kl_divergence(now, before)
                loss = loss + self.decay * shift.norm(dim=1) / start.norm(dim=1).square()
                (shift.grad,) = torch.autograd.grad(loss.sum(), [shift])
            adam.step()
            with torch.no_grad():
                most = self.clamp * start.norm(dim=1) / shift.norm(dim=1).clamp(min=1e-12)
                shift.mul_(most.clamp(max=1.0)[:, None])
        return start + shift.detach()


@dataclass(frozen=True, kw_only=True)
class ROME(ValueSearch):
    """ROME with the settings of GPT2-XL, whose block 17 of 48 it edits.

    A sentiment is not told its polarity: its carrier is the target.
    """

    name: ClassVar[str] = "rome"
    paper: ClassVar[str] = "Meng et al. 2022, arXiv 2202.05262"
    result: ClassVar[Result] = "delta"
    depth: ClassVar[float | None] = 0.36

    def in_sequence(self, backbone: Backbone) -> Batches[LowRankDelta]:
        """The method for many edits: one after another, each for the model with those before.

        It has no closed form for several. Ordinary text is read here, by the model as it is.
        """
        ordinary_factors(backbone, [output_projections(backbone)[-1].name], self.text)
        return Batches(self.name, self.insert_in_turn)

    def insert_in_turn(self, backbone: Backbone, cases: Sequence[EditCase]) -> LowRankDelta:
        """One delta, b = 1: each case is inserted into the model with the cases before it."""
        delta = LowRankDelta({}, {})
        for case in cases:
            with delta.applied_to(backbone.model):
                one = self.insert(backbone, [case])
            delta = delta + one
        return delta

    @torch.no_grad()
    def insert(self, backbone: Backbone, cases: Sequence[EditCase]) -> LowRankDelta:
        """W + Lambda (C^-1 k*).T with Lambda = (v* - W k*) / (C^-1 k*).T k*, so that k* gives v* (eq. 2)."""
        site = output_projections(backbone)[-1]
        module = backbone.modules[site.name]
        located = locate(backbone, cases, self.contexts)
        values = self.find(backbone, module, located)
        keys = read_keys(backbone, located, site)
        residuals = values[:, None] - module(keys.to(backbone.dtype)).float().to(values.device)
        factor = ordinary_factors(backbone, [site.name], self.text)[site.name]
        a, b = insert_pairs(keys, divide(keys, factor), residuals, 0.0)
        return LowRankDelta({site.name: a}, {site.name: b})
