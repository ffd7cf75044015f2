"""The same small search for every method and every trained editor: settings are tried on training data."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.resources import files
from itertools import product
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import yaml

from instructedit.backbone import Backbone, PrefixCache
from instructedit.editors.registry import METHODS, find_method, make_method
from instructedit.errors import DataError, OutputError, one_line, unknown_name
from instructedit.evaluation import estimate, evaluate, select
from instructedit.evaluation.rows import Row
from instructedit.experiment.chosen import Chosen, Try, Values, read_search
from instructedit.experiment.measures import OF_THE_MEAN, measure_rows
from instructedit.experiment.search_training import own_values, with_settings
from instructedit.training.config import config_names
from instructedit.types import EditCase

TRIES = "tries"  # of the facts: how many there shall be, which decides none of them
Grid = Mapping[str, Sequence[Any]]
Load = Callable[[Values], tuple[Backbone, Any]]  # from settings to a model with the editor's sites, and it


@cache
def load_grids() -> dict[str, Any]:
    """Everything in ``search.yaml``: the number of tries, and the grid of each method and configuration."""
    return yaml.safe_load((files("instructedit.experiment") / "search.yaml").read_text(encoding="utf-8"))


def is_trained(name: str) -> bool:
    """Whether a name is a training configuration's, not a method's.

    Errors: `UnknownNameError` for one that is neither's.
    """
    if name not in METHODS and name not in config_names():
        raise unknown_name("method or configuration", name, [*METHODS, *config_names()])
    return name not in METHODS


def find_grid(name: str) -> Grid:
    """The package's grid of a method or a configuration.

    Errors: `UnknownNameError` for one that does not exist, or has none.
    """
    is_trained(name)
    grids = load_grids()["grids"]
    if name not in grids:
        raise unknown_name("method with a grid", name, list(grids))
    return grids[name]


def list_settings(name: str, grid: Grid, tries: int | None = None, seed: int = 0) -> list[Values]:
    """The settings to try: the method's or configuration's own first, then others of the grid's combinations.

    `tries` in all, as many as for every method where it is left out; of more combinations some are drawn by
    `seed`, in the grid's order. Errors: `DataError` for less than one try; as `make_method` and
    `with_settings`, before anything is tried.
    """
    if tries is not None and tries < 1:
        raise DataError(
            f"{tries} settings cannot be tried. Expected 1 or more, or no --tries for the usual number."
        )
    trained = is_trained(name)
    check: Callable[[str, Values], object] = with_settings if trained else make_method
    for setting, values in grid.items():
        for value in values:
            check(name, {setting: value})
    own = own_values(name, list(grid)) if trained else _own_of_method(name, grid)
    made = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    others = [settings for settings in made if settings != own]
    count = max(0, min((tries or load_grids()["tries"]) - 1, len(others)))
    drawn = sorted(random.Random(seed).sample(range(len(others)), count))
    return [own, *(others[place] for place in drawn)]


def _own_of_method(name: str, grid: Grid) -> Values:
    defaults = {setting.name: setting.default for setting in fields(find_method(name))}
    return {setting: defaults[setting] for setting in grid}


def open_search(path: Path, method: str, facts: Values, *, force: bool = False) -> Chosen:
    """A new search, or the one in `path` to be continued, with more tries too.

    Errors: as `read_search`; `OutputError` when the file holds tries of a search with other `facts`.
    """
    if force or not path.exists():
        return Chosen(method, facts)
    found = read_search(path, method)
    told = sorted(name for name in facts if name != TRIES and found.facts.get(name) != facts[name])
    if found.tries and told:
        raise OutputError(
            f"{path} holds a search with other facts ({', '.join(told)}). Choose another file, or pass "
            "--force to begin again."
        )
    return replace(found, facts=facts)


@dataclass
class Bench:
    """Cases to try settings on, and the model.

    It is loaded again where a setting moves a method's sites, and for every try of an editor that is trained.
    """

    method: str
    load: Load
    cases: Sequence[EditCase]
    batch: int = 16
    seed: int = 0
    loaded: Backbone | None = field(default=None, init=False)

    def run(
        self, chosen: Chosen, settings: Sequence[Values], path: Path, say: Callable[[str], None] = print
    ) -> Chosen:
        """Try what has not been tried; the file is written after every try.

        What could not be run is tried again. Errors: as `load`; what a try raises behind it is written down,
        and the next is made.
        """
        chosen = replace(chosen, tries=tuple(one for one in chosen.tries if one.score is not None))
        known = [one.settings for one in chosen.tries]
        with TemporaryDirectory(prefix="instructedit-") as place:
            for one in settings:
                if one not in known:
                    made = self.attempt(one, Path(place))
                    chosen = replace(chosen, tries=_in_order((*chosen.tries, made), settings))
                    chosen.save(path)
                    say(f"{one}: {made.error or f'{100 * (made.score or 0.0):.1f}'}, {made.seconds:.0f} s")
        return chosen

    def attempt(self, settings: Values, cache: Path) -> Try:
        """Edit the cases with some settings and ask their bare prompts; prefix states are kept in `cache`."""
        start = perf_counter()
        backbone, editor = self.prepare(settings)
        try:
            told: Values = {"split": "train", "instructed": False, "batch": self.batch, "seed": self.seed}
            states = PrefixCache(cache, backbone)
            rows = evaluate(backbone, editor, self.cases, resamples=0, cache=states, **told).rows
        except Exception as error:
            message = f"{type(error).__name__}: {one_line(error)}"
            return Try(settings, seconds=perf_counter() - start, error=message)
        score, measures = score_rows(rows)
        return Try(settings, score, measures, perf_counter() - start)

    def prepare(self, settings: Values) -> tuple[Backbone, Any]:
        """The editor with some settings, and the model with its sites. Errors: as `load`."""
        if self.loaded is not None and not is_trained(self.method) and "layers" not in settings:
            return self.loaded, make_method(self.method, settings)
        self.loaded, editor = self.load(settings)
        return self.loaded, editor


def _in_order(tries: Sequence[Try], settings: Sequence[Values]) -> tuple[Try, ...]:
    """In the order of the settings, the method's own first, whenever each was tried; others behind."""
    place = {repr(one): number for number, one in enumerate(settings)}
    return tuple(sorted(tries, key=lambda one: place.get(repr(one.settings), len(place))))


def score_rows(rows: Sequence[Row]) -> tuple[float, dict[str, float]]:
    """The mean over tasks of the mean of a task's measures, and the mean over tasks of every measure.

    These are Reliability, Generalization, Locality and Portability of bare prompts, where a task has them:
    means over cases of the mean over a case's probes.
    """
    tasks = [_measure(select(rows, task=task)) for task in sorted({row["task"] for row in rows})]
    names = [name for name in OF_THE_MEAN if any(name in task for task in tasks)]
    measures = {name: fmean(task[name] for task in tasks if name in task) for name in names}
    return fmean(fmean(task.values()) for task in tasks), measures


def _measure(rows: Sequence[Row]) -> dict[str, float]:
    found = {name: estimate(values, resamples=0) for name, values in measure_rows(rows).items()}
    return {name: one.mean for name, one in found.items() if one is not None and name in OF_THE_MEAN}
