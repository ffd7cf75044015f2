"""Metrics of sentiment edits: does the model now prefer the good replies to the bad ones?

Inputs are mean log-probabilities a token in nats, one value a reply. Axes: ``g`` good replies,
``w`` bad (wrong) replies.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def win_rate(good: Float[Tensor, " g"], bad: Float[Tensor, " w"]) -> Float[Tensor, ""]:
    """The share of pairs (good reply, bad reply) in which the good one is the more likely.

    A tie counts one half, so that exchanging good and bad gives one minus the rate. An unedited
    model stands near 0.5, which is why this is easier to read than a difference of
    log-probabilities. NaN when either side is empty.
    """
    margin = good[:, None] - bad[None, :]
    return ((margin > 0).float() + 0.5 * (margin == 0).float()).mean()


def sentiment_score(
    before_good: Float[Tensor, " g"], after_good: Float[Tensor, " g"], after_bad: Float[Tensor, " w"]
) -> Float[Tensor, ""]:
    """The paper's score: preference after the edit, cut where good replies became less likely.

    sigmoid(mean after_good − mean after_bad) · min(1, exp(mean after_good − mean before_good)), in
    [0, 1]; with `after_good` equal to `before_good` the second factor is 1. NaN when a side is empty.

    Source: ConvSent's "edit success" of SERAC (arXiv 2206.06520), as InstructEdit reports it as
    Reliability (arXiv 2402.16123).
    """
    preference = torch.sigmoid(after_good.mean() - after_bad.mean())
    return preference * (after_good.mean() - before_good.mean()).exp().clamp_max(1.0)
