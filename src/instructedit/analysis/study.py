"""The whole analysis: directions under every condition, all numbers, and what the pictures show."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from jaxtyping import Float
from torch import Tensor

from instructedit.analysis.collect import ALL_SITES, SKETCH, Vectors, collect_vectors
from instructedit.analysis.conditions import Condition, make_conditions
from instructedit.analysis.numbers import measure_labels, measure_turn
from instructedit.backbone import Backbone, PrefixCache
from instructedit.extras import require
from instructedit.instructions.banks import Split
from instructedit.progress import track
from instructedit.types import EditCase

if TYPE_CHECKING:
    from instructedit.editors import Editor


@dataclass(frozen=True)
class View:
    """Directions under one condition, labelled by their edits' task or by whose instruction was told."""

    condition: str
    by: Literal["task", "told"]
    labels: tuple[str, ...]

    @property
    def title(self) -> str:
        """What a person reads above a picture."""
        return f"{self.condition}, by {self.by}" if self.condition == "other" else self.condition


@dataclass(frozen=True)
class Study:
    """Directions of the same edits under each condition, the views of them, and `numbers`, ready for JSON."""

    conditions: tuple[Condition, ...]
    vectors: dict[str, Vectors]
    views: tuple[View, ...]
    numbers: dict[str, Any]

    def tensors(self) -> dict[str, Float[Tensor, "n _"]]:
        """The directions of single sites in half precision, by condition/stage/site."""
        return {
            f"{condition}/{stage}/{site}": rows.half()
            for condition, stages in self.vectors.items()
            for stage, sites in stages.items()
            for site, rows in sites.items()
            if site != ALL_SITES
        }


def analyse(
    backbone: Backbone,
    editor: "Editor",
    cases: Sequence[EditCase],
    *,
    trained: Collection[str] | None = None,
    split: Split = "unseen",
    permutations: int = 20,
    batch: int = 16,
    sketch: int = SKETCH,
    seed: int = 0,
    cache: PrefixCache | None = None,
) -> Study:
    """Collect the directions of `cases` under each condition and measure every stage, site and view.

    ``numbers`` holds ``tasks`` (with ``held_out``, where it is known what the editor was `trained` on),
    ``rows`` (one a stage, site and view, see `measure_labels`) and ``turns`` (one a stage, site and
    condition: how far it turns an edit away from its direction under the right instruction).

    Errors: `OutputError` without the extra ``plot``; `DataError` as `measure_labels` and `collect_vectors`.
    """
    require("plot", "the analysis")
    conditions = make_conditions(cases, split, seed)
    options: dict[str, Any] = {"batch": batch, "cache": cache, "sketch": sketch, "seed": seed}
    vectors = {
        condition.name: collect_vectors(backbone, editor, cases, condition.instructions, **options)
        for condition in conditions
    }
    views = make_views([case.task for case in cases], conditions)
    rows = [
        {"condition": view.condition, "by": view.by, "stage": stage, "site": site}
        | measure_labels(found, view.labels, permutations=permutations, seed=seed)
        for view, stage, site, found in track(list(_walk(vectors, views)), "measuring")
    ]
    turns = [
        {"condition": name, "stage": stage, "site": site}
        | measure_turn(vectors["right"][stage][site], found, permutations=permutations, seed=seed)
        for name in vectors
        if name != "right"
        for stage, sites in vectors[name].items()
        for site, found in sites.items()
    ]
    numbers = {
        "editor": editor.name,
        "model": backbone.name,
        "checksum": backbone.checksum,
        "settings": {"split": split, "permutations": permutations, "sketch": sketch, "seed": seed},
        "tasks": _count_tasks(cases, trained),
        "rows": rows,
        "turns": turns,
    }
    return Study(tuple(conditions), vectors, tuple(views), numbers)


def make_views(tasks: Sequence[str], conditions: Sequence[Condition]) -> list[View]:
    """By task under every condition, and for ``other`` by what was told as well.

    With two banks of instructions, another's is always the same one, so that to read what was told is to
    know the task: then ``other`` is seen by what was told only.
    """
    views = []
    for condition in conditions:
        told = condition.name == "other"
        if not told or len(set(condition.told)) > 2:
            views.append(View(condition.name, "task", tuple(tasks)))
        if told:
            views.append(View(condition.name, "told", condition.told))
    return views


def _walk(
    vectors: dict[str, Vectors], views: Sequence[View]
) -> Iterator[tuple[View, str, str, Float[Tensor, "n _"]]]:
    for view in views:
        for stage, sites in vectors[view.condition].items():
            yield from ((view, stage, site, found) for site, found in sites.items())


def _count_tasks(cases: Sequence[EditCase], trained: Collection[str] | None) -> dict[str, dict[str, Any]]:
    counts = Counter(case.task for case in cases)
    return {
        task: {"n": counts[task], "held_out": None if trained is None else task not in trained}
        for task in sorted(counts)
    }
