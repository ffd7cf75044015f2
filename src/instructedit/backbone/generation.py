"""Greedy continuation of many texts at once, with the model's own cache of keys and values."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from instructedit.backbone.alike import takes_positions
from instructedit.backbone.backbone import Backbone
from instructedit.backbone.parts import Text

PROMPTS = 48  # continued at one time


@dataclass(frozen=True)
class Continuation:
    """How a text goes on, and how `sure` the model is: the geometric mean of the tokens' probabilities.

    `ids` are all tokens that were said, also those behind a first line.
    """

    text: str
    sure: float
    ids: tuple[int, ...] = ()


def tell_positions(backbone: Backbone, mask: Int[Tensor, "b s"], count: int) -> dict[str, Tensor]:
    """As an argument, the places of the last `count` tokens in each row's own text, if it is taken."""
    places = (mask.cumsum(dim=1) - 1).clamp_min(0)[:, -count:]
    return {"position_ids": places} if takes_positions(backbone) else {}


def _batches(backbone: Backbone, texts: Sequence[Text], new: int) -> Iterator[list[int]]:
    """Texts of like length; one that fills the context before `new` tokens are added goes alone."""
    even = not takes_positions(backbone)
    batch: list[int] = []
    for index in sorted(range(len(texts)), key=lambda i: len(texts[i].ids)):
        uneven = even and bool(batch) and len(texts[index].ids) != len(texts[batch[0]].ids)
        full = bool(batch) and len(texts[index].ids) + new > backbone.context
        if len(batch) == PROMPTS or uneven or full:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


@torch.no_grad()
def continue_texts(
    backbone: Backbone,
    texts: Sequence[Text],
    max_new_tokens: int,
    first_line: bool = True,
    ends: bool = True,
    under: Callable[[list[int]], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> list[Continuation]:
    """The likeliest continuation of each text; `under` gives what a batch, by its places, is continued in.

    Ends after `max_new_tokens`, at the model's context, with `ends` at an end token (the tokenizer's, the
    generation config's, or the start token: a base model ends a text where the next one begins), or, with
    `first_line`, with the first line that is not blank. A continuation does not depend on what it is batched
    with: rows are padded on the left, with mask and position ids; a model that takes no position ids gets
    batches of equal length.
    """
    found = {}
    for batch in _batches(backbone, texts, max_new_tokens):
        with under(batch):
            made = _continue(backbone, [texts[place] for place in batch], max_new_tokens, first_line, ends)
        found.update(zip(batch, made, strict=True))
    return [found[place] for place in range(len(texts))]


def _continue(
    backbone: Backbone, texts: Sequence[Text], max_new_tokens: int, first_line: bool, ends: bool
) -> list[Continuation]:
    ids, mask = _pad_left(texts, backbone.device)
    new: list[list[int]] = [[] for _ in texts]
    sure: list[list[float]] = [[] for _ in texts]
    rooms = [min(max_new_tokens, backbone.context - len(text.ids)) for text in texts]
    ended = [room < 1 for room in rooms]
    last, past = _end_ids(backbone) if ends else set(), None
    for _ in range(max(rooms)):
        output = backbone.model.base_model(**_step(backbone, ids, mask, past), use_cache=True)
        past = output.past_key_values
        best = backbone.logits(output.last_hidden_state[:, -1]).float().log_softmax(dim=-1).max(dim=-1)
        chosen = best.indices
        for row, (token, value) in enumerate(zip(chosen.tolist(), best.values.tolist(), strict=True)):
            ended[row] = ended[row] or token in last
            if not ended[row]:
                new[row].append(token)
                sure[row].append(value)
                whole = first_line and "\n" in _decode(backbone, new[row]).lstrip()
                ended[row] = whole or len(new[row]) == rooms[row]
        if all(ended):
            break
        ids, mask = chosen[:, None], torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
    answers = [_decode(backbone, row) for row in new]
    told = [_first_line(answer) for answer in answers] if first_line else answers
    means = [sum(row) / len(row) if row else -math.inf for row in sure]
    parts = zip(told, means, new, strict=True)
    return [Continuation(text, math.exp(mean), tuple(ids)) for text, mean, ids in parts]


def _step(backbone: Backbone, ids: Int[Tensor, "b t"], mask: Int[Tensor, "b s"], past: Any) -> dict[str, Any]:
    """The arguments of one forward pass: positions count each row's own tokens from zero."""
    told = tell_positions(backbone, mask, ids.shape[1])
    return {"input_ids": ids, "attention_mask": mask, "past_key_values": past, **told}


def _pad_left(texts: Sequence[Text], device: torch.device) -> tuple[Int[Tensor, "b t"], Int[Tensor, "b t"]]:
    width = max(len(text.ids) for text in texts)
    ids = [[0] * (width - len(text.ids)) + list(text.ids) for text in texts]
    mask = [[0] * (width - len(text.ids)) + [1] * len(text.ids) for text in texts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _end_ids(backbone: Backbone) -> set[int]:
    configured = getattr(getattr(backbone.model, "generation_config", None), "eos_token_id", None)
    several = configured if isinstance(configured, list) else [configured]
    return {
        token
        for token in (*several, backbone.tokenizer.eos_token_id, *backbone.start_ids)
        if token is not None
    }


def _decode(backbone: Backbone, ids: Sequence[int]) -> str:
    return backbone.tokenizer.decode(list(ids), skip_special_tokens=True)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
