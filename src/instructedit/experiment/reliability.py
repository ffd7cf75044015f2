"""How reliable an editor of a run is, by task and by what it was told: what an analysis is held against."""

from statistics import fmean

from instructedit.errors import DataError, unknown_name
from instructedit.evaluation.bootstrap import CaseKey
from instructedit.experiment.cells import all_cells
from instructedit.experiment.plan import parse_plan
from instructedit.experiment.results import Results
from instructedit.experiment.specs import Condition
from instructedit.experiment.store import RunFolder

MEASURE = "reliability"


def read_reliability(run: RunFolder, editor: str, split: str) -> dict[tuple[str, str, str], float]:
    """The mean reliability by model (its checksum), task and control, over an editor's finished cells.

    Only single edits count, told by the package's wordings of `split`; a win rate stands for an opinion's.
    Errors: `UnknownNameError` for an editor that the plan lacks, `DataError` where nothing of it is finished;
    as `RunFolder.read_plan`.
    """
    stored = run.read_plan()
    plan = parse_plan(stored["plan"])
    if editor not in plan.editors:
        raise unknown_name("editor of the run", editor, list(plan.editors))
    results, found, part = Results(run, stored["keys"]), {}, {}
    for cell in all_cells(plan):
        condition = plan.conditions[cell.condition]
        if cell.editor == editor and _is_single(condition, split):
            for case, values in (results.measures(cell) or {}).get(MEASURE, {}).items():
                task = case.task if isinstance(case, CaseKey) else ""
                place = (stored["checksums"].get(cell.model, ""), task, condition.control)
                kept = part if condition.fluency or condition.limit else found
                kept.setdefault(place, []).append(fmean(values))
    found = {**part, **found}  # some cases stand for a place where not all were asked, and never beside all
    if not found:
        raise DataError(
            f"{run.path} has no finished cell of {editor} with the wordings {split}. Expected a run of it: "
            f"instructedit experiment PLAN --only {editor}."
        )
    return {place: fmean(values) for place, values in found.items()}


def _is_single(condition: Condition, split: str) -> bool:
    other = condition.leverage or condition.together or condition.wordings
    return not other and condition.split == split
