"""What an instruction is worth: the same request under two instructions, and the difference it makes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from instructedit.backbone import Backbone, PrefixCache
from instructedit.errors import DataError
from instructedit.evaluation.bootstrap import RESAMPLES, estimate, paired_difference
from instructedit.evaluation.contrasts import CONTRASTS, Contrast, find_contrasts
from instructedit.evaluation.rows import Row
from instructedit.evaluation.single import evaluate
from instructedit.instructions.banks import Split
from instructedit.types import EditCase

if TYPE_CHECKING:
    from rich.table import Table

    from instructedit.editors import Editor


@dataclass(frozen=True)
class LeverageResult:
    """All rows (column ``condition`` tells them apart), and the summary of `measure_leverage`."""

    rows: list[Row]
    summary: dict[str, dict[str, dict[str, Any]]]


def measure_leverage(
    backbone: Backbone,
    editor: "Editor",
    cases: Sequence[EditCase],
    *,
    split: Split = "unseen",
    batch: int = 16,
    seed: int = 0,
    max_probes: int = 10,
    max_replies: int = 4,
    resamples: int = RESAMPLES,
    cache: PrefixCache | None = None,
    contrasts: Sequence[str] = (),
) -> LeverageResult:
    """Edit each case twice, under two instructions of the banks, and compare the edited models.

    - ``scope``: token accuracy on portability probes, wide minus narrow; also by the probes' name, and
      whether both still give the answer on the prompt (``reliability``) and its paraphrases.
    - ``sentiment``: the rate at which positive replies win over negative ones, positive minus negative.
    - ``erase``: whole-answer rate, on the prompt and its paraphrases, of the answer that both instructions
      are about (the record's `ground_truth`, or else `target_new`), change minus erase.

    ``summary[contrast][part]`` holds an `Estimate` as a dict for each condition, for the unedited
    model (``base``) and for the paired ``difference`` (first minus second condition), with intervals
    from resampled subjects. Only bare prompts are asked: the instruction acts through the edit or not
    at all. A row's ``case`` is its place in `cases`, whatever the contrast. A contrast for which no case is
    fit is left out, and so are all but `contrasts` where some are named. Everything is a fraction.

    Errors: `DataError` when no case is fit for any contrast; `UnknownNameError` for one that is none.
    """
    rows: list[Row] = []
    summary: dict[str, dict[str, dict[str, Any]]] = {}
    for contrast in find_contrasts(contrasts):
        places = [place for place, case in enumerate(cases) if contrast.takes(case)]
        fit = [cases[place] for place in places]
        sides: dict[str, list[Row]] = {}
        for condition in contrast.conditions if fit else ():
            changed = [contrast.condition(case, condition, split, seed) for case in fit]
            found = evaluate(
                backbone,
                editor,
                changed,
                split=split,
                instructed=False,
                batch=batch,
                seed=seed,
                groups=contrast.groups,
                max_probes=max_probes,
                max_replies=max_replies,
                resamples=0,
                cache=cache,
                condition=condition,
            ).rows
            sides[condition] = [{**row, "case": places[row["case"]]} for row in found]
            rows += sides[condition]
        if fit:
            summary[contrast.name] = _compare(contrast, sides, resamples, seed)
    if not summary:
        raise DataError(
            "no case can show the instruction's leverage. Expected cases with portability probes, with good "
            "and bad replies, or with an answer to erase."
        )
    return LeverageResult(rows, summary)


def _compare(
    contrast: Contrast, sides: dict[str, list[Row]], resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    first, second = contrast.conditions
    edited = {condition: contrast.parts(rows, "edited") for condition, rows in sides.items()}
    base = contrast.parts(sides[first], "base")
    result: dict[str, dict[str, Any]] = {}
    for part in edited[first]:
        found = {
            first: estimate(edited[first][part], share=True, resamples=resamples, seed=seed),
            second: estimate(edited[second][part], share=True, resamples=resamples, seed=seed),
            "base": estimate(base[part], share=True, resamples=resamples, seed=seed),
            "difference": paired_difference(
                edited[first][part], edited[second][part], resamples=resamples, seed=seed
            ),
        }
        result[part] = {name: value.as_dict() for name, value in found.items() if value}
    return result


def format_leverage(summary: dict[str, dict[str, dict[str, Any]]]) -> "Table":
    """The leverage as a table to print, in percent and points."""
    from rich.table import Table

    table = Table(title="The same request under two instructions: what the edited models do")
    for name in ("contrast", "part", "first", "second"):
        table.add_column(name)
    for name in ("difference", "interval", "cases"):
        table.add_column(name, justify="right")
    for contrast in [c for c in CONTRASTS if c.name in summary]:
        for part, entry in summary[contrast.name].items():
            table.add_row(f"{contrast.name}: {contrast.what}", part, *_cells(contrast.conditions, entry))
    return table


def _cells(conditions: tuple[str, str], entry: dict[str, Any]) -> tuple[str, ...]:
    sides = [f"{name} {100 * entry[name]['mean']:.1f}" if name in entry else "–" for name in conditions]
    difference = entry.get("difference")
    if not difference:
        return (*sides, "–", "–", "0")
    low, high = (f"{100 * x:+.1f}" if x is not None else "–" for x in (difference["low"], difference["high"]))
    return (*sides, f"{100 * difference['mean']:+.1f}", f"{low} – {high}", str(difference["cases"]))
