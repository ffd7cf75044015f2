"""What edits do to a text that has nothing to do with them: its perplexity, before and after."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.change import Change
from instructedit.evaluation.curve_point import choose_probed
from instructedit.evaluation.perplexity import exp_nats, finite, measure_perplexity
from instructedit.types import EditCase

if TYPE_CHECKING:
    from instructedit.editors import Editor

EDITS = 8  # single edits whose mean is taken: each reads the whole text twice


def single_changes(
    backbone: Backbone,
    editor: "Editor",
    cases: Sequence[EditCase],
    instructions: Sequence[str],
    count: int = EDITS,
    seed: int = 0,
) -> Iterable[Change]:
    """At most `count` of the edits, drawn by `seed`, each made alone when it is asked for."""
    chosen = choose_probed(len(cases), count, seed)
    return (editor.edit(backbone, [cases[place]], [instructions[place]]) for place in chosen)


def measure_text_cost(
    backbone: Backbone, changes: Iterable[Change], path: Path, tokens: int | None = None
) -> dict[str, Any]:
    """The mean perplexity a token of a text under each of some changes (b = 1), and what that is told by.

    `base` is the unedited model's, `edited` the mean over changes and `ratio` that of the one over the other,
    `highest` the largest ratio; `edits` counts changes and `tokens` those of the text, cut to `tokens`.
    What is no finite number is None. Errors: as `measure_perplexity`.
    """
    found = [
        measure_perplexity(
            backbone.reaching(change.a) if isinstance(change, LowRankDelta) else backbone,
            path,
            change,
            limit=tokens,
        )
        for change in changes
    ]
    ratios = [exp_nats((one.edited_nats - one.base_nats) / one.tokens) for one in found]
    return {
        "base": finite(found[0].per_token("base")),
        "edited": finite(math.fsum(one.per_token() for one in found) / len(found)),
        "ratio": finite(math.fsum(ratios) / len(ratios)),
        "highest": finite(max(ratios)),
        "edits": len(found),
        "tokens": found[0].tokens,
    }


def tell_text_cost(cost: dict[str, Any], together: int | None = None) -> str:
    """A line about what `measure_text_cost` gave; `together` edits were in force, or each alone."""
    base, edited, ratio, highest = (_show(cost[name]) for name in ("base", "edited", "ratio", "highest"))
    line = f"Perplexity of {cost['tokens']:,} tokens of text: {base} before"
    if together is not None:
        return f"{line}, {edited} with {together:,} edits in force (× {ratio})"
    return f"{line}, {edited} under one edit (× {ratio}, mean of {cost['edits']:,}; the highest × {highest})"


def _show(value: float | None) -> str:
    return "no finite number" if value is None else f"{value:.4g}"
