"""From factors to a delta: normalise, transform under the instruction's code, step, aggregate.

The network starts as a plain descent step: the transform is the identity, and the output of every
site moves against its gradient. Everything else is learned.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from instructedit.backbone import Site
from instructedit.delta import LowRankDelta
from instructedit.factors import ANCHOR_KINDS, Anchors, Factors
from instructedit.site_rows import SiteRows
from instructedit.statistics import EPSILON, SiteStatistics


@dataclass(frozen=True)
class TransformConfig:
    """The hypernetwork's size and form; `rank` is the one dial of complexity."""

    rank: int = 256
    depth: int = 2  # residual blocks
    code: int = 64  # size of the instruction's code z; 0: the instruction is only a prefix of the text
    aggregation: Literal["sum", "ridge"] = "ridge"
    directions: int = 64  # leading directions of ordinary keys that are damped; 0: none
    others: int = 0  # anchors an edit: the same asked of other subjects
    own: int = 0  # anchors an edit: other things asked of its own subject
    log_step: float = -1.0  # first step, as the log of the share of a site's output size


class ConditionedBlock(nn.Module):
    """One residual block, shared by sites of one shape: h + U gelu((1 + s + F z) * V h/sqrt(d) + t + G z).

    U starts at zero, so the block starts as the identity; F and G do not, so the code is felt as
    soon as U moves. Each site has its own scale s and shift t.
    """

    def __init__(self, width: int, sites: int, config: TransformConfig) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(width, config.rank))
        self.up = nn.Parameter(torch.zeros(config.rank, width))
        self.scale = nn.Parameter(torch.zeros(sites, 1, config.rank))
        self.shift = nn.Parameter(torch.zeros(sites, 1, config.rank))
        self.code = nn.Parameter(torch.randn(config.code, 2 * config.rank) / math.sqrt(max(config.code, 1)))

    def forward(self, h: Float[Tensor, "s n w"], z: Float[Tensor, "n z"]) -> Float[Tensor, "s n w"]:
        hidden = h @ self.down / math.sqrt(h.shape[-1])  # s n r
        scale, shift = (z @ self.code).chunk(2, -1) if z.shape[-1] else (0.0, 0.0)  # n r
        return h + nn.functional.gelu((1 + self.scale + scale) * hidden + self.shift + shift) @ self.up


class CodeReader(nn.Module):
    """The instruction's code z: the frozen model's mean state over it, projected; or a null code.

    States are standardised over many instructions first: what tells two instructions apart is small
    beside what all of them share.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        self.project = nn.Linear(width, size)
        self.null = nn.Parameter(torch.zeros(size))

    def measure(self, states: Float[Tensor, "m d"]) -> None:
        """Take the scale of states from a sample of instructions."""
        self.mean.copy_(states.mean(0))
        self.spread.copy_(states.std(0, correction=0) + EPSILON)

    def forward(self, state: Float[Tensor, "b d"], absent: Bool[Tensor, " b"]) -> Float[Tensor, "b z"]:
        code = torch.tanh(self.project((state - self.mean) / self.spread))
        return torch.where(absent[:, None], self.null, code)


class ShapeTransform(nn.Module):
    """The transform of all sites that share one shape, with their step sizes and aggregation weights."""

    block: ClassVar[type[nn.Module]] = ConditionedBlock  # residual, made of a width, so many sites, a config

    def __init__(self, sites: Sequence[Site], config: TransformConfig) -> None:
        super().__init__()
        self.sites, self.config = tuple(sites), config
        self.d_in, self.d_out = sites[0].d_in, sites[0].d_out
        width, count = self.d_in + self.d_out, len(sites)
        self.blocks = nn.ModuleList(self.block(width, count, config) for _ in range(config.depth))
        self.statistics = nn.ModuleList(
            SiteStatistics(self.d_in, self.d_out, config.directions) for _ in range(count)
        )
        self.log_step = nn.Parameter(torch.full((count,), config.log_step))
        self.step_code = nn.Parameter(torch.zeros(config.code, count))
        self.log_ridge = nn.Parameter(torch.zeros(count))
        self.log_damping = nn.Parameter(torch.zeros(count))
        if config.others + config.own:  # weights of anchors by their kind
            self.log_anchor = nn.Parameter(torch.zeros(count, len(ANCHOR_KINDS)))
            self.anchor_code = nn.Parameter(torch.zeros(config.code, count, len(ANCHOR_KINDS)))

    def site_statistics(self) -> Iterator[tuple[Site, SiteStatistics]]:
        """Each site with its statistics."""
        modules: Iterable[Any] = self.statistics
        yield from zip(self.sites, modules, strict=True)

    def forward(
        self, factors: Factors, z: Float[Tensor, "b z"], anchors: Anchors | None = None
    ) -> dict[str, tuple[Float[Tensor, "b r d_in"], Float[Tensor, "b d_out r"]]]:
        """The LoRA pair of every site; rows outside the factors' mask give zeros."""
        rows = self.rows(factors, z, anchors)
        return {site.name: self.aggregate(index, rows[index]) for index, site in enumerate(self.sites)}

    def rows(
        self, factors: Factors, z: Float[Tensor, "b z"], anchors: Anchors | None = None
    ) -> list[SiteRows]:
        """What each site's update is solved from.

        Anchors are the fixed rows, weighted by what is learned about each site and read from the instruction.
        """
        keys, values = self.transform(factors, z)
        mask = factors.mask[..., None]
        steps = torch.exp(
            self.log_step + z @ self.step_code if z.shape[-1] else self.log_step.expand(len(mask), -1)
        )
        return [
            SiteRows(
                keys[index] * mask,
                -values[index] * mask * steps[:, index, None, None],
                self.weigh(index, anchors, z) if anchors is not None else None,
            )
            for index in range(len(self.sites))
        ]

    def weigh(self, index: int, anchors: Anchors, z: Float[Tensor, "b z"]) -> Float[Tensor, "b m d_in"]:
        """Anchors in units of the site, times their weight under each instruction's code."""
        moved = z @ self.anchor_code[:, index] if z.shape[-1] else 0.0
        weight = (self.log_anchor[index] + moved).exp().expand(len(anchors.kind), -1)  # b kinds
        keys = anchors.keys[self.sites[index].name]
        return keys / self.unit(index) * weight.gather(1, anchors.kind)[..., None]

    def unit(self, index: int) -> Float[Tensor, "*d_in"]:
        """What keys of a site are told in: the spread of each dimension."""
        stats: SiteStatistics = self.statistics[index]  # type: ignore[assignment]
        return stats.spread

    def transform(
        self, factors: Factors, z: Float[Tensor, "b z"]
    ) -> tuple[Float[Tensor, "s b n d_in"], Float[Tensor, "s b n d_out"]]:
        """Normalised inputs and gradients through the residual blocks; rows outside the mask stay out."""
        mask = factors.mask
        rows = [
            torch.cat(stats.normalise(factors.inputs[site.name], factors.gradients[site.name], mask), -1)[
                mask
            ]
            for site, stats in self.site_statistics()
        ]
        h = torch.stack(rows)
        told = z.repeat_interleave(mask.sum(1), 0)  # each row's own code
        for block in self.blocks:
            h = block(h, told)
        whole = h.new_zeros(len(h), *mask.shape, h.shape[-1])
        whole[:, mask] = h
        return whole.split([self.d_in, self.d_out], -1)  # type: ignore[return-value]

    def aggregate(
        self, index: int, given: SiteRows
    ) -> tuple[Float[Tensor, "b n d_in"], Float[Tensor, "b d_out n"]]:
        """From rows to the update that maps key j to value j: the plain sum, or the ridge solution.

        In its dual form, with C = I + beta*Sigma on keys in the site's units:
        dW.T = C^-1 K.T (K C^-1 K.T + e^lambda I)^-1 D. `sum` leaves the solve out, and fixed rows with it.
        Those are further rows of K whose values are zero. So only the solve's first n rows are used, and
        the rank stays n, however many are fixed.
        Source: the regularised least squares that MALMEN (arXiv 2311.04661) aggregates by; C stands here in
        the place of its identity, and transformed keys in the place of the keys as read.
        """
        stats: SiteStatistics = self.statistics[index]  # type: ignore[assignment]
        ridge, keys = self.config.aggregation == "ridge", given.keys
        rows = torch.cat([keys, given.fixed], 1) if ridge and given.fixed is not None else keys
        rows = rows / math.sqrt(self.d_in)
        damped = stats.damp(rows, self.log_damping[index])
        if ridge:
            eye = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
            system = damped @ rows.mT + self.log_ridge[index].exp() * eye  # symmetric: C is
            wanted = eye[:, : keys.shape[1]].expand(len(keys), -1, -1)
            damped = torch.linalg.solve(system, wanted).mT @ damped
        return damped / (self.unit(index) * math.sqrt(self.d_in)), given.values.mT * stats.output_size

    @torch.no_grad()
    def normal_equation(
        self, index: int, given: SiteRows
    ) -> tuple[Float[Tensor, "d_in d_in"], Float[Tensor, "d_in d_out"]]:
        """K.T K over every row of every edit, and K.T D: what `aggregate` solves, in its primal form."""
        keys = (given.keys.flatten(0, 1) / math.sqrt(self.d_in)).double()
        moment = keys.mT @ given.values.flatten(0, 1).double()
        fixed = None if given.fixed is None else given.fixed.flatten(0, 1).double() / math.sqrt(self.d_in)
        return keys.mT @ keys + (0 if fixed is None else fixed.mT @ fixed), moment

    @torch.no_grad()
    def metric(self, index: int) -> Float[Tensor, "d_in d_in"]:
        """e^lambda C, what the primal form adds to K.T K."""
        stats: SiteStatistics = self.statistics[index]  # type: ignore[assignment]
        weight = self.log_damping[index].double().exp() * stats.moments.double()
        directions = stats.directions.double()
        eye = torch.eye(self.d_in, dtype=torch.float64, device=directions.device)
        return self.log_ridge[index].double().exp() * (eye + (directions * weight) @ directions.mT)

    @torch.no_grad()
    def to_weight(self, index: int, solution: Float[Tensor, "d_in d_out"]) -> Float[Tensor, "d_out d_in"]:
        """A solution of the primal form in the units of the layer."""
        stats: SiteStatistics = self.statistics[index]  # type: ignore[assignment]
        scaled = solution.mT * stats.output_size / (self.unit(index) * math.sqrt(self.d_in))
        return scaled.float()


class Hypernetwork(nn.Module):
    """The trained part of the editor: one transform a weight shape, and the reader of instructions."""

    transform: ClassVar[type[nn.Module]] = ShapeTransform  # of the sites that share a shape

    def __init__(self, sites: Sequence[Site], width: int, config: TransformConfig, seed: int = 0) -> None:
        super().__init__()
        shapes = sorted({(site.d_in, site.d_out) for site in sites})
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.shapes = nn.ModuleList(
                self.transform([s for s in sites if (s.d_in, s.d_out) == shape], config) for shape in shapes
            )
            self.reader = CodeReader(width, config.code) if config.code else None

    def forward(
        self,
        factors: Factors,
        state: Float[Tensor, "b d"],
        absent: Bool[Tensor, " b"],
        anchors: Anchors | None = None,
    ) -> LowRankDelta:
        """One delta an edit. `state` is what is read of the instruction, `absent` says there is none."""
        z = self.condition(state, absent)
        pairs = {}
        for shape in self.shapes:
            pairs |= shape(factors, z, anchors)
        return LowRankDelta.of_pairs(pairs)

    def condition(self, state: Float[Tensor, "b d"], absent: Bool[Tensor, " b"]) -> Float[Tensor, "b z"]:
        """What a transform is told beside the factors: the instruction's code; nothing without a reader."""
        return self.reader(state, absent) if self.reader else state.new_zeros(len(state), 0)

    @property
    def solves(self) -> bool:
        """Whether many edits can be solved together, not only summed."""
        return self.config.aggregation == "ridge"

    def places(self) -> Iterator[tuple[str, ShapeTransform, int]]:
        """Each site's name, the transform that it belongs to, and its place there."""
        shapes: Iterable[Any] = self.shapes
        yield from ((site.name, shape, index) for shape in shapes for index, site in enumerate(shape.sites))

    def site_rows(
        self,
        factors: Factors,
        state: Float[Tensor, "b d"],
        absent: Bool[Tensor, " b"],
        anchors: Anchors | None = None,
    ) -> Iterator[tuple[str, ShapeTransform, int, SiteRows]]:
        """As `places`, and what the site's updates are solved from."""
        z = self.condition(state, absent)
        rows = [row for shape in self.shapes for row in shape.rows(factors, z, anchors)]  # type: ignore[attr-defined]
        yield from ((*place, row) for place, row in zip(self.places(), rows, strict=True))

    def solve(self, rows: Mapping[str, SiteRows]) -> LowRankDelta:
        """The updates that some rows give, by site; a site without rows is not changed."""
        pairs = {
            name: shape.aggregate(index, rows[name]) for name, shape, index in self.places() if name in rows
        }
        return LowRankDelta.of_pairs(pairs)

    def statistics(self) -> dict[str, SiteStatistics]:
        """Each site's statistics, by its name."""
        shapes: Iterable[Any] = self.shapes
        return {site.name: stats for shape in shapes for site, stats in shape.site_statistics()}
