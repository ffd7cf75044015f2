"""Texts from some token on, for a search that moves nothing before it: the beginning is read once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from instructedit.backbone import Backbone, Text
from instructedit.backbone.past import Past, can_go_on, go_on, read_pasts
from instructedit.editors.covariance import remember


@dataclass(frozen=True)
class Tails:
    """What is left of texts behind their first tokens, `firsts` of each, and what these have left behind."""

    texts: Sequence[Text]
    firsts: Int[Tensor, " rows"]
    states: Sequence[Float[Tensor, "_ d"]]
    pasts: Sequence[Past]

    def top(self, backbone: Backbone) -> Float[Tensor, "rows t d"]:
        """As `Backbone.top` of the whole texts: row i begins at token `firsts[i]`."""
        return go_on(backbone, self.states, self.pasts)


def cut_texts(
    backbone: Backbone,
    texts: Sequence[Text],
    hidden: Float[Tensor, "rows t d"],
    firsts: Int[Tensor, " rows"],
) -> Tails:
    """The tails of texts whose states from `Backbone.prefix` are `hidden`; whole where the model needs that.

    The model is read as it is now: what is in force then has to be in force afterwards.
    """
    if not goes_on(backbone):
        firsts = torch.zeros_like(firsts)
        pasts = [hidden.new_zeros(1, 2, 1, 0, 1)] * len(texts)
    else:
        known, _ = read_pasts(backbone, hidden)
        pasts = [past[..., :first, :] for past, first in zip(known, firsts.tolist(), strict=True)]
    cuts = list(zip(texts, hidden, firsts.tolist(), strict=True))
    states = [rows[first : len(text.ids)] for text, rows, first in cuts]
    return Tails([text.after(first) for text, _, first in cuts], firsts, states, pasts)


def goes_on(backbone: Backbone) -> bool:
    """As `can_go_on`, tried once."""
    return remember(backbone, ("goes on",), lambda: can_go_on(backbone))
