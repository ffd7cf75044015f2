"""The meta-loss: what the edited model says on a batch of lessons, against what it should say."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.utils.checkpoint import checkpoint

from instructedit.backbone import Backbone, PrefixCache, Text
from instructedit.delta import LowRankDelta
from instructedit.factors import answer_rows
from instructedit.metrics.tokens import mean_per_text, soften
from instructedit.training.lessons import Item, Lesson

ANSWER_TOKENS = 24  # longer answers are cut: replies and passages say enough in this many tokens

POSITIONS = 192  # answer positions whose logits are in memory at once


@dataclass(frozen=True)
class LossConfig:
    """Weights of the parts; `contrast` is the slope on what an edit adds to the gap of two replies."""

    keep: float = 1.0
    reply: float = 2.0
    contrast: float = 3.0
    reply_fit: float = 0.05
    soften: float = (
        4.0  # nats beyond which a fitted text's loss grows like a logarithm: no case drowns the others
    )
    buckets: int = 4


@dataclass(frozen=True)
class Outcome:
    """One number an item: mean NLL, whole-answer match, and beside the unedited model for kept items and
    replies its mean NLL, the KL from it and the share of arg-maxes that are unchanged."""

    nll: Float[Tensor, " m"]
    base_nll: Float[Tensor, " m"]
    exact: Float[Tensor, " m"]
    divergence: Float[Tensor, " m"]
    unchanged: Float[Tensor, " m"]


def item_text(backbone: Backbone, item: Item) -> Text:
    """The item's tokens, its answer cut to `ANSWER_TOKENS`."""
    text = backbone.text(item.prompt, item.answer)
    return Text(text.ids[: text.answer_start + ANSWER_TOKENS], text.answer_start)


def score_items(
    backbone: Backbone,
    delta: LowRankDelta,
    items: Sequence[tuple[int, Item]],
    cache: PrefixCache | None,
    buckets: int = 4,
) -> Outcome:
    """Ask every item under its own edit; `items` pairs the edit's index with the item.

    Texts of like length share a pass, so little is computed on padding.
    """
    texts = [item_text(backbone, item) for _, item in items]
    order = sorted(range(len(items)), key=lambda i: len(texts[i].ids))
    size = -(-len(order) // max(1, buckets))
    parts = []
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        parts.append(
            _score_bucket(backbone, delta, [items[i] for i in chosen], [texts[i] for i in chosen], cache)
        )
    back = torch.tensor(order).argsort()
    return Outcome(*(torch.cat(values)[back] for values in zip(*parts, strict=True)))


def _score_bucket(
    backbone: Backbone,
    delta: LowRankDelta,
    items: Sequence[tuple[int, Item]],
    texts: Sequence[Text],
    cache: PrefixCache | None,
) -> tuple[Tensor, ...]:
    hidden = backbone.prefix(texts, cache)
    with delta.applied_to(backbone.model, torch.tensor([edit for edit, _ in items], device=hidden.device)):
        top = backbone.top(hidden)
    rows, positions, targets = answer_rows(texts, hidden.device)
    compared = torch.tensor([item.role != "fit" for _, item in items], device=hidden.device)
    base = torch.zeros_like(top)
    if compared.any():
        with torch.no_grad():
            base[compared] = backbone.top(hidden[compared])
    given = (top[rows, positions], base[rows, positions], targets, compared[rows])
    parts = [
        checkpoint(
            _read_positions, backbone, *(x[start : start + POSITIONS] for x in given), use_reentrant=False
        )
        for start in range(0, len(rows), POSITIONS)
    ]
    nll, base_nll, wrong, divergence, same = (torch.cat(values) for values in zip(*parts, strict=True))
    share = partial(mean_per_text, owner=rows, texts=len(items))
    return share(nll), share(base_nll), 1 - (share(wrong) > 0).float(), share(divergence), share(same)


def _read_positions(
    backbone: Backbone,
    edited: Float[Tensor, "n d"],
    unedited: Float[Tensor, "n d"],
    targets: Int[Tensor, " n"],
    compared: Bool[Tensor, " n"],
) -> tuple[Tensor, ...]:
    """Per position: NLL, that of the unedited model, whether the first choice is wrong, KL, and whether the
    first choice is unchanged; zeros and a one for what is not compared with the unedited model.

    The vocabulary is large, so few positions are read at once and their logits are not kept for the
    backward pass but computed again.
    """
    logs = torch.log_softmax(backbone.logits(edited).float(), -1)
    best = logs.detach().argmax(-1)
    nll = -logs.gather(1, targets[:, None])[:, 0]
    base_nll, divergence, same = torch.zeros_like(nll), torch.zeros_like(nll), torch.ones_like(nll)
    if compared.any():
        base = torch.log_softmax(backbone.logits(unedited[compared]).float(), -1)
        base_nll[compared] = -base.gather(1, targets[compared, None])[:, 0]
        divergence[compared] = (base.exp() * (base - logs[compared])).sum(-1)
        same[compared] = (base.argmax(-1) == best[compared]).float()
    return nll, base_nll, (best != targets).float(), divergence, same


def lesson_loss(
    lessons: Sequence[Lesson], outcome: Outcome, config: LossConfig
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """The mean loss of a batch, and readings by slot: match for fitted texts, unchanged share for kept."""
    items = [item for lesson in lessons for item in lesson.items]
    total = outcome.nll.new_zeros(())
    start = 0
    for lesson in lessons:
        total = total + _one_lesson(lesson.items, outcome, start, config)
        start += len(lesson.items)
    return total / len(lessons), read_slots(items, outcome.nll, outcome.exact, outcome.unchanged)


def _one_lesson(items: Sequence[Item], outcome: Outcome, start: int, config: LossConfig) -> Tensor:
    """Fit, keep, and replies: what the edit adds to the gap of good and bad, as a preference loss.

    A reply's own likelihood says more about its length and words than about its sentiment, so it is
    taken off. Source: DPO (arXiv 2305.18290), eq. 7, on mean log-probabilities.
    """

    def chosen(values: Tensor, role: str) -> Tensor:
        return torch.stack([values[start + i] for i, item in enumerate(items) if item.role == role])

    roles = {item.role for item in items}
    loss = outcome.nll.new_zeros(())
    if "fit" in roles:
        loss = loss + soften(chosen(outcome.nll, "fit"), config.soften).mean()
    if "keep" in roles:
        loss = loss + config.keep * soften(chosen(outcome.divergence, "keep"), config.soften).mean()
    if "good" in roles:
        good, bad = chosen(outcome.nll, "good"), chosen(outcome.nll, "bad")
        gap = config.contrast * ((bad - chosen(outcome.base_nll, "bad"))[None] - good[:, None])
        gap = gap + config.contrast * chosen(outcome.base_nll, "good")[:, None]
        loss = loss + config.reply * -logsigmoid(gap).mean() + config.reply_fit * good.mean()
    return loss


def read_slots(
    items: Sequence[Item],
    nll: Float[Tensor, " m"],
    exact: Float[Tensor, " m"],
    unchanged: Float[Tensor, " m"],
) -> dict[str, float]:
    """Means by slot, for the log: exact match, unchanged share, or the win rate of good replies."""
    values: dict[str, list[float]] = {}
    for i, item in enumerate(items):
        if item.role == "fit":
            values.setdefault(item.slot, []).append(float(exact[i]))
        elif item.role == "keep":
            values.setdefault(f"keep-{item.slot}", []).append(float(unchanged[i]))
        elif item.role == "good":
            values.setdefault("win", []).append(float(nll[i] < nll[i + 1]))
    return {name: sum(v) / len(v) for name, v in sorted(values.items())}
