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
        pairs = {n: self.solve(stats, *self.rows(stats, factors, n)) for n, stats in statistics.items()}
        return LowRankDelta.of_pairs(pairs)

    def in_sequence(self, backbone: Backbone) -> "UltraEditSequence":
        """The method for one batch after another in one model: its statistics are those of the edits made."""
        return UltraEditSequence(self, empty_statistics(backbone))

    def watch(self, backbone: Backbone) -> dict[str, SiteStatistics]:
        """The running statistics of every site after the stream of edits."""
        statistics = empty_statistics(backbone)
        cases = plain_facts("train")
        stride = max(1, len(cases) // self.seen)
        texts = [answer_text(backbone, case) for case in cases[::stride][: self.seen]]
        for start in range(0, len(texts), BATCH):
            update_statistics(statistics, backbone, capture(backbone, texts[start : start + BATCH]))
        return statistics

    @torch.no_grad()
    def rows(
        self, stats: SiteStatistics, factors: Factors, name: str
    ) -> tuple[Float[Tensor, "b n d_in"], Float[Tensor, "b n d_out"]]:
        """What the ridge of one site is solved from: raw h, and v = -step |h|^2 g of normalised h and g.

        In the site's units h is normalised itself and v = -step g, in units of what the site gives.
        Source: the authors' code, with the identity as ridge.
        """
        raw = factors.inputs[name]
        keys, gradients = stats.normalise(raw, factors.gradients[name], factors.mask)
        if self.units == "raw":
            return raw, -self.step * keys.square().sum(-1, keepdim=True) * gradients
        return keys / math.sqrt(keys.shape[-1]), -self.step * gradients

    @torch.no_grad()
    def solve(
        self, stats: SiteStatistics, keys: Float[Tensor, "b n d_in"], values: Float[Tensor, "b n d_out"]
    ) -> tuple[Float[Tensor, "b n d_in"], Float[Tensor, "b d_out n"]]:
        """The ridge solution (H.T H + I)^-1 H.T V of one site, in the units of the layer."""
        a, b = insert_pairs(keys, keys, values, self.ridge)
        if self.units == "raw":
            return a, b
        return a / (stats.spread * math.sqrt(keys.shape[-1])), b * stats.output_size


@dataclass
class UltraEditSequence:
    """UltraEdit for one batch after another: a batch joins the moments of all edits so far, then is solved.

    Nothing but these moments is kept of earlier edits, so they take as much room for a thousand as for one;
    the rows of a whole batch are in memory at one time. Source: the paper's lifelong normalisation.
    """

    method: UltraEdit
    statistics: dict[str, SiteStatistics]

    @property
    def name(self) -> str:
        """The method's."""
        return self.method.name

    @property
    def memory(self) -> dict[str, Tensor]:
        """The moments, by site and buffer."""
        return {f"{n}/{key}": x for n, stats in self.statistics.items() for key, x in stats.named_buffers()}

    @memory.setter
    def memory(self, tensors: dict[str, Tensor]) -> None:
        for name, stats in self.statistics.items():
            stats.load_state_dict({key: tensors[f"{name}/{key}"] for key, _ in stats.named_buffers()})

    def edit(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str] | None = None
    ) -> LowRankDelta:
        """One delta, b = 1, of all cases together, for the model as it is now; instructions are not read."""
        texts = [answer_text(backbone, case) for case in cases]
        parts = [capture(backbone, texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
        for part in parts:
            update_statistics(self.statistics, backbone, part)
        a: dict[str, Tensor] = {}
        b: dict[str, Tensor] = {}
        for name, stats in self.statistics.items():
            rows = [(part.mask, *self.method.rows(stats, part, name)) for part in parts]
            keys = torch.cat([each[mask] for mask, each, _ in rows])[None]
            values = torch.cat([each[mask] for mask, _, each in rows])[None]
            a[name], b[name] = self.method.solve(stats, keys, values)
        return LowRankDelta(a, b)


def empty_statistics(backbone: Backbone) -> dict[str, SiteStatistics]:
    """The moments of every site before the first edit."""
    return {
        site.name: SiteStatistics(site.d_in, site.d_out, 0).to(backbone.device) for site in backbone.sites
    }


def answer_text(backbone: Backbone, case: EditCase) -> Text:
    """An edit's text, of which only the positions that predict the answer are used."""
    text = backbone.text(case.prompt, case.wanted or case.carrier)
    return replace(text, first=text.answer_start - 1)
