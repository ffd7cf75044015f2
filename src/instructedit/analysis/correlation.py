"""Do two numbers rise together over the cells of an experiment?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Correlation:
    """Spearman's rank correlation over `cells` with its bootstrap interval.

    `p` is the share of shuffled pairings whose correlation is as far from zero. What a number needs
    that there are too few cells for, or none that differ, is None.
    """

    rho: float | None
    low: float | None
    high: float | None
    p: float | None
    cells: int


def correlate(
    numbers: Sequence[float | None],
    reliability: Sequence[float | None],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Correlation:
    """Compare a number of the analysis with the reliability of the same cells; None leaves a cell out.

    Percentile bootstrap over whole cells, 95 %; resamples in which one side is constant say nothing and are
    left out. Cells that share an editor or a task are not independent, and the interval does not know it.
    """
    pairs = [
        (x, y)
        for x, y in zip(numbers, reliability, strict=True)
        if x is not None and y is not None and np.isfinite(x) and np.isfinite(y)
    ]
    first, second = np.array(pairs, dtype=float).reshape(-1, 2).T
    rho = _spearman(first, second)
    if rho is None:
        return Correlation(None, None, None, None, len(pairs))
    draw, cells = np.random.default_rng(seed), len(pairs)

    def again(pick: Callable[[], tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        return np.array([r for r in (_spearman(*pick()) for _ in range(resamples)) if r is not None])

    def resample() -> tuple[np.ndarray, np.ndarray]:
        kept = draw.integers(0, cells, cells)
        return first[kept], second[kept]

    spread, shuffled = again(resample), again(lambda: (first, draw.permutation(second)))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(spread, [tail, 1 - tail]) if len(spread) else (None, None)
    p = float((1 + (np.abs(shuffled) >= abs(rho) - 1e-12).sum()) / (1 + len(shuffled)))
    return Correlation(
        rho, None if low is None else float(low), None if high is None else float(high), p, cells
    )


def _spearman(first: np.ndarray, second: np.ndarray) -> float | None:
    """The correlation of ranks; None below three cells or where one side is constant."""
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[inverse]
