"""Finished cells read back: values by case for every place of a table, seeds and data sets put together."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product

from instructedit.evaluation.bootstrap import Clusters, Estimate, estimate, paired_difference
from instructedit.experiment.cells import Cell, cells_of
from instructedit.experiment.known import Values
from instructedit.experiment.measures import (
    MEAN,
    MEASURES,
    combine,
    find_best,
    is_beyond,
    merge_seeds,
    prefix_cases,
)
from instructedit.experiment.specs import AXES, UNEDITED, Plan, TableSpec
from instructedit.experiment.store import RunFolder

EVERY = "all data sets"


@dataclass(frozen=True, order=True)
class Place:
    """One entry of a table, by its names on the axes."""

    model: str
    data: str
    editor: str
    condition: str
    measure: str


@dataclass(frozen=True)
class Entry:
    """One number of a table: a mean over cases with its interval, and the seeds that it is a mean of.

    `spread` holds the least and the greatest mean of a single seed, where there are several.
    """

    estimate: Estimate
    seeds: int
    spread: tuple[float, float] | None = None
    best: bool = False


class Results:
    """The finished cells of a run, each read once; `keys` are the cells' keys by their names."""

    def __init__(self, run: RunFolder, keys: Mapping[str, str]) -> None:
        self.run, self.keys = run, keys
        self._read: dict[Cell, Values | None] = {}

    def versions(self) -> dict[str, str]:
        """Every version of each package that the finished cells were run with."""
        kept = [
            self.run.versions(key) for key in dict.fromkeys(self.keys.values()) if self.run.is_finished(key)
        ]
        names = dict.fromkeys(name for each in kept for name in each)
        found = {name: ", ".join(sorted({each[name] for each in kept if name in each})) for name in names}
        if lost := sum(not each for each in kept):
            found["all that was used"] = f"not kept by {lost} of {len(kept)} cells"
        return found

    def measures(self, cell: Cell) -> Values | None:
        """The values of every measure of a cell, or None where it is not finished."""
        if cell not in self._read:
            key = self.keys.get(str(cell))
            done = key is not None and self.run.is_finished(key)
            self._read[cell] = self.run.values(str(key)) if done else None
        return self._read[cell]


@dataclass(frozen=True)
class Grid:
    """A table's entries and paired differences by place; places without a number are absent."""

    table: TableSpec
    axes: dict[str, tuple[str, ...]]
    entries: dict[Place, Entry]
    differences: dict[tuple[str, str], dict[Place, Estimate]]
    finished: int
    cells: int

    def names(self, axis: str) -> tuple[str, ...]:
        return self.axes[axis]


def make_grid(plan: Plan, table: TableSpec, results: Results) -> Grid:
    """The numbers of one table, as far as its cells are finished."""
    cells = cells_of(plan, table)
    axes = {axis: table.names(axis) for axis in AXES}
    axes["model"] = table.models or (next(iter(plan.models)),)
    if table.average:
        axes["data"] = (*table.data, EVERY)
    reader = _Reader(results, table, cells)
    values: dict[Place, Clusters] = {}
    entries: dict[Place, Entry] = {}
    for place in (Place(*names) for names in product(*axes.values())):
        seeds = reader.by_seed(place)
        if seeds:
            values[place] = merge_seeds(list(seeds.values()))
            entries[place] = _entry(place, seeds, values[place])
    for place in best_places(table, values):
        entries[place] = replace(entries[place], best=True)
    done = sum(results.measures(cell) is not None for cell in cells)
    pairs = {pair: _differences(table, pair, values) for pair in table.pairs}
    return Grid(table, axes, entries, pairs, done, len(cells))


@dataclass(frozen=True)
class _Reader:
    results: Results
    table: TableSpec
    cells: list[Cell]

    def by_seed(self, place: Place) -> dict[int, Clusters]:
        """A place's values for every finished seed; with every data set, the seeds that all of them have."""
        if place.data != EVERY:
            return self._single(place) or {}
        parts = {name: self._single(replace(place, data=name)) for name in self.table.data}
        if any(part is None for part in parts.values()):
            return {}
        having = {name: part for name, part in parts.items() if part}
        common = set.intersection(*(set(part) for part in having.values())) if having else set()
        return {
            seed: combine([prefix_cases(part[seed], name) for name, part in having.items()])
            for seed in sorted(common)
        }

    def _single(self, place: Place) -> dict[int, Clusters] | None:
        """By seed; without the seeds that lack the measure, and None where no cell is finished."""
        names = (place.model, place.editor, place.data, place.condition)
        mine = [c for c in self.cells if (c.model, c.editor, c.data, c.condition) == names]
        found = {cell.seed: self.results.measures(cell) for cell in mine}
        done = {seed: values for seed, values in found.items() if values is not None}
        if not done:
            return None
        return {seed: values[place.measure] for seed, values in done.items() if place.measure in values}


def _entry(place: Place, seeds: Mapping[int, Clusters], merged: Clusters) -> Entry:
    means = [found.mean for each in seeds.values() if (found := estimate(each, resamples=0))]
    spread = (min(means), max(means)) if len(means) > 1 else None
    certain = (place.editor, place.measure) == (UNEDITED, "locality")  # by definition
    whole = estimate(merged, share=MEASURES[place.measure].share and not certain)
    assert whole is not None  # a measure without values is no place
    return Entry(whole, len(seeds), spread)


def best_places(table: TableSpec, values: Mapping[Place, Clusters]) -> list[Place]:
    """The places that are best among those that differ from them on the compared axis alone.

    The unedited model is nobody's rival, but the best mean of all measures has to lie beyond its as well.
    """
    groups: dict[Place, dict[str, Clusters]] = {}
    for place, clusters in values.items():
        if place.editor != UNEDITED:  # an unedited model keeps everything, which is no merit
            shared = replace(place, **{table.compare: ""})
            groups.setdefault(shared, {})[getattr(place, table.compare)] = clusters
    found = []
    for shared, rivals in groups.items():
        better = MEASURES[shared.measure].higher_is_better if shared.measure else True
        best = find_best(rivals, higher_is_better=better)
        if best is not None:
            found.append(replace(shared, **{table.compare: best}))
    return [place for place in found if place.measure != MEAN or _is_gain(place, values)]


def _is_gain(place: Place, values: Mapping[Place, Clusters]) -> bool:
    """Whether a place lies beyond the unedited model's, where the table has that."""
    unedited = values.get(replace(place, editor=UNEDITED))
    return unedited is None or is_beyond(values[place], unedited)


def _differences(
    table: TableSpec, pair: tuple[str, str], values: Mapping[Place, Clusters]
) -> dict[Place, Estimate]:
    """First minus second of a pair, case by case, for every combination of the other axes."""
    found = {}
    for place, clusters in values.items():
        if getattr(place, table.compare) == pair[0]:
            other = values.get(replace(place, **{table.compare: pair[1]}))
            difference = paired_difference(clusters, other) if other else None
            if difference is not None:
                found[place] = difference
    return found
