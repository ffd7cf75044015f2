"""MEMIT: one fact spread over the MLPs of several blocks, each of which brings a share of what is missing."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from instructedit.backbone import Backbone, Site
from instructedit.delta import LowRankDelta
from instructedit.editors.covariance import divide, insert_pairs, ordinary_factors
from instructedit.editors.location import Located, locate, moved, output_projections
from instructedit.editors.registry import Result
from instructedit.editors.rome import ValueSearch
from instructedit.factors import watch_sites
from instructedit.types import EditCase

Pair = tuple[Float[Tensor, "b 1 d_in"], Float[Tensor, "b d_out 1"]]


@dataclass(frozen=True, kw_only=True)
class SpreadEdit(ValueSearch):
    """What MEMIT and AlphaEdit share: block after block, all but the closed form of one site.

    `layers` blocks are edited, the last of them at the method's depth: the last so many among the
    backbone's sites.
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
        keys: Float[Tensor, "b 1 d_in"],
        residuals: Float[Tensor, "b 1 d_out"],
    ) -> Pair:
        """The update of one site for each case alone."""

    @torch.no_grad()
    def insert(self, backbone: Backbone, cases: Sequence[EditCase]) -> LowRankDelta:
        """Find what leaves the last block, then bring each block's share of what is still missing (eq. 20).

        Keys and what leaves the last block are read anew with the blocks before it edited, each case
        under its own edit. Source: MEMIT, section 4.3.
        """
        sites = output_projections(backbone)[-self.layers :]
        last = backbone.blocks[sites[-1].block]
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


def read_state(
    backbone: Backbone, located: Located, site: Site, last: nn.Module, delta: LowRankDelta
) -> tuple[Float[Tensor, "b 1 d_in"], Float[Tensor, "b d"]]:
    """The keys at a site, and what leaves the block `last`, at the subject's last token under some edits."""
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
        keys: Float[Tensor, "b 1 d_in"],
        residuals: Float[Tensor, "b 1 d_out"],
    ) -> Pair:
        """R K.T (lambda C + K K.T)^-1: eq. 14, with C0 from eq. 15."""
        return insert_pairs(keys, divide(keys, prepared) / self.weight, residuals, 1.0)
