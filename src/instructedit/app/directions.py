"""Where an edit's gradient points among those of edits of each kind, from the package's own facts."""

from collections import defaultdict
from typing import Any

import torch

from instructedit.analysis.collect import ALL_SITES, STAGES, collect_vectors
from instructedit.analysis.geometry import principal_components
from instructedit.analysis.pictures import Panel
from instructedit.app.pair import Pair
from instructedit.app.work import Work
from instructedit.data import plain_facts
from instructedit.instructions import instruction_for
from instructedit.types import EditCase

EACH = 8  # edits of a kind
BATCH = 4  # looked at between two reports of progress
SHOWN = ("gradient before", "gradient after", "delta")
TITLES = {
    "gradient before": "The gradient as the model gives it",
    "gradient after": "The same behind the trained editor",
    "delta": "The change of the weights that one pass makes of it",
}
THIS = "this edit"


def reference_cases(each: int = EACH) -> list[EditCase]:
    """Edits of every kind from the test split of the package's facts, `each` of different subjects."""
    found: dict[str, dict[str, EditCase]] = defaultdict(dict)
    for case in plain_facts("test"):
        if len(found[case.kind]) < each:
            found[case.kind].setdefault(case.subject, case)
    return [case for kind in sorted(found) for case in found[kind].values()]


def compare_direction(pair: Pair, case: EditCase, work: Work) -> list[Panel]:
    """One panel a stage: principal components of the reference edits' directions and this one's.

    The reference is computed once a pair. All sites count alike; see `collect_vectors`.
    Errors: `WorkCancelledError`; `DataError` for an edit that does not fit the model's context.
    """
    references = reference_cases()
    with pair.at_work(work):
        if not pair.directions:
            pair.directions.update(_collect(pair, references, work))
        work.step(1, 1, "Reading this edit")
        own = _collect(pair, [case], Work(stop=work.stop))
    labels = (*(reference.kind for reference in references), THIS)
    panels = []
    for stage in (stage for stage in SHOWN if stage in own):
        points, shares = principal_components(torch.cat([pair.directions[stage], own[stage]]))
        first, second = (f"{100 * share:.0f} % of variance" for share in shares.tolist())
        panels.append(Panel(TITLES[stage], points, labels, (first, second)))
    return panels


def _collect(pair: Pair, cases: list[EditCase], work: Work) -> dict[str, Any]:
    """The directions at all sites together, by stage."""
    parts: dict[str, list[Any]] = defaultdict(list)
    for start in range(0, len(cases), BATCH):
        work.step(start, len(cases), f"Looking at {len(cases)} edits of every kind, once")
        chunk = cases[start : start + BATCH]
        words = [instruction_for(case, split="unseen") for case in chunk]
        vectors = collect_vectors(pair.backbone, pair.editor, chunk, words)
        for stage in vectors:
            parts[stage].append(vectors[stage][ALL_SITES])
    return {stage: torch.cat(parts[stage]) for stage in STAGES if stage in parts}
