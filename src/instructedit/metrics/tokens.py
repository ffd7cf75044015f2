"""Metrics of teacher-forced answers: first one value a token, then one value a text.

An answer of k tokens gives k rows of logits, one at each position that predicts one of them. The
rows of many texts lie one below the other, and `owner` says which text a row belongs to: texts of
different lengths need no padding, so padding can never be counted.

Axes: ``n`` answer tokens of all texts together, ``m`` texts, ``v`` vocabulary.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def hits(logits: Float[Tensor, "n v"], targets: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """Whether the arg-max token at each position is the answer's token.

    The mean over a text is its token accuracy; all of them true is its exact match.
    """
    return logits.argmax(dim=-1) == targets


def unchanged(base: Float[Tensor, "n v"], edited: Float[Tensor, "n v"]) -> Bool[Tensor, " n"]:
    """Whether the arg-max token at each position is the same before and after the edit.

    Locality compares the model with itself, not with the record's answer: a model that was wrong
    about a neighbour and stays wrong in the same way was left alone.
    """
    return base.argmax(dim=-1) == edited.argmax(dim=-1)


def answer_log_probs(logits: Float[Tensor, "n v"], targets: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The log-probability in nats of each answer token, in fp32 whatever the logits' type."""
    picked = logits.float().gather(1, targets[:, None]).squeeze(1)
    return picked - logits.float().logsumexp(dim=-1)


def kl_divergence(base: Float[Tensor, "n v"], edited: Float[Tensor, "n v"]) -> Float[Tensor, " n"]:
    """KL(base ‖ edited) in nats at each position; 0 when the edit changed nothing.

    It sees what arg-max cannot: a token that keeps its rank while its probability collapses. Tiny
    negative values from rounding are set to 0.
    """
    before, after = base.float().log_softmax(dim=-1), edited.float().log_softmax(dim=-1)
    return (before.exp() * (before - after)).sum(dim=-1).clamp_min(0.0)


def mean_per_text(
    values: Float[Tensor, " n"] | Bool[Tensor, " n"], owner: Int[Tensor, " n"], texts: int
) -> Float[Tensor, " m"]:
    """The mean of a token metric over the tokens of each text; NaN for a text without a row."""
    counts = torch.bincount(owner, minlength=texts)
    sums = torch.zeros(texts, device=values.device).index_add(0, owner, values.float())
    return sums / counts


def all_per_text(flags: Bool[Tensor, " n"], owner: Int[Tensor, " n"], texts: int) -> Float[Tensor, " m"]:
    """1 where a flag holds at every token of the text, 0 where it fails at one; NaN without a row.

    With `hits` this is whole-answer exact match: the answer that greedy decoding would give, and the
    strictest reading of "the edit took". With `unchanged` it is exact-match locality.
    """
    mean = mean_per_text(flags, owner, texts)
    return torch.where(mean.isnan(), mean, (mean == 1.0).float())


def soften(loss: Float[Tensor, " m"], bend: float) -> Float[Tensor, " m"]:
    """Slope 1 at zero and ``1 / (1 + loss / bend)`` further out; a `bend` of zero changes nothing."""
    return bend * torch.log1p(loss / bend) if bend > 0 else loss
