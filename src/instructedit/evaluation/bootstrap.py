"""Means with bootstrap intervals that respect that probes of one case, and edits of one subject, are kin."""

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from instructedit.evaluation.rows import Row

LEVEL = 0.95
RESAMPLES = 1000
DRAWN_AT_ONCE = 2_000_000  # indices in memory at one time


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over cases of the mean over each case's probes, with its 95 % interval over their subjects.

    `low` and `high` are None below two subjects. `pooled` is the plain mean over all probes, in which
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


class CaseKey(NamedTuple):
    """One case of an evaluation, and its case-folded `subject`, which intervals resample where it has one."""

    task: str
    case: int
    subject: str = ""


Clusters = Mapping[Hashable, Sequence[float]]


def clusters_of(rows: Sequence[Row], column: str) -> dict[Hashable, list[float]]:
    """The values of one column by case; rows without a value are left out."""
    clusters: dict[Hashable, list[float]] = defaultdict(list)
    for row in rows:
        if row[column] is not None:
            clusters[CaseKey(row["task"], row["case"], row["subject"].casefold())].append(row[column])
    return dict(clusters)


def estimate(
    clusters: Clusters, *, share: bool = False, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate | None:
    """Average within each case, then over cases, and resample whole subjects for the interval.

    Probes of one case rise and fall together, and so do edits of one subject: resampling single ones would
    give intervals that are too narrow. A case without a subject stands for itself. Percentile bootstrap with
    NumPy's generator, the same for the same seed. Where all cases of a `share`, which lies from 0 to 1, are 0
    or all are 1, no resample differs: then the interval is the exact one for so many subjects. None without a
    value; no interval with no `resamples`.

    Source: the cluster bootstrap (Davison and Hinkley 1997, §3.8); the exact interval of a binomial share
    (Clopper and Pearson 1934), a bound for the mean of other values from 0 to 1 as well.
    """
    if not clusters:
        return None
    means = np.array([math.fsum(values) / len(values) for values in clusters.values()])
    pooled = np.concatenate([np.asarray(values, dtype=float) for values in clusters.values()])
    low, high = _interval(means, _subjects(clusters), share, resamples, seed)
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


def _subjects(clusters: Clusters) -> np.ndarray:
    """A number for each case, the same for cases of one subject."""
    names = [getattr(case, "subject", "") or case for case in clusters]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names])


def _interval(
    means: np.ndarray, subjects: np.ndarray, share: bool, resamples: int, seed: int
) -> tuple[float | None, float | None]:
    counts, sums = np.bincount(subjects), np.bincount(subjects, means)
    if len(counts) < 2 or resamples < 1:
        return None, None
    if share and means[0] in (0, 1) and np.ptp(means) == 0:
        return _exact(means[0], len(counts))
    generator, drawn = np.random.default_rng(seed), []
    step = max(1, DRAWN_AT_ONCE // len(counts))
    for start in range(0, resamples, step):
        picked = generator.integers(0, len(counts), (min(step, resamples - start), len(counts)))
        drawn.append(sums[picked].sum(axis=1) / counts[picked].sum(axis=1))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail])
    return float(low), float(high)


def _exact(share: float, count: int) -> tuple[float, float]:
    """What `count` draws that are all 0, or all 1, are still likely to come from."""
    bound = ((1 - LEVEL) / 2) ** (1 / count)
    return (bound, 1.0) if share else (0.0, 1 - bound)
