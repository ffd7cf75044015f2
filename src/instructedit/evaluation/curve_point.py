"""One point of a curve: what a model with so many edits in it says, and what became of ordinary text."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instructedit.backbone import Backbone, PrefixCache
from instructedit.delta import LowRankDelta
from instructedit.editors.change import Change
from instructedit.evaluation.bootstrap import clusters_of, estimate
from instructedit.evaluation.perplexity import exp_nats, finite, measure_perplexity
from instructedit.evaluation.rows import SIDES, Row, select
from instructedit.evaluation.single import evaluate
from instructedit.instructions.banks import Split
from instructedit.types import EditCase

MEASURES = {  # measure -> group, and the metrics of which a row has one
    "reliability": ("reliability", ("exact", "win_rate")),
    "generalization": ("rephrase", ("exact", "win_rate")),
    "locality": ("locality", ("unchanged",)),
}


@dataclass(frozen=True)
class Asking:
    """What is asked at every point.

    Reliability is asked of every edit so far; with `probe` the rephrasings and neighbours of at most so many
    of them are asked, drawn by `seed`. `text` is ordinary text for the perplexity, cut to `text_tokens`.
    """

    probe: int | None = None
    text: Path | None = None
    text_tokens: int | None = None
    split: Split = "unseen"
    batch: int = 16
    seed: int = 0


@dataclass
class InForce:
    """An editor whose edits have been made: whatever the cases, the change is the same."""

    change: Change
    name: str = "in force"

    def edit(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str] | None = None
    ) -> Change:
        """The change that is in force."""
        return self.change


def measure_point(
    backbone: Backbone,
    change: LowRankDelta,
    cases: Sequence[EditCase],
    asking: Asking,
    cache: PrefixCache | None = None,
) -> tuple[list[Row], dict[str, Any]]:
    """The rows of all probes of the edits in force, and the numbers of this point.

    A row's `case` is the edit's place in the sequence. ``numbers[measure]["base" | "edited"]`` is an
    `Estimate` as a dict; `perplexity` is there with a text (see `compare_perplexity`). `probed` counts the
    edits whose rephrasings and neighbours were asked, `contradicted` those whose prompt a later one asks with
    another answer: they cannot hold. Errors: `DataError` when the text cannot be read.
    """
    probed = choose_probed(len(cases), asking.probe, asking.seed)
    everyone = list(range(len(cases)))
    rows = _ask(backbone, change, cases, everyone, ("reliability",), asking, cache)
    rows += _ask(backbone, change, cases, probed, ("rephrase", "locality"), asking, cache)
    numbers: dict[str, Any] = {name: _sum_up(rows, name, asking.seed) for name in MEASURES}
    numbers |= {"probed": len(probed), "contradicted": count_contradicted(cases)}
    if asking.text is not None:
        numbers["perplexity"] = compare_perplexity(backbone, change, asking.text, asking.text_tokens)
    return rows, numbers


def _ask(
    backbone: Backbone,
    change: LowRankDelta,
    cases: Sequence[EditCase],
    places: Sequence[int],
    groups: tuple[str, ...],
    asking: Asking,
    cache: PrefixCache | None,
) -> list[Row]:
    result = evaluate(
        backbone,
        InForce(change),
        [cases[place] for place in places],
        split=asking.split,
        instructed=False,
        batch=asking.batch,
        seed=asking.seed,
        groups=groups,
        resamples=0,
        cache=cache,
    )
    return [{**row, "case": places[row["case"]]} for row in result.rows]


def _sum_up(rows: Sequence[Row], measure: str, seed: int) -> dict[str, Any]:
    group, metrics = MEASURES[measure]
    part, found = select(rows, group=group), {}
    for side in SIDES:
        clusters: dict[Any, list[float]] = {}
        for metric in metrics:
            clusters |= clusters_of(part, f"{side}_{metric}")
        share = side == "edited" or measure != "locality"  # the unedited model keeps its own by definition
        mean = estimate(clusters, share=share, seed=seed)
        if mean is not None:
            found[side] = mean.as_dict()
    return found


def choose_probed(count: int, most: int | None, seed: int) -> list[int]:
    """At most `most` of `count` places in their order; those of a longer sequence replace, not reshuffle."""
    if most is None or count <= most:
        return list(range(count))
    order = sorted(range(count), key=lambda place: random.Random(f"{seed}/{place}").random())
    return sorted(order[:most])


def count_contradicted(cases: Sequence[EditCase]) -> int:
    """How many cases want of their prompt something else than a later case does."""
    last = {case.prompt: _want(case) for case in cases}
    return sum(_want(case) != last[case.prompt] for case in cases)


def _want(case: EditCase) -> tuple[str, str]:
    return case.wanted.strip(), case.sentiment or ""


def compare_perplexity(
    backbone: Backbone, change: LowRankDelta, path: Path, tokens: int | None = None
) -> dict[str, float | int | None]:
    """The perplexity of a text over the unedited model's (`ratio`), the latter (`base`), and its tokens.

    What is no finite number is None. Errors: as `measure_perplexity`.
    """
    found = measure_perplexity(backbone, path, change, limit=tokens)
    ratio = exp_nats((found.edited_nats - found.base_nats) / found.tokens)
    return {"ratio": finite(ratio), "base": finite(found.per_token("base")), "tokens": found.tokens}
