"""What the first tokens of a text leave behind: the rest can be run again and again without them."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from instructedit.backbone.alike import UNABLE, takes_positions
from instructedit.backbone.backbone import Backbone
from instructedit.backbone.generation import tell_positions
from instructedit.backbone.parts import Text
from instructedit.backbone.shared_rows import share_rows

TRIED = (1, 5, 3, 8, 2, 7)  # token ids that show whether a model goes on from what it has read

Past = Float[Tensor, "l two h _ c"]  # by block above the cut, keys and values of some tokens, by head


@torch.no_grad()
def read_pasts(
    backbone: Backbone, hidden: Float[Tensor, "b t d"]
) -> tuple[Float[Tensor, "b l two h t c"], Float[Tensor, "b t d"]]:
    """What every token of some texts leaves to those behind it, and their top.

    `hidden` are states from `Backbone.prefix`. Row i up to token n is the `Past` of text i's first n tokens.
    """
    cache = DynamicCache()
    mask = torch.ones(hidden.shape[:2], dtype=torch.long, device=hidden.device)
    output = backbone.run_top(hidden, attention_mask=mask, past_key_values=cache, use_cache=True)
    layers = cache.layers[backbone.first_block :]
    pairs = [torch.stack([layer.keys, layer.values], dim=1) for layer in layers]  # type: ignore[list-item]
    return torch.stack(pairs, dim=1), output.last_hidden_state


def go_on(
    backbone: Backbone, states: Sequence[Float[Tensor, "_ d"]], pasts: Sequence[Past]
) -> Float[Tensor, "b t d"]:
    """As `Backbone.top` on texts whose first tokens are known by their past alone, a row a text.

    `states` are those of the tokens behind them. Pasts are padded on the left, so that every token is as far
    from what it sees as in the whole text.
    """
    hidden, known = backbone.pad_states(states), _pad_left(pasts)
    width = known.shape[4]
    if not width:
        return backbone.top(hidden)
    mask = torch.ones(len(pasts), width + hidden.shape[1], dtype=torch.long)
    for row, past in enumerate(pasts):
        mask[row, : width - past.shape[3]] = 0
    told = tell_positions(backbone, mask, hidden.shape[1])
    return _run(backbone, hidden, known, attention_mask=mask, **told)


def go_on_together(
    backbone: Backbone, states: Sequence[Float[Tensor, "_ d"]], pasts: Sequence[Past]
) -> Float[Tensor, "b t d"]:
    """As `go_on`, with little padding: inside, texts share rows.

    That is where the model can be told each token's place, and no text reaches beyond its window.
    """
    lengths, befores = [len(rows) for rows in states], [past.shape[3] for past in pasts]
    longest = max(map(sum, zip(lengths, befores, strict=True)))
    if not any(befores) or not takes_positions(backbone) or longest > backbone.window:
        return go_on(backbone, states, pasts)
    shared = share_rows(lengths, befores)
    hidden = backbone.pad_states([torch.cat([states[text] for text in row]) for row in shared.rows])
    known = _pad_left([torch.cat([pasts[text] for text in row], dim=3) for row in shared.rows])
    mask, positions = shared.mask(backbone.dtype), shared.positions
    top = _run(backbone, hidden, known, attention_mask=mask, position_ids=positions)
    return pad_sequence(shared.apart(top), batch_first=True)


def _run(
    backbone: Backbone, hidden: Float[Tensor, "r n d"], known: Float[Tensor, "l two r h w c"], **told: Tensor
) -> Float[Tensor, "r n d"]:
    arguments: dict[str, Any] = {name: tensor.to(backbone.device) for name, tensor in told.items()}
    arguments |= {"past_key_values": _as_cache(backbone, known), "use_cache": True}
    return backbone.run_top(hidden, **arguments).last_hidden_state


def _pad_left(pasts: Sequence[Past]) -> Float[Tensor, "l two r h w c"]:
    width = max(past.shape[3] for past in pasts)
    layers, two, heads, _, size = pasts[0].shape
    known = pasts[0].new_zeros(layers, two, len(pasts), heads, width, size)
    for row, past in enumerate(pasts):
        known[:, :, row, :, width - past.shape[3] :] = past
    return known


def can_go_on(backbone: Backbone) -> bool:
    """Whether a model gives the same from a past as from the whole text: both ways, tried on six tokens."""
    hidden = backbone.pad_states(backbone.encode([Text(TRIED, 1)]))
    try:
        past = read_pasts(backbone, hidden)[0][0]
        cuts = [hidden[0, 2:], hidden[0, 4:]], [past[..., :2, :], past[..., :4, :]]
        tried = [run(backbone, *cuts) for run in (go_on, go_on_together)]
    except UNABLE:
        return False
    expected = backbone.top(hidden)[0]
    pairs = [pair for found in tried for pair in ((found[0], expected[2:]), (found[1, :2], expected[4:]))]
    return all(torch.allclose(one.float(), two.float(), atol=0.05, rtol=0.05) for one, two in pairs)


def _as_cache(backbone: Backbone, known: Float[Tensor, "l two b h w c"]) -> DynamicCache:
    """A cache in which the blocks below the cut, which are skipped, hold as many tokens as the others."""
    cache = DynamicCache()
    for block in range(len(backbone.blocks)):
        keys, values = known[max(0, block - backbone.first_block)]
        cache.update(keys, values, block)
    return cache
