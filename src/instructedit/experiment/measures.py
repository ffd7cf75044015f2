"""What a table's cells are read by: one value a case for each measure, and means of several of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from instructedit.evaluation.bootstrap import Clusters, clusters_of, paired_difference
from instructedit.evaluation.contrasts import ALL, CONTRASTS, Contrast
from instructedit.evaluation.rows import Row, select
from instructedit.evaluation.summary import PLAIN_UNITS
from instructedit.experiment.specs import Plan
from instructedit.report.scores import MEASURES as SHARES

Path = tuple[str, str, str]  # group, prompts and metric, as in a summary
MEAN = "mean"
OF_THE_MEAN = ("reliability", "generalization", "locality", "portability")


@dataclass(frozen=True)
class Measure:
    """One column: of `paths` the one that a case has values for; a share in percent unless `plain`."""

    title: str
    paths: tuple[Path, ...] = ()
    higher_is_better: bool = True
    share: bool = True  # of probes, from 0 to 1

    @property
    def plain(self) -> bool:
        return any(metric in PLAIN_UNITS for _, _, metric in self.paths)


def _instructed(*paths: Path) -> tuple[Path, ...]:
    return tuple((group, "instructed", metric) for group, _, metric in paths)


_RELIABILITY = (SHARES["reliability"], SHARES["win_rate"])  # an opinion has no answer: its win rate counts
_GENERALIZATION = (SHARES["generalization"], SHARES["win_rate_rephrased"])
_SENTIMENT: Path = ("reliability", "bare", "sentiment_score")
MEASURES: dict[str, Measure] = {
    "reliability": Measure("Reliability", _RELIABILITY),
    "generalization": Measure("Generalization", _GENERALIZATION),
    "locality": Measure("Locality", (SHARES["locality"],)),
    "portability": Measure("Portability", (SHARES["portability"],)),
    MEAN: Measure("Mean"),
    "reliability_instructed": Measure("Reliability, instructed", _instructed(*_RELIABILITY)),
    "generalization_instructed": Measure("Generalization, instructed", _instructed(*_GENERALIZATION)),
    "portability_instructed": Measure("Portability, instructed", _instructed(SHARES["portability"])),
    "token_reliability": Measure("Reliability, tokens", (("reliability", "bare", "accuracy"),)),
    "sentiment_score": Measure("Sentiment score", (_SENTIMENT,)),
    "sentiment_score_instructed": Measure("Sentiment score, instructed", _instructed(_SENTIMENT)),
    "old_answer": Measure("Old answer given", (("old_answer", "bare", "exact"),), higher_is_better=False),
    "fluency": Measure("Fluency", (("fluency", "bare", "fluency"),), share=False),
    "fluency_instructed": Measure(
        "Fluency, instructed", (("fluency", "instructed", "fluency"),), share=False
    ),
    **{contrast.name: Measure(f"Leverage, {contrast.name} (points)", share=False) for contrast in CONTRASTS},
}


def title_of(plan: Plan, axis: str, name: str) -> str:
    """A name on a table's axis as a person reads it; the name itself where it has no title."""
    sections: dict[str, Mapping[str, Any]] = {
        "data": plan.data,
        "editor": plan.editors,
        "condition": plan.conditions,
        "measure": MEASURES,
    }
    return getattr(sections.get(axis, {}).get(name), "title", "") or name


def measure_rows(rows: Sequence[Row]) -> dict[str, Clusters]:
    """The edited model's values by case for every measure that the rows hold."""
    found = {name: _clusters(rows, measure.paths) for name, measure in MEASURES.items() if measure.paths}
    found |= {contrast.name: _leverage(rows, contrast) for contrast in CONTRASTS}
    parts = [found[name] for name in OF_THE_MEAN if found[name]]
    found[MEAN] = combine(parts) if parts else {}
    return {name: clusters for name, clusters in found.items() if clusters}


def _clusters(rows: Sequence[Row], paths: Sequence[Path]) -> Clusters:
    found: dict = {}
    plain = [row for row in rows if not row["condition"]]
    for group, prompts, metric in paths:
        part = select(plain, group=group, instructed=prompts == "instructed")
        found |= clusters_of(part, f"edited_{metric}")
    return found


def _leverage(rows: Sequence[Row], contrast: Contrast) -> Clusters:
    """First minus second condition, case by case, over the cases that both have."""
    sides = [
        contrast.parts(select(rows, condition=condition), "edited").get(ALL, {})
        for condition in contrast.conditions
    ]
    common = [case for case in sides[0] if case in sides[1]]
    return {case: [fmean(sides[0][case]) - fmean(sides[1][case])] for case in common}


def merge_seeds(seeds: Sequence[Clusters]) -> Clusters:
    """The values of every seed side by side, so that a case counts once, with its mean over the seeds."""
    merged: dict = {}
    for clusters in seeds:
        for case, values in clusters.items():
            merged.setdefault(case, []).append(fmean(values))
    return merged


def prefix_cases(clusters: Mapping[Any, Sequence[float]], name: str) -> Clusters:
    """The same values with the data set's name before each case, so that two sets can be put together."""
    return {case._replace(task=f"{name}/{case.task}"): values for case, values in clusters.items()}


def combine(parts: Sequence[Clusters]) -> Clusters:
    """Values whose mean over all cases is the mean of the parts' means, whatever their sizes.

    Each part weighs the same, as in the mean of a table's columns. A case's value is that mean plus the
    case's share in each part's deviation, n/n_k (x − mean_k) / parts: resampling cases then gives the
    interval of the mean of means (its linearisation by influence values; Efron and Tibshirani 1993), and
    differences of two such values pair case by case.
    """
    cases = dict.fromkeys(case for part in parts for case in part)
    means = [fmean([fmean(values) for values in part.values()]) for part in parts]
    total = fmean(means)
    made = {}
    for case in cases:
        shares = [
            len(cases) / len(part) * (fmean(part[case]) - mean)
            for part, mean in zip(parts, means, strict=True)
            if case in part
        ]
        made[case] = [total + math.fsum(shares) / len(parts)]
    return made


def find_best(rivals: Mapping[str, Clusters], *, higher_is_better: bool = True, seed: int = 0) -> str | None:
    """The rival whose paired difference from every other lies beyond its 95 % interval; else None.

    One that shares no case with another is not the best: they were not compared.
    """
    if len(rivals) < 2:
        return None
    sign = 1.0 if higher_is_better else -1.0
    means = {name: fmean([fmean(values) for values in each.values()]) for name, each in rivals.items()}
    top = max(means, key=lambda name: sign * means[name])
    for name, clusters in rivals.items():
        if name != top and not is_beyond(rivals[top], clusters, sign, seed):
            return None
    return top


def is_beyond(first: Clusters, second: Clusters, sign: float = 1.0, seed: int = 0) -> bool:
    """Whether the first lies above the second, or with `sign` -1 below it, by more than the interval."""
    found = paired_difference(first, second, seed=seed)
    if found is None or found.low is None or found.high is None:
        return False
    return min(sign * found.low, sign * found.high) > 0
