"""What the update of one site is solved from: keys, what each shall be mapped to, and keys held fixed."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class SiteRows:
    """The rows of `b` edits at one site; `fixed` keys are mapped to nothing, as far as their size weighs.

    Shapes: keys ``[b n d_in]``, values ``[b n d_out]``, fixed ``[b m d_in]``, in units of the site's
    statistics; rows of zeros stand where an edit has fewer.
    """

    keys: Float[Tensor, "b n d_in"]
    values: Float[Tensor, "b n d_out"]
    fixed: Float[Tensor, "b m d_in"] | None = None

    def join(self, before: "SiteRows | None" = None) -> "SiteRows":
        """The rows of all edits as those of one (b = 1), and all that `before` holds fixed."""
        given = [self.fixed] if before is None else [self.fixed, before.keys, before.fixed]
        fixed = [x.flatten(0, 1) for x in given if x is not None]
        keys, values = self.keys.flatten(0, 1)[None], self.values.flatten(0, 1)[None]
        return SiteRows(keys, values, torch.cat(fixed)[None] if fixed else None)

    @staticmethod
    def concat(rows: Sequence["SiteRows"]) -> "SiteRows":
        """The rows of several edits, each b = 1, as those of one."""
        fixed = [row.fixed for row in rows if row.fixed is not None]
        return SiteRows(
            torch.cat([row.keys for row in rows], 1),
            torch.cat([row.values for row in rows], 1),
            torch.cat(fixed, 1) if fixed else None,
        )

    def of(self, place: int) -> "SiteRows":
        """One edit's own rows (b = 1), without those of zeros."""
        used = self.keys[place].any(-1) | self.values[place].any(-1)
        fixed = None if self.fixed is None else self.fixed[place]
        return SiteRows(
            self.keys[place][used][None],
            self.values[place][used][None],
            None if fixed is None else fixed[fixed.any(-1)][None],
        )

    def scale(self, factor: float) -> "SiteRows":
        """The same keys, with so many times the change asked of them."""
        return SiteRows(self.keys, factor * self.values, self.fixed)

    def hold(self) -> "SiteRows":
        """The same keys, with no change asked of them."""
        return self.scale(0.0)

    def to(self, device: torch.device) -> "SiteRows":
        """The same on another device."""
        fixed = None if self.fixed is None else self.fixed.to(device)
        return SiteRows(self.keys.to(device), self.values.to(device), fixed)
