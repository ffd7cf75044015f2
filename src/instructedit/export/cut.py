"""An edit as it will be stored: its ranks cut, and what the cut cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.errors import DataError
from instructedit.export.check import edited_logits, largest_difference, merge_to_one

ENERGY = 0.9999


@dataclass(frozen=True)
class CutDelta:
    """A delta of one edit at the ranks that are stored.

    `logits` are the edited model's with this delta; `lost` is how far they lie from those of the delta as
    it was given; `kept` is the share of the squared norm that is left, by site.
    """

    delta: LowRankDelta
    logits: Sequence[Tensor]
    lost: float
    kept: Mapping[str, float]

    @property
    def ranks(self) -> dict[str, int]:
        """The stored rank by site."""
        return {name: a.shape[1] for name, a in self.delta.a.items()}


def cut_ranks(
    delta: LowRankDelta,
    backbone: Backbone,
    texts: Sequence[str],
    *,
    rank: int | None = None,
    energy: float = ENERGY,
) -> CutDelta:
    """Several edits as one, each site at `rank` or at the least rank that keeps `energy` of its squared norm.

    Errors: `DataError` for a rank below 1 or an energy outside (0, 1].
    """
    if rank is not None and rank < 1:
        raise DataError(f"cannot cut to rank {rank}. Expected 1 or more.")
    if not 0 < energy <= 1:
        raise DataError(f"cannot keep {energy} of the squared norm. Expected a share above 0 and up to 1.")
    whole = merge_to_one(delta)
    stored, kept = whole.compress(rank=rank, energy=energy)
    logits = edited_logits(stored, backbone, texts)
    return CutDelta(stored, logits, largest_difference(edited_logits(whole, backbone, texts), logits), kept)
