"""Rows summed up: per task, group and metric, the unedited and the edited model side by side."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from instructedit.evaluation.bootstrap import RESAMPLES, clusters_of, estimate, paired_difference
from instructedit.evaluation.rows import METRICS, Row

if TYPE_CHECKING:
    from rich.table import Table

GROUP_TITLES = {
    "reliability": "Reliability",
    "rephrase": "Generalization",
    "locality": "Locality",
    "portability": "Portability",
    "old_answer": "Old answer given",
    "fluency": "Fluency",
}
SHOWN = {  # group -> the metrics of a printed table; a summary holds all of them
    "reliability": ("exact", "accuracy", "win_rate", "sentiment_score", "generation"),
    "rephrase": ("exact", "accuracy", "win_rate", "sentiment_score", "generation"),
    "locality": ("unchanged", "unchanged_exact", "kl"),
    "portability": ("exact", "accuracy", "generation"),
    "old_answer": ("exact",),
    "fluency": ("fluency",),
}
PLAIN_UNITS = frozenset({"kl", "log_prob", "good_log_prob", "bad_log_prob", "fluency"})  # not percentages
OF_ITSELF = frozenset({"unchanged", "unchanged_exact"})  # 1 by definition for the unedited model
Summary = dict[str, dict[str, dict[str, dict[str, dict[str, Any]]]]]


def summarise(rows: Sequence[Row], *, resamples: int = RESAMPLES, seed: int = 0) -> Summary:
    """``summary[task][group]["bare" | "instructed"][metric]`` with ``base``, ``edited`` and ``difference``.

    Each is an `Estimate` as a dict (mean over cases of within-case means, 95 % interval from resampled
    subjects, plain mean over probes); ``difference`` is edited minus base, case by case. Metrics without
    a value are left out. Ready for JSON. Rates are fractions.
    """
    summary: Summary = {}
    for (task, group, prompts), part in _parts(rows).items():
        for metric in METRICS:
            entry = _entry(part, metric, resamples, seed)
            if entry:
                place = summary.setdefault(task, {}).setdefault(group, {}).setdefault(prompts, {})
                place[metric] = entry
    return summary


def _parts(rows: Sequence[Row]) -> dict[tuple[str, str, str], list[Row]]:
    parts: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        key = (row["task"], row["group"], "instructed" if row["instructed"] else "bare")
        parts.setdefault(key, []).append(row)
    order = list(GROUP_TITLES)
    return dict(sorted(parts.items(), key=lambda part: (part[0][0], order.index(part[0][1]), part[0][2])))


def _entry(rows: Sequence[Row], metric: str, resamples: int, seed: int) -> dict[str, Any]:
    base, edited = (clusters_of(rows, f"{side}_{metric}") for side in ("base", "edited"))
    share = metric not in PLAIN_UNITS
    found = {
        "base": estimate(base, share=share and metric not in OF_ITSELF, resamples=resamples, seed=seed),
        "edited": estimate(edited, share=share, resamples=resamples, seed=seed),
        "difference": paired_difference(edited, base, resamples=resamples, seed=seed),
    }
    return {name: value.as_dict() for name, value in found.items() if value}


def format_summary(summary: Summary, *, all_metrics: bool = False) -> "Table":
    """The summary as a table to print: rates in percent, KL and log-probabilities in nats."""
    from rich.table import Table

    table = Table(title="Before and after the edits; mean over cases and 95 % interval of the edited model")
    for name in ("task", "measure", "prompts", "metric"):
        table.add_column(name)
    for name in ("base", "edited", "interval", "cases", "probes"):
        table.add_column(name, justify="right")
    for task, group, prompts, metric, entry in _lines(summary):
        if all_metrics or metric in SHOWN[group]:
            table.add_row(task, GROUP_TITLES[group], prompts, metric, *_cells(metric, entry))
    return table


def _lines(summary: Summary) -> Iterator[tuple[str, str, str, str, dict[str, Any]]]:
    for task, groups in summary.items():
        for group, kinds in groups.items():
            for prompts, metrics in kinds.items():
                for metric, entry in metrics.items():
                    yield task, group, prompts, metric, entry


def _cells(metric: str, entry: dict[str, Any]) -> tuple[str, ...]:
    edited, base = entry["edited"], entry.get("base", {})
    return (
        format_value(metric, base.get("mean")),
        format_value(metric, edited["mean"]),
        f"{format_value(metric, edited['low'])} – {format_value(metric, edited['high'])}",
        str(edited["cases"]),
        str(edited["probes"]),
    )


def format_value(metric: str, value: float | None) -> str:
    """One number as it is printed: a rate in percent and a fluency with one decimal, nats with three."""
    if value is None:
        return "–"
    if metric == "fluency":
        return f"{value:.1f}"
    return f"{value:.3f}" if metric in PLAIN_UNITS else f"{100 * value:.1f}"
