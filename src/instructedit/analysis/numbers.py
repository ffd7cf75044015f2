"""How well the labels of edits can be told apart by direction, each number beside that of shuffled labels."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from instructedit.analysis.geometry import (
    leading_basis,
    mean_cosines,
    normalise_rows,
    principal_angles,
    rotate_down,
    silhouette,
)
from instructedit.analysis.probe import probe_labels
from instructedit.errors import DataError

FOLDS = 5
DIMENSIONS = 5  # of a label's subspace, half of its edits at the most
MEASURES = ("probe", "silhouette", "gap", "angle")

Measure = Callable[[Tensor], Tensor]  # labels -> what the number is the mean of


def measure_labels(
    vectors: Float[Tensor, "n d"], labels: Sequence[str], *, permutations: int = 20, seed: int = 0
) -> dict[str, Any]:
    """Four numbers of one set of directions, ready for JSON; in all of them more is further apart.

    - ``probe``: balanced accuracy of a linear probe on folds that it has not seen (see `probe_labels`).
    - ``silhouette``: the mean over edits, at the distance 1 - cosine.
    - ``gap``: mean cosine within a label minus mean cosine between labels, each label and pair counted once.
    - ``angle``: the mean principal angle between the leading subspaces of two labels, in degrees.

    Each has its ``value``, the mean and the 95th percentile of it with the labels shuffled over the same
    vectors ``permutations`` times, and ``p``, the share of orders (the true one among them) that reach it.
    ``by_label`` and ``pairs`` hold what they are means of.

    Errors: `DataError` below two labels, or with a label of less than two edits.
    """
    names, counts = sorted(set(labels)), Counter(labels)
    if len(names) < 2 or min(counts.values()) < 2:
        raise DataError(f"cannot compare {dict(counts)}. Expected at least two labels with two edits each.")
    y = torch.tensor([names.index(label) for label in labels])
    points = rotate_down(normalise_rows(vectors.double()))
    measures = _make_measures(points, min(counts.values()), seed)
    orders = draw_orders(len(y), permutations, seed)
    parts = {name: measure(y) for name, measure in measures.items()}
    found: dict[str, Any] = {"n": len(y)}
    for name, measure in measures.items():
        shuffled = [float(measure(y[order]).mean()) for order in orders]
        found[name] = _beside_chance(float(parts[name].mean()), shuffled)
    table = mean_cosines(points @ points.mT, y)
    found |= _split(table)
    found["by_label"] = {
        name: {
            "n": counts[name],
            "recall": float(parts["probe"][index]),
            "silhouette": float(parts["silhouette"][y == index].mean()),
            "within": float(table[index, index]),
        }
        for index, name in enumerate(names)
    }
    found["pairs"] = [
        {"labels": [names[i], names[j]], "cosine": float(table[i, j]), "angles": angles}
        for (i, j), angles in zip(combinations(range(len(names)), 2), parts["angle"].tolist(), strict=True)
    ]
    return found


def measure_turn(
    first: Float[Tensor, "n d"], second: Float[Tensor, "n d"], *, permutations: int = 20, seed: int = 0
) -> dict[str, Any]:
    """The mean cosine of the same edits under two instructions; ``shuffled``, of an edit and another one.

    At 1 the instruction turns nothing.
    """
    first, second = normalise_rows(first.double()), normalise_rows(second.double())
    orders = draw_orders(len(first), permutations, seed) if len(first) > 1 else []
    mixed = [float((first[order] * second[order.roll(1)]).sum(1).mean()) for order in orders]  # never its own
    found = {"n": len(first), "cosine": float((first * second).sum(1).mean())}
    return {**found, "shuffled": sum(mixed) / len(mixed) if mixed else None}


def draw_orders(count: int, permutations: int, seed: int) -> list[Int[Tensor, " n"]]:
    """Seeded orders to shuffle labels by."""
    draw = torch.Generator().manual_seed(seed)
    return [torch.randperm(count, generator=draw) for _ in range(permutations)]


def _make_measures(points: Float[Tensor, "n d"], fewest: int, seed: int) -> dict[str, Measure]:
    """The measures of points of length one, for labels of `fewest` points or more."""
    cosines = points @ points.mT
    folds, dimensions = min(FOLDS, fewest), min(DIMENSIONS, max(1, fewest // 2))

    def gap(labels: Tensor) -> Tensor:
        split = _split(mean_cosines(cosines, labels))
        return torch.tensor([split["within"] - split["between"]], dtype=torch.float64)

    return {
        "probe": lambda labels: probe_labels(points, labels, folds, seed),
        "silhouette": lambda labels: silhouette(1 - cosines, labels),
        "gap": gap,
        "angle": lambda labels: _angles(points, labels, dimensions),
    }


def _split(table: Float[Tensor, "k k"]) -> dict[str, float]:
    """The mean of the diagonal, and the mean of all else."""
    k, own = len(table), float(table.diagonal().sum())
    return {"within": own / k, "between": (float(table.sum()) - own) / (k * (k - 1))}


def _angles(
    points: Float[Tensor, "n d"], labels: Int[Tensor, " n"], dimensions: int
) -> Float[Tensor, "pairs m"]:
    """The principal angles between the leading subspaces of each two labels, in degrees.

    Where one has fewer dimensions than the other pairs have, its last angle stands for those that it lacks.
    """
    bases = [leading_basis(points[labels == label], dimensions) for label in range(int(labels.max()) + 1)]
    found = [principal_angles(first, second) for first, second in combinations(bases, 2)]
    most = max(len(angles) for angles in found)
    return torch.stack([torch.cat([x, x[-1:].expand(most - len(x))]) for x in found])


def _beside_chance(value: float, shuffled: Sequence[float]) -> dict[str, float | None]:
    if not shuffled:
        return {"value": value, "shuffled": None, "shuffled_high": None, "p": None}
    chance = torch.tensor(shuffled, dtype=torch.float64)
    return {
        "value": value,
        "shuffled": float(chance.mean()),
        "shuffled_high": float(chance.quantile(0.95)),
        "p": (1 + int((chance >= value - 1e-12).sum())) / (1 + len(shuffled)),
    }
