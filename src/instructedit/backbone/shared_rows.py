"""Many short texts in few rows, each of which sees itself and its own past alone: less padding is run."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

WIDTH = 48  # tokens of a row, where no single text is longer
NOBODY = -1  # whose tokens padding is


@dataclass(frozen=True)
class SharedRows:
    """Which texts stand in each row, one behind another, by place; `lengths` and `befores` are of all texts.

    A text has so many tokens to run, and so many before these that are known.
    """

    rows: Sequence[Sequence[int]]
    lengths: Sequence[int]
    befores: Sequence[int]

    @property
    def positions(self) -> Int[Tensor, "r n"]:
        """The place of every token in its own text."""
        spans = [range(b, b + n) for b, n in zip(self.befores, self.lengths, strict=True)]
        return _pad([[place for text in row for place in spans[text]] for row in self.rows], 0)

    def mask(self, dtype: torch.dtype) -> Float[Tensor, "r 1 n s"]:
        """What is added to attention: nothing where a token sees another, be it one that is not run."""
        before, own = self._owners(self.befores, left=True), self._owners(self.lengths)
        n = own.shape[1]
        seen = torch.ones(n, before.shape[1] + n, dtype=torch.bool).tril(before.shape[1])
        allowed: Bool[Tensor, "r n s"] = seen & (own[:, :, None] == torch.cat([before, own], 1)[:, None])
        return as_mask(allowed, dtype)

    def apart(self, hidden: Float[Tensor, "r n d"]) -> list[Float[Tensor, "_ d"]]:
        """The tokens of each text."""
        found = {}
        for row, texts in zip(hidden, self.rows, strict=True):
            sizes = [self.lengths[text] for text in texts]
            found.update(zip(texts, row[: sum(sizes)].split(sizes), strict=True))
        return [found[text] for text in range(len(self.lengths))]

    def _owners(self, counts: Sequence[int], left: bool = False) -> Int[Tensor, "r _"]:
        return _pad([[text for text in row for _ in range(counts[text])] for row in self.rows], NOBODY, left)


def as_mask(seen: Bool[Tensor, "r n s"], dtype: torch.dtype) -> Float[Tensor, "r 1 n s"]:
    """What is added to attention: nothing where a token sees another."""
    return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)[:, None]


def share_rows(lengths: Sequence[int], befores: Sequence[int]) -> SharedRows:
    """Put texts into rows, long ones first, each into the first row with room for it."""
    width = max(WIDTH, *lengths)
    rows: list[list[int]] = []
    room: list[int] = []
    for text in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        place = next((row for row, left in enumerate(room) if left >= lengths[text]), len(rows))
        if place == len(rows):
            rows.append([])
            room.append(width)
        rows[place].append(text)
        room[place] -= lengths[text]
    return SharedRows(rows, lengths, befores)


def _pad(rows: Sequence[Sequence[int]], value: int, left: bool = False) -> Int[Tensor, "r _"]:
    width = max(len(row) for row in rows)
    gaps = [[value] * (width - len(row)) for row in rows]
    pairs = zip(gaps, rows, strict=True)
    return torch.tensor([[*gap, *row] if left else [*row, *gap] for gap, row in pairs], dtype=torch.long)
