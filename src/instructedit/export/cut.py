"""An edit as it will be stored: its ranks cut, and what the cut cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.errors import DataError
from instructedit.export.check import (
    edit_texts,
    edited_logits,
    largest_difference,
    merge_to_one,
    text_logits,
)
from instructedit.types import EditCase

ENERGY = 0.9999
_NOTICED = 0.05  # of what an edit does to its own text


@dataclass(frozen=True)
class CutDelta:
    """A delta of one edit at the ranks that are stored.

    `logits` are the edited model's with this delta on `texts`; `lost` is how far they lie from those of the
    delta as it was given; `kept` is the share of the squared norm that is left, by site.
    """

    delta: LowRankDelta
    texts: Sequence[str]
    logits: Sequence[Tensor]
    lost: float
    kept: Mapping[str, float]

    @property
    def ranks(self) -> dict[str, int]:
        """The stored rank by site."""
        return {name: a.shape[1] for name, a in self.delta.a.items()}

    @property
    def facts(self) -> dict[str, object]:
        """What is written down of the cut beside the edit."""
        return {"ranks": self.ranks, "energy_kept": self.kept, "rank_cut_difference": self.lost}


def cut_ranks(
    delta: LowRankDelta,
    backbone: Backbone,
    cases: Sequence[EditCase],
    texts: Sequence[str],
    *,
    rank: int | None = None,
    energy: float | None = None,
) -> CutDelta:
    """Several edits as one, each site at `rank` or at the least rank that keeps `energy` of its squared norm.

    With neither, `ENERGY` is kept where no edit's own text shows it, and the whole where one does or not
    every edit can be asked: a small edit beside large ones is a small part of the norm. Errors: `DataError`
    for a rank below 1 or an energy outside (0, 1]; as `merge_to_one`.
    """
    if rank is not None and rank < 1:
        raise DataError(f"cannot cut to rank {rank}. Expected 1 or more.")
    if energy is not None and not 0 < energy <= 1:
        raise DataError(f"cannot keep {energy} of the squared norm. Expected a share above 0 and up to 1.")
    whole, own = merge_to_one(delta, backbone), edit_texts(cases)
    asked = (*texts, *own)
    expected = edited_logits(whole, backbone, asked)

    def cut(share: float) -> CutDelta:
        stored, kept = whole.compress(rank=rank, energy=share)
        logits = edited_logits(stored, backbone, asked)
        return CutDelta(stored, asked, logits, largest_difference(expected, logits), kept)

    if rank is not None or energy is not None:
        return cut(energy or ENERGY)
    small = cut(ENERGY) if own and len(own) == len(cases) else None
    before = text_logits(backbone.model, backbone, own) if small else []
    start = len(texts)
    return small if small and _holds(before, expected[start:], small.logits[start:]) else cut(1.0)


def _holds(before: Sequence[Tensor], whole: Sequence[Tensor], cut: Sequence[Tensor]) -> bool:
    """Whether a cut leaves every text its likeliest tokens and nearly all that the edit does to it."""
    return all(
        torch.equal(y.argmax(-1), z.argmax(-1))
        and largest_difference([y], [z]) <= _NOTICED * largest_difference([x], [y])
        for x, y, z in zip(before, whole, cut, strict=True)
    )
