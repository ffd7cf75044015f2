"""Summaries of evaluations, read back as the few numbers that an editor is judged by."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instructedit.errors import DataError

SUMMARY_FILE = "summary.json"
ALL = "all"
OTHER_THAN_CONDITIONS = frozenset({"base", "difference"})
MEASURES = {  # measure -> group, prompts and metric in a summary
    "reliability": ("reliability", "bare", "exact"),
    "reliability_instructed": ("reliability", "instructed", "exact"),
    "generalization": ("rephrase", "bare", "exact"),
    "locality": ("locality", "bare", "unchanged"),
    "portability": ("portability", "bare", "accuracy"),
    "win_rate": ("reliability", "bare", "win_rate"),
    "win_rate_rephrased": ("rephrase", "bare", "win_rate"),
}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One summary file: `tasks` and `leverage` as `instructedit evaluate --out` wrote them."""

    source: str  # the folder's name, told apart where two files hold the same task
    tasks: dict[str, Any]
    leverage: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Score:
    """One measure on one data set: shares between 0 and 1 with the 95 % interval of the edited model.

    `base` is the unedited model's share and `gain` edited minus base, case by case; both are None where
    a measure compares the model with itself.
    """

    dataset: str
    task: str
    measure: str
    edited: float
    low: float | None
    high: float | None
    base: float | None
    gain: float | None
    cases: int


@dataclass(frozen=True, slots=True)
class Lever:
    """One request under two instructions: the share under each, and their paired difference."""

    dataset: str
    contrast: str
    part: str
    conditions: tuple[str, ...]
    shares: tuple[float, ...]
    base: float | None
    difference: float | None
    low: float | None
    high: float | None
    cases: int


def read_evaluations(paths: Sequence[Path]) -> list[Evaluation]:
    """Read summary files, or the folders that hold them, in the order given.

    Errors: `DataError` without a path, for a file that cannot be read, or for one that is no summary.
    """
    if not paths:
        raise DataError("no summary was named. Expected files that `instructedit evaluate --out` wrote.")
    files = [(path / SUMMARY_FILE if path.is_dir() else path).resolve() for path in paths]
    return [_read(path, name) for path, name in zip(files, _names(files), strict=True)]


def _names(files: Sequence[Path]) -> list[str]:
    """The folders' names, with as many of those above them as tell the files apart.

    Errors: `DataError` where one file is named twice.
    """
    if len({*files}) < len(files):
        twice = next(file for file in files if files.count(file) > 1)
        raise DataError(f"{twice.parent.name}/{twice.name} was named twice. Expected each summary once.")
    places = [f.parts[:-1] if f.name == SUMMARY_FILE else (*f.parts[:-1], f.stem) for f in files]
    deep = next(n for n in range(1, 99) if len({place[-n:] for place in places}) == len({*places}) or n == 98)
    return ["/".join(place[-deep:]) for place in places]


def _read(path: Path, name: str) -> Evaluation:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"cannot read {path}: {error}. Expected a summary.json that `instructedit evaluate --out` wrote."
        ) from error
    tasks = content.get("tasks") if isinstance(content, dict) else None
    if not isinstance(tasks, dict) or not isinstance(content.get("leverage", {}), dict):
        raise DataError(
            f"{path} is no summary of an evaluation: it holds no 'tasks'. Expected a summary.json that "
            "`instructedit evaluate --out` wrote."
        )
    return Evaluation(name, tasks, content.get("leverage", {}))


def read_scores(evaluations: Sequence[Evaluation]) -> list[Score]:
    """Every measure of `MEASURES` that the evaluations hold, by data set.

    A data set is called after its task, and after its folder as well where two files hold the same task.
    Errors: `DataError` for an entry that is no estimate.
    """
    seen = Counter(task for evaluation in evaluations for task in evaluation.tasks)
    scores = []
    for evaluation in evaluations:
        for task, groups in evaluation.tasks.items():
            dataset = task if seen[task] == 1 else f"{task} ({evaluation.source})"
            for measure, path in MEASURES.items():
                entry = _find(groups, path)
                if entry:
                    scores.append(_score(dataset, task, measure, entry))
    return scores


def _find(groups: Any, path: tuple[str, ...]) -> dict[str, Any]:
    for key in path:
        groups = groups.get(key, {}) if isinstance(groups, dict) else {}
    return groups if isinstance(groups, dict) and "edited" in groups else {}


def _score(dataset: str, task: str, measure: str, entry: dict[str, Any]) -> Score:
    try:
        edited, base, gain = entry["edited"], entry.get("base", {}), entry.get("difference", {})
        numbers = (edited["mean"], edited["low"], edited["high"], base.get("mean"), gain.get("mean"))
        return Score(dataset, task, measure, *numbers, int(edited["cases"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{dataset}, {measure}: {error!r}. Expected a mean with low, high and cases: evaluate again."
        ) from error


def read_levers(evaluations: Sequence[Evaluation]) -> list[Lever]:
    """Every part of every contrast that the evaluations hold; errors as `read_scores`."""
    return [
        _lever(evaluation, contrast, part, entry)
        for evaluation in evaluations
        for contrast, parts in evaluation.leverage.items()
        for part, entry in parts.items()
    ]


def _lever(evaluation: Evaluation, contrast: str, part: str, entry: dict[str, Any]) -> Lever:
    try:
        names = tuple(name for name in entry if name not in OTHER_THAN_CONDITIONS)
        shares = tuple(entry[name]["mean"] for name in names)
        found, base = entry.get("difference"), entry.get("base", {}).get("mean")
        mean, low, high = [found[key] for key in ("mean", "low", "high")] if found else [None] * 3
        cases = int((found or {}).get("cases", 0))
        dataset = " + ".join(evaluation.tasks) or evaluation.source
        return Lever(dataset, contrast, part, names, shares, base, mean, low, high, cases)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"leverage of {contrast}, {part}: {error!r}. Expected two conditions and their difference: "
            "evaluate again."
        ) from error
