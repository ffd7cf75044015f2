"""Does a text want a start token? Found out by measuring, because tokenizers do not say.

Some models were trained with a token in front of every text that their tokenizer does not add by
itself; without it they complete plain text badly.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from instructedit.errors import ModelError

SENTENCES = (
    "The sun rises in the east and sets in the west.",
    "Water freezes at zero degrees and boils at one hundred.",
    "She opened the window because the room was too warm.",
    "The train to the city leaves every morning at eight.",
    "Most birds can fly, but penguins can only swim.",
    "He put the letter in an envelope and wrote the address on it.",
    "The capital of France is Paris, and many people visit it each year.",
    "In winter the days are short and the nights are long.",
    "My brother plays the guitar in a small band.",
    "Bread is made from flour, water, salt and yeast.",
    "The company will publish its results at the end of the month.",
    "It was raining, so the children stayed at home and read books.",
)
NONE = "none"


@dataclass(frozen=True, slots=True)
class StartToken:
    """The token that every text begins with, and how well each candidate did.

    `token` is "none" where there is none. `losses` maps a candidate to its mean negative
    log-likelihood a token on `SENTENCES`, in nats; empty when the tokenizer or the user decided.
    """

    token: str
    ids: tuple[int, ...]
    losses: dict[str, float] = field(default_factory=dict)


def find_start_token(model: Any, tokenizer: Any, start: str = "auto") -> StartToken:
    """Choose what texts begin with: the user's choice, else what the tokenizer adds, else the best measured.

    `start` is "auto", "none" or a token. Errors: `ModelError` for a token that the tokenizer does not have.
    """
    if start == NONE:
        return StartToken(NONE, ())
    if start != "auto":
        return StartToken(start, (_token_id(tokenizer, start),))
    own = _own_start(tokenizer)
    if own:
        return StartToken(tokenizer.convert_ids_to_tokens(own[0]), own)
    choices = _candidates(tokenizer)
    losses = {token: sentence_loss(model, tokenizer, ids) for token, ids in choices.items()}
    best = min(losses, key=lambda token: losses[token])
    return StartToken(best, choices[best], losses)


def _token_id(tokenizer: Any, token: str) -> int:
    if token not in tokenizer.get_vocab():
        raise ModelError(
            f"the tokenizer has no token {token!r}. Expected 'auto', 'none' or one of its tokens."
        )
    return int(tokenizer.convert_tokens_to_ids(token))


def _own_start(tokenizer: Any) -> tuple[int, ...]:
    """The ids that the tokenizer itself puts in front of a text."""
    full = tokenizer(SENTENCES[0])["input_ids"]
    plain = tokenizer(SENTENCES[0], add_special_tokens=False)["input_ids"]
    count = len(full) - len(plain)
    ahead = next((n for n in range(count + 1) if full[n : n + len(plain)] == plain), 0)
    return tuple(full[:ahead])


def _candidates(tokenizer: Any) -> dict[str, tuple[int, ...]]:
    """Nothing, and each of the tokenizer's marks that might open a text; a token under two names once."""
    marks = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, "<|endoftext|>")
    known = tokenizer.get_vocab()
    found: dict[str, tuple[int, ...]] = {NONE: ()}
    return found | {str(mark): (_token_id(tokenizer, mark),) for mark in marks if mark in known}


@torch.no_grad()
def sentence_loss(
    model: Any, tokenizer: Any, start_ids: Sequence[int], sentences: Sequence[str] = SENTENCES
) -> float:
    """Mean negative log-likelihood a token (nats) of sentences that begin with `start_ids`.

    The first token of each sentence is not counted, so that having no start can be compared.
    """
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in sentences]
    width, skip = max(map(len, rows)), len(start_ids)
    ids = torch.tensor(
        [[*start_ids, *row, *[row[-1]] * (width - len(row))] for row in rows], device=model.device
    )
    logits: Float[Tensor, "b t v"] = model(input_ids=ids, use_cache=False).logits[:, skip:-1].float()
    losses = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, skip + 1 :].flatten(), reduction="none")
    lengths = torch.tensor([len(row) - 1 for row in rows], device=model.device)
    counted = torch.arange(width - 1, device=model.device) < lengths[:, None]
    return float(losses.view(len(rows), -1)[counted].mean())
