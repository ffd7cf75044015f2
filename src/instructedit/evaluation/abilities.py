"""General ability before and after an edit: lm-evaluation-harness on tasks that are local files."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import chdir
from importlib.metadata import version
from numbers import Real
from pathlib import Path
from typing import Any

from instructedit.backbone import Backbone
from instructedit.backbone.quiet import quiet
from instructedit.editors.change import Change
from instructedit.errors import DataError, InstructEditError, one_line
from instructedit.evaluation.abilities_answers import Asked
from instructedit.evaluation.bootstrap import paired_difference
from instructedit.evaluation.rows import SIDES
from instructedit.extras import require

EXAMPLES_SEED = 1234  # of the examples in front of a question, as lm-eval draws them
LISTED = 20  # lost questions that are kept in full
Results = Mapping[str, Any]


def check_tasks(path: Path) -> Path:
    """The same path, where something is there and lm-eval is installed.

    Errors: `DataError` when nothing is there; `OutputError` with the command that installs lm-eval.
    """
    require("eval", "scoring tasks")
    if not path.exists():
        raise DataError(f"there are no tasks at {path}. Expected a task's YAML file, or a folder of them.")
    return path


def measure_abilities(
    backbone: Backbone, delta: Change, path: Path | str, *, limit: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Run lm-eval's tasks of a folder, or of one YAML file, on the model and under one delta (b = 1).

    Paths in a task file are relative to its folder. Texts begin with the backbone's start token, which
    lm-eval's own model does not add, and generation is greedy. `limit` cuts every task to its first
    questions. ``scores`` has one entry a task, metric and filter, with both values and the `Estimate` of
    their difference over questions; ``lost`` lists questions that were right before and are wrong now.
    Errors: `OutputError` when lm-eval is not installed; `DataError` when the tasks cannot be read or run.
    """
    path = check_tasks(Path(path)).resolve()
    asked = Asked(backbone, delta)
    with chdir(_folder_of(path)), quiet(swallow=True):
        before, after = (_run(asked, side, path, limit) for side in SIDES)
    return {
        "scores": list(_scores(before, after, seed)),
        "lost": _lost(before, after),
        "versions": {name: str(number) for name, number in before["versions"].items()},
        "lm_eval": version("lm_eval"),
    }


def _folder_of(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _run(asked: Asked, side: str, path: Path, limit: int | None) -> Results:
    """lm-eval's results of one side, by `evaluate`: `simple_evaluate` seeds the global random state."""
    from lm_eval import evaluate
    from lm_eval.tasks import TaskManager

    try:
        manager = TaskManager(include_path=str(_folder_of(path)), include_defaults=False)
        names = list(manager.all_subtasks) if path.is_dir() else [str(path)]
        if not names:
            raise DataError(f"{path} holds no task. Expected YAML files of lm-eval with a task's name.")
        loaded = manager.load(names)
        for task in loaded["tasks"].values():
            task.set_fewshot_seed(seed=EXAMPLES_SEED)
            if task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=0)
        results = evaluate(lm=_as_model(asked, side), task_dict=loaded, limit=limit, bootstrap_iters=0)
    except InstructEditError:
        raise
    except Exception as error:  # a task's code, its template, its data: each raises what it likes
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise DataError(
            f"lm-eval cannot run the tasks at {path}: {reason}. Expected tasks whose data are local files."
        ) from error
    return results or {}


def _as_model(asked: Asked, side: str) -> Any:
    """One side as lm-eval wants a model."""
    from lm_eval.api.model import LM

    class Side(LM):
        def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
            return asked.score([request.args for request in requests], side)

        def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
            return asked.score_whole([request.args[0] for request in requests], side)

        def generate_until(self, requests: Sequence[Any]) -> list[str]:
            return asked.write([request.args for request in requests], side)

    return Side()


def _scores(before: Results, after: Results, seed: int) -> Iterator[dict[str, Any]]:
    """Every metric of every task on both sides; its parts by question give the difference's interval."""
    for task, values in before["results"].items():
        for key, value in values.items():
            metric, _, chosen = key.partition(",")
            if not chosen or metric.endswith("_stderr") or not isinstance(value, Real):
                continue
            parts = [_by_question(side, task, metric, chosen) for side in (after, before)]
            difference = paired_difference(*parts, seed=seed)
            yield {
                "task": task,
                "metric": metric,
                "filter": chosen,
                "before": float(value),
                "after": float(after["results"][task][key]),
                "difference": difference.as_dict() if difference else None,
                "documents": sum(sample["filter"] == chosen for sample in before["samples"][task]),
                "higher_is_better": before["higher_is_better"].get(task, {}).get(metric),
            }


def _by_question(results: Results, task: str, metric: str, chosen: str) -> dict[Hashable, list[float]]:
    """A metric's value for each question; empty for one that is not a mean over questions."""
    samples = [sample for sample in results["samples"][task] if sample["filter"] == chosen]
    return {s["doc_id"]: [float(s[metric])] for s in samples if isinstance(s.get(metric), Real)}


def _lost(before: Results, after: Results) -> dict[str, Any]:
    """The questions whose accuracy fell from 1 to 0."""
    lost = []
    for task, samples in before["samples"].items():
        now = {(sample["doc_id"], sample["filter"]): sample for sample in after["samples"][task]}
        for sample in samples:
            pair = (sample, now[sample["doc_id"], sample["filter"]])
            right = [next((s[name] for name in ("acc", "exact_match") if name in s), None) for s in pair]
            if right == [1, 0]:
                lost.append(_show_question(task, sample))
    return {"count": len(lost), "shown": lost[:LISTED]}


def _show_question(task: str, sample: Mapping[str, Any]) -> dict[str, str]:
    target, asked = sample["target"], sample["arguments"]
    if isinstance(target, int) and 0 <= target < len(asked):  # the number of a choice
        target = asked[target][1]
    return {"task": task, "prompt": str(asked[0][0]), "target": str(target).strip()}
