"""How strong an edit has to be: no stronger than its answer needs in the wordings that it is tried on."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from instructedit.backbone import Backbone, Text
from instructedit.delta import LowRankDelta
from instructedit.factors import answer_rows


def faintest(
    backbone: Backbone, delta: LowRankDelta, groups: Sequence[Sequence[Text]], strengths: Sequence[float]
) -> Float[Tensor, " b"]:
    """For each edit the faintest strength that gives its answer in as many of its texts as any does.

    `groups` are the texts of each edit, the bare request first: it goes before all others. An edit that is
    right in all of them is not tried any stronger: that would be felt by prompts that have nothing to do
    with it. One without texts keeps its strength.
    """
    device, texts = backbone.device, [text for group in groups for text in group]
    weights = [weight for group in groups for weight in [len(group) + 1, *[1] * len(group)][: len(group)]]
    weight, sizes = (torch.tensor(x, device=device) for x in (weights, [len(group) for group in groups]))
    owner = torch.arange(len(groups), device=device).repeat_interleave(sizes)
    hidden = backbone.prefix(texts)
    chosen, most = torch.ones(len(groups), device=device), torch.zeros_like(sizes)
    for strength in sorted(strengths):
        left = (most < 2 * sizes)[owner].nonzero()[:, 0]
        asked = [texts[place] for place in left.tolist()]
        if not asked:
            break
        right = answered(backbone, asked, owner[left], delta.scale(strength), hidden[left])
        mark = torch.zeros_like(sizes).index_add(0, owner[left], weight[left] * right)
        chosen = torch.where(mark > most, strength, chosen)
        most = torch.maximum(most, mark)
    return chosen


def answered(
    backbone: Backbone,
    texts: Sequence[Text],
    owner: Int[Tensor, " m"],
    delta: LowRankDelta,
    hidden: Float[Tensor, "m t d"],
) -> Bool[Tensor, " m"]:
    """Whether each text's answer is the greedy one under its own edit."""
    with delta.applied_to(backbone.model, owner):
        top = backbone.top(hidden)
    rows, positions, targets = answer_rows(texts, top.device)
    wrong = rows[backbone.logits(top[rows, positions]).argmax(-1) != targets]
    return torch.ones(len(texts), dtype=torch.bool, device=top.device).index_fill(0, wrong, False)
