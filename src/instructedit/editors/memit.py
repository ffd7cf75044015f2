"""MEMIT: one fact spread over the MLPs of several blocks, each of which brings a share of what is missing."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from instructedit.backbone import Backbone, Site
from instructedit.delta import LowRankDelta
from instructedit.editors.batches import Batches
from instructedit.editors.covariance import divide, insert_pairs, ordinary_factors, remember
from instructedit.editors.location import Located, adds_output, locate, moved, output_projections
from instructedit.editors.registry import Result
from instructedit.editors.rome import BATCH, ValueSearch
from instructedit.factors import watch_sites
from instructedit.types import EditCase

Pair = tuple[Float[Tensor, "b n d_in"], Float[Tensor, "b d_out n"]]
Solve = Callable[[str, Float[Tensor, "1 n d_in"], Float[Tensor, "1 n d_out"]], Pair]


@dataclass(frozen=True, kw_only=True)
class SpreadEdit(ValueSearch):
    """What MEMIT and AlphaEdit share: block after block, all but the closed form of one site.

    `layers` blocks are edited, the last of them at the method's depth: the last so many among the
    backbone's sites. Where what an MLP gives is not added to the stream as it is (a norm or a factor
    stands between, as in Gemma), a share of what leaves a block can be asked of no MLP. There the last
    alone is edited, and the vector is looked for in what it gives, as ROME does.
    """

    steps: int = 25
    clamp: float = 0.75
    layers: int = 6

    @abstractmethod
    def prepare(self, backbone: Backbone, names: Sequence[str]) -> dict[str, Float[Tensor, "_ _"]]:
        """What the closed form has to know of ordinary text at each site."""

    @abstractmethod
    def solve(
        self,
        prepared: Float[Tensor, "d_in _"],
        keys: Float[Tensor, "b n d_in"],
        residuals: Float[Tensor, "b n d_out"],
    ) -> Pair:
        """The update of one site for n cases together: n is 1 where each case is alone."""

    def place(self, backbone: Backbone) -> tuple[list[Site], nn.Module]:
        """The sites that are edited, and the module that shall give what the answer needs."""
        sites = output_projections(backbone)[-self.layers :]
        last = sites[-1]
        if remember(backbone, ("adds", last.name), lambda: adds_output(backbone, last)):
            return sites, backbone.blocks[last.block]
        return [last], backbone.modules[last.name]

    @torch.no_grad()
    def insert(self, backbone: Backbone, cases: Sequence[EditCase]) -> LowRankDelta:
        """Find what the last block shall give, then bring each block's share of what is missing (eq. 20).

        Keys and what leaves the last block are read anew with the blocks before it edited, each case
        under its own edit. Source: MEMIT, section 4.3.
        """
        sites, last = self.place(backbone)
        located = locate(backbone, cases, self.contexts)
        goal = self.find(backbone, last, located)
        prepared = self.prepare(backbone, [site.name for site in sites])
        delta = LowRankDelta({}, {})
        for number, site in enumerate(sites):
            keys, reached = read_state(backbone, located, site, last, delta)
            missing = (goal - reached)[:, None] / (len(sites) - number)
            a, b = self.solve(prepared[site.name], keys, missing)
            delta = delta + LowRankDelta({site.name: a}, {site.name: b})
        return delta

    @torch.no_grad()
    def insert_together(self, backbone: Backbone, cases: Sequence[EditCase], solve: Solve) -> LowRankDelta:
        """The same for all cases in one model (b = 1): at every block `solve` is given all their keys."""
        sites, last = self.place(backbone)
        parts = self.locate(backbone, cases)
        goal = torch.cat([self.find(backbone, last, part) for part in parts])
        delta = LowRankDelta({}, {})
        for number, site in enumerate(sites):
            keys, reached = read_together(backbone, parts, site, last, delta)
            missing = (goal - reached)[None] / (len(sites) - number)
            a, b = solve(site.name, keys, missing)
            delta = delta + LowRankDelta({site.name: a}, {site.name: b})
        return delta

    def locate(self, backbone: Backbone, cases: Sequence[EditCase]) -> list[Located]:
        """Where some cases act, `BATCH` of them at a time."""
        starts = range(0, len(cases), BATCH)
        return [locate(backbone, cases[start : start + BATCH], self.contexts) for start in starts]


def read_state(
    backbone: Backbone, located: Located, site: Site, last: nn.Module, delta: LowRankDelta
) -> tuple[Float[Tensor, "b 1 d_in"], Float[Tensor, "b d"]]:
    """The keys at a site, and what the module `last` gives, at the subject's last token under some edits."""
    rows = slice(located.requests)
    places, owner = located.places[rows], located.owner[rows]
    nothing = torch.zeros(len(places), backbone.width, device=backbone.device)
    with (
        torch.no_grad(),
        delta.applied_to(backbone, owner),
        watch_sites(backbone) as (inputs, _),
        moved(last, nothing, places) as seen,
    ):
        backbone.top(located.hidden[rows], backbone.above())
    return located.keys(inputs[site.name]), located.bare(seen[0])


def read_together(
    backbone: Backbone, parts: Sequence[Located], site: Site, last: nn.Module, delta: LowRankDelta
) -> tuple[Float[Tensor, "1 n d_in"], Float[Tensor, "n d"]]:
    """As `read_state`, for cases that are all under one delta."""
    states = [read_state(backbone, part, site, last, delta) for part in parts]
    return torch.cat([keys for keys, _ in states]).transpose(0, 1), torch.cat([rows for _, rows in states])


@dataclass(frozen=True, kw_only=True)
class MEMIT(SpreadEdit):
    """MEMIT with the settings of GPT-J, whose blocks 3 to 8 of 28 it edits.

    A sentiment is not told its polarity: its carrier is the target.
    """

    name: ClassVar[str] = "memit"
    paper: ClassVar[str] = "Meng et al. 2023, arXiv 2210.07229"
    result: ClassVar[Result] = "delta"
    depth: ClassVar[float | None] = 0.3

    weight: float = 15_000.0  # lambda, what the covariance of ordinary keys counts

    def prepare(self, backbone: Backbone, names: Sequence[str]) -> dict[str, Float[Tensor, "_ _"]]:
        """The Cholesky factor of each site's covariance."""
        return ordinary_factors(backbone, names, self.text)

    def solve(
        self,
        prepared: Float[Tensor, "d_in _"],
        keys: Float[Tensor, "b n d_in"],
        residuals: Float[Tensor, "b n d_out"],
    ) -> Pair:
        """R K.T (lambda C + K K.T)^-1: eq. 14, with C0 from eq. 15."""
        return insert_pairs(keys, divide(keys, prepared) / self.weight, residuals, 1.0)

    def in_sequence(self, backbone: Backbone) -> Batches[LowRankDelta]:
        """The method for one batch after another; ordinary text is read here, by the model as it is.

        All keys of a batch are in K. C0 stays that of ordinary keys: those of earlier batches do not join it.
        """
        factors = self.prepare(backbone, [site.name for site in self.place(backbone)[0]])

        def solve(name: str, keys: Tensor, residuals: Tensor) -> Pair:
            return self.solve(factors[name], keys, residuals)

        return Batches(self.name, partial(self.insert_together, solve=solve))
