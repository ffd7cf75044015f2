"""UltraEdit: an edit in one step from its own factors, normalised as those of the edits seen before."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone, Text
from instructedit.data.plain import plain_facts
from instructedit.delta import LowRankDelta
from instructedit.editors.covariance import insert_pairs, remember, update_statistics
from instructedit.editors.registry import Result
from instructedit.factors import Factors, capture
from instructedit.statistics import SiteStatistics
from instructedit.types import EditCase

BATCH = 16  # edits of the stream that are read at a time


@dataclass(frozen=True, kw_only=True)
class UltraEdit:
    """UltraEdit at the backbone's own MLP sites; there is no training, and a subject is not needed.

    In single mode every edit is the next one after the same stream: the `seen` first edits of the
    package's plain facts, whose factors give the running statistics. A gradient is divided
    by its edit's own size first and is not centred, as everywhere in this project. `units` says in what
    the ridge is solved: raw inputs as in the paper, or the site's, which is this project's transform
    before it is trained (with `step` 0.37). A sentiment is not told its polarity: its carrier is the target.
    """

    name: ClassVar[str] = "ultraedit"
    paper: ClassVar[str] = "Gu et al. 2025, arXiv 2505.14679"
    result: ClassVar[Result] = "delta"
    depth: ClassVar[float | None] = None

    step: float = 1e-6
    ridge: float = 1.0
    units: Literal["raw", "site"] = "raw"
    seen: int = 256

    def __post_init__(self) -> None:
        if self.units not in ("raw", "site") or self.seen < 1:
            raise ValueError("units are raw or site, and at least one edit has to be seen")

    def edit(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str] | None = None
    ) -> LowRankDelta:
        """One delta a case, each for the unedited model; instructions are not read."""
        factors = capture(backbone, [answer_text(backbone, case) for case in cases])
        statistics = remember(backbone, ("ultraedit", self.seen), lambda: self.watch(backbone))
        pairs = {name: self.solve(stats, factors, name) for name, stats in statistics.items()}
        return LowRankDelta({n: a for n, (a, _) in pairs.items()}, {n: b for n, (_, b) in pairs.items()})

    def watch(self, backbone: Backbone) -> dict[str, SiteStatistics]:
        """The running statistics of every site after the stream of edits."""
        statistics = {site.name: SiteStatistics(site.d_in, site.d_out, 0) for site in backbone.sites}
        cases = plain_facts("train")
        stride = max(1, len(cases) // self.seen)
        texts = [answer_text(backbone, case) for case in cases[::stride][: self.seen]]
        for stats in statistics.values():
            stats.to(backbone.device)
        for start in range(0, len(texts), BATCH):
            update_statistics(statistics, backbone, capture(backbone, texts[start : start + BATCH]))
        return statistics

    @torch.no_grad()
    def solve(
        self, stats: SiteStatistics, factors: Factors, name: str
    ) -> tuple[Float[Tensor, "b n d_in"], Float[Tensor, "b d_out n"]]:
        """The ridge solution (H.T H + I)^-1 H.T V of one site, with v = -step |h|^2 g of normalised h and g.

        In the site's units H is normalised itself and v = -step g, in units of what the site gives.
        """
        raw = factors.inputs[name]
        keys, gradients = stats.normalise(raw, factors.gradients[name], factors.mask)
        if self.units == "raw":
            values = -self.step * keys.square().sum(-1, keepdim=True) * gradients
            return insert_pairs(raw, raw, values, self.ridge)
        keys = keys / math.sqrt(keys.shape[-1])
        a, b = insert_pairs(keys, keys, -self.step * gradients, self.ridge)
        return a / (stats.spread * math.sqrt(keys.shape[-1])), b * stats.output_size


def answer_text(backbone: Backbone, case: EditCase) -> Text:
    """An edit's text, of which only the positions that predict the answer are used."""
    text = backbone.text(case.prompt, case.wanted or case.carrier)
    return replace(text, first=text.answer_start - 1)
