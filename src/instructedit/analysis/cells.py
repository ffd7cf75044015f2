"""The analysis' numbers beside the reliability of an experiment's cells, by task and what was told."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from instructedit.analysis.collect import ALL_SITES
from instructedit.analysis.correlation import correlate

OF_A_CELL = ("recall", "silhouette", "within", "gap")  # what the analysis knows of each task alone
OTHER = "other"
Place = tuple[str, str]  # task, and what was told: right or none


def join_cells(
    editor: str, rows: Sequence[Mapping[str, Any]], reliability: Mapping[Place, float]
) -> Iterator[dict[str, Any]]:
    """What `measure_labels` found of an editor's deltas by task, with the reliability of the same place.

    All sites together. ``gap`` is the task's own: its mean cosine within, minus that with the other tasks.
    ``other`` has no reliability here: an analysis deals its own tasks' instructions, a cell is told those
    of another kind.
    """
    for row in rows:
        view = (row["stage"], row["site"], row["by"])
        if view != ("delta", ALL_SITES, "task") or row["condition"] == OTHER:
            continue
        for task, part in row["by_label"].items():
            if (task, row["condition"]) in reliability:
                others = [pair["cosine"] for pair in row["pairs"] if task in pair["labels"]]
                numbers = {**part, "gap": part["within"] - fmean(others)}
                place = {"editor": editor, "task": task, "condition": row["condition"]}
                share = {"reliability": reliability[task, row["condition"]]}
                yield place | {name: numbers[name] for name in OF_A_CELL} | share


def correlate_cells(cells: Sequence[Mapping[str, Any]], seed: int = 0) -> dict[str, dict[str, Any]]:
    """The correlation of each number with reliability over joined cells, ready for JSON; see `correlate`."""
    shares = [cell["reliability"] for cell in cells]
    return {name: asdict(correlate([cell[name] for cell in cells], shares, seed=seed)) for name in OF_A_CELL}
