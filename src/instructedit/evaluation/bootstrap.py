"""Means with bootstrap intervals that respect that the probes of one case belong together."""

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from instructedit.evaluation.rows import Row

LEVEL = 0.95
RESAMPLES = 1000
DRAWN_AT_ONCE = 2_000_000  # indices in memory at one time


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over cases of the mean over each case's probes, with its 95 % bootstrap interval.

    `low` and `high` are None below two cases. `pooled` is the plain mean over all probes, in which
    a case with many probes weighs more.
    """

    mean: float
    low: float | None
    high: float | None
    cases: int
    probes: int
    pooled: float

    def as_dict(self) -> dict[str, float | int | None]:
        """The fields, ready for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


Clusters = Mapping[Hashable, Sequence[float]]


def clusters_of(rows: Sequence[Row], column: str) -> dict[Hashable, list[float]]:
    """The values of one column by case; rows without a value are left out."""
    clusters: dict[Hashable, list[float]] = defaultdict(list)
    for row in rows:
        if row[column] is not None:
            clusters[row["task"], row["case"]].append(row[column])
    return dict(clusters)


def estimate(clusters: Clusters, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate | None:
    """Average within each case, then over cases, and resample whole cases for the interval.

    Probes of one case rise and fall together, so resampling single probes would give intervals that
    are too narrow. Percentile bootstrap with NumPy's generator, the same for the same seed. None
    without a value; no interval with no `resamples`.

    Source: the cluster bootstrap (Davison and Hinkley 1997, §3.8).
    """
    if not clusters:
        return None
    means = np.array([math.fsum(values) / len(values) for values in clusters.values()])
    pooled = np.concatenate([np.asarray(values, dtype=float) for values in clusters.values()])
    low, high = _interval(means, resamples, seed)
    return Estimate(float(means.mean()), low, high, len(means), len(pooled), float(pooled.mean()))


def paired_difference(
    first: Clusters, second: Clusters, *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate | None:
    """The mean of first minus second over the cases that both have; None without a common case.

    Each case is its own control, so what makes one case harder than another falls out of the interval.
    """
    differences = {
        case: [math.fsum(first[case]) / len(first[case]) - math.fsum(second[case]) / len(second[case])]
        for case in first
        if case in second
    }
    return estimate(differences, resamples=resamples, seed=seed)


def _interval(means: np.ndarray, resamples: int, seed: int) -> tuple[float | None, float | None]:
    if len(means) < 2 or resamples < 1:
        return None, None
    generator, drawn = np.random.default_rng(seed), []
    step = max(1, DRAWN_AT_ONCE // len(means))
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn.append(means[generator.integers(0, len(means), (count, len(means)))].mean(axis=1))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail])
    return float(low), float(high)
