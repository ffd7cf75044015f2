"""What the edits in force did beside their own prompts: carried over to other wordings, or moved the rest."""

from collections.abc import Sequence
from typing import Any

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.evaluation import clusters_of, estimate, evaluate, generate_greedy
from instructedit.evaluation.curve_point import InForce
from instructedit.evaluation.rows import SIDES, Row, select
from instructedit.report.store_card_probes import ORDINARY, SORTS, ordinary_cases, probe_cases
from instructedit.types import EditCase, Probe

CARRIED = (  # group and measure of what shall come along with the edits
    ("rephrase", "exact"),
    ("rephrase", "win_rate"),  # of opinions: replies that win
    ("portability", "exact"),
    ("old_answer", "exact"),  # of erasures
)
TOKENS = 12  # of an answer that is shown
WORST = 10  # cases of each sort that are shown
FAILED = 100  # questions that failed and are shown


def measure_beside(
    backbone: Backbone,
    delta: LowRankDelta,
    ids: Sequence[str],
    cases: Sequence[EditCase],
    passages: Sequence[Probe] = (),
    *,
    count: int = 3,
    worst: int = WORST,
    seed: int = 0,
) -> dict[str, Any]:
    """What came along with some edits and what moved, in numbers and in the text of the cases that failed.

    `ids[i]` names `cases[i]`; `count` probes of each sort are asked an edit, and `passages` of ordinary text
    beside the package's own. ``carried`` has shares of right answers, ``moved`` by sort the shares of arg-max
    tokens and of whole answers that stayed and the KL(before ‖ after) in nats a token, each an `Estimate`;
    ``failed`` lists at most `FAILED`, and says how many are left out, and ``worst`` at most `worst` cases of
    a sort, with the answers before and after.
    """
    rows = _ask(backbone, delta, probe_cases(cases, count, seed), (3 * count, seed), ids)
    rows += _ask(backbone, delta, ordinary_cases(passages), (1, seed), None)
    failed = [row for row in rows if _failed(row)]
    moved = {sort: select(rows, group="locality", name=sort) for sort in SORTS}
    moved = {sort: [row for row in part if row["edited_kl"] is not None] for sort, part in moved.items()}
    listed = {sort: sorted(part, key=_harm, reverse=True)[:worst] for sort, part in moved.items()}
    _write_answers(backbone, delta, [*failed[:FAILED], *(row for part in listed.values() for row in part)])
    return {
        "carried": [_carried(rows, group, metric, seed) for group, metric in CARRIED],
        "failed": {
            "count": len(failed),
            "left_out": len(failed[FAILED:]),
            "shown": [_show(row) for row in failed[:FAILED]],
        },
        "moved": {sort: _moved(part, seed) for sort, part in moved.items()},
        "worst": {sort: [_show(row) for row in part] for sort, part in listed.items()},
    }


def _ask(
    backbone: Backbone,
    delta: LowRankDelta,
    cases: Sequence[EditCase],
    choice: tuple[int, int],
    ids: Sequence[str] | None,
) -> list[Row]:
    """Rows of an evaluation, each with the id of its edit; no ids: of text that belongs to none."""
    groups = ("locality",) if ids is None else ("rephrase", "portability", "old_answer", "locality")
    most, seed = choice
    found = evaluate(
        backbone,
        InForce(delta),
        cases,
        instructed=False,
        groups=groups,
        max_probes=most,
        resamples=0,
        seed=seed,
    ).rows
    for row in found:
        row["edit"] = "" if ids is None else ids[row["case"]]
        row["case"] = f"{ORDINARY} {row['case']}" if ids is None else row["case"]
    return found


def _failed(row: Row) -> bool:
    """Whether an answer that shall come along did not, or an erased one is still given."""
    if row["group"] == "locality":
        return False
    if row["edited_win_rate"] is not None:
        return row["edited_win_rate"] <= 0.5
    return row["edited_exact"] is not None and row["edited_exact"] == float(row["group"] == "old_answer")


def _harm(row: Row) -> tuple[bool, float]:
    return row["edited_unchanged_exact"] == 0, row["edited_kl"]


def _carried(rows: Sequence[Row], group: str, metric: str, seed: int) -> dict[str, Any]:
    part = select(rows, group=group)
    sides = {side: _estimate(part, f"{side}_{metric}", seed) for side in SIDES}
    return {"group": group, "metric": metric, **sides}


def _moved(rows: Sequence[Row], seed: int) -> dict[str, Any]:
    changed = sum(row["edited_unchanged_exact"] == 0 for row in rows)
    names = {"tokens": "unchanged", "answers": "unchanged_exact", "kl": "kl"}
    found = {name: _estimate(rows, f"edited_{column}", seed) for name, column in names.items()}
    return {"probes": len(rows), "changed": changed, **found}


def _estimate(rows: Sequence[Row], column: str, seed: int) -> dict[str, Any] | None:
    found = estimate(clusters_of(rows, column), share=not column.endswith("_kl"), seed=seed)
    return found.as_dict() if found else None


def _write_answers(backbone: Backbone, delta: LowRankDelta, rows: Sequence[Row]) -> None:
    """Put the greedy answers of both sides into rows."""
    prompts = [row["prompt"] for row in rows]
    before = generate_greedy(backbone, prompts, max_new_tokens=TOKENS)
    edits = [0] * len(rows)
    after = generate_greedy(backbone, prompts, delta=delta, edits=edits, max_new_tokens=TOKENS)
    for row, old, new in zip(rows, before, after, strict=True):
        row["base_text"], row["edited_text"] = old, new


def _show(row: Row) -> dict[str, Any]:
    names = {"edit": "edit", "group": "group", "prompt": "prompt", "expected": "answer"}
    names |= {"before": "base_text", "after": "edited_text"}
    names |= {"kl": "edited_kl", "unchanged": "edited_unchanged_exact"}
    return {name: row[column] for name, column in names.items()}
