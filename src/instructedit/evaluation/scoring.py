"""Teacher-forced scores of texts before and after an edit: the prefix once, the top twice."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from instructedit.backbone import Backbone, PrefixCache, Text, like_length
from instructedit.editors.change import Change
from instructedit.evaluation.rows import SIDES
from instructedit.factors import answer_rows
from instructedit.metrics import (
    all_per_text,
    answer_log_probs,
    hits,
    kl_divergence,
    mean_per_text,
    unchanged,
)

BATCH_TOKENS = 2048  # of one pass, padding counted
BATCH_TEXTS = 64  # of one pass: every text brings its own copy of its edit's factors
ENCODED_TEXTS = 512  # whose prefix states are in memory at one time
HEAD_ROWS = 256  # positions whose logits exist at one time: 50 MB for 49,152 words
States = dict[tuple[int, ...], Float[Tensor, "_ d"]]  # by a text's tokens
COLUMNS = ("exact", "accuracy", "log_prob", "unchanged", "unchanged_exact", "kl")


@torch.no_grad()
def score_texts(
    backbone: Backbone,
    delta: Change,
    texts: Sequence[Text],
    edits: Sequence[int],
    cache: PrefixCache | None = None,
    reworded: Sequence[Text] | None = None,
) -> dict[str, Float[Tensor, " m"]]:
    """Score the answer of every text under the model and under the edit that belongs to it.

    `edits[i]` is the row of `delta` under which text i is asked. Returns one column of m values on the
    CPU for each of `base_` and `edited_` with ``exact``, ``accuracy``, ``log_prob`` (mean, nats a token),
    ``unchanged``, ``unchanged_exact`` and ``kl`` (nats a token). A text is scored alone, whatever it
    is batched with. A text without an answer gives NaN. `reworded[i]` is text i as the edited model is asked
    it, where that differs: other tokens in front of the same answer.
    """
    columns = {f"{side}_{name}": torch.full((len(texts),), torch.nan) for side in SIDES for name in COLUMNS}
    told = texts if reworded is None else reworded
    answered = [place for place, text in enumerate(told) if text.targets]
    answered.sort(key=lambda place: told[place].ids)  # what begins alike is encoded together
    for start in range(0, len(answered), ENCODED_TEXTS):
        part = answered[start : start + ENCODED_TEXTS]
        states = _encode(backbone, [side[i] for side in (texts, told) for i in part], cache)
        for batch in like_length(part, told, BATCH_TOKENS, BATCH_TEXTS):
            plain, asked = [texts[i] for i in batch], [told[i] for i in batch]
            scored = _score_batch(backbone, delta, plain, asked, [edits[i] for i in batch], states)
            for name, values in scored.items():
                columns[name][batch] = values.cpu()
    return columns


def _encode(backbone: Backbone, texts: Sequence[Text], cache: PrefixCache | None) -> States:
    """The prefix states of each text, by its tokens."""
    once = list({text.ids: text for text in texts}.values())
    return {text.ids: row for text, row in zip(once, backbone.states(once, cache), strict=True)}


def _score_batch(
    backbone: Backbone,
    delta: Change,
    texts: Sequence[Text],
    asked: Sequence[Text],
    edits: Sequence[int],
    states: States,
) -> dict[str, Float[Tensor, " m"]]:
    hidden = backbone.pad_states([states[text.ids] for text in texts])
    owner, positions, targets = answer_rows(texts, backbone.device)
    base = backbone.top(hidden)[owner, positions]
    if asked != texts:
        hidden = backbone.pad_states([states[text.ids] for text in asked])
        positions = answer_rows(asked, backbone.device)[1]
    with delta.applied_to(backbone.model, rows=torch.tensor(edits, device=backbone.device)):
        edited = backbone.top(hidden)[owner, positions]
    slices = [slice(start, start + HEAD_ROWS) for start in range(0, len(owner), HEAD_ROWS)]
    parts = [_token_scores(backbone, base[part], edited[part], targets[part]) for part in slices]
    tokens = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return _text_scores(tokens, owner, len(texts))


def _token_scores(
    backbone: Backbone, base: Float[Tensor, "n d"], edited: Float[Tensor, "n d"], targets: Int[Tensor, " n"]
) -> dict[str, Tensor]:
    before, after = backbone.logits(base).float(), backbone.logits(edited).float()
    return {
        "base_hit": hits(before, targets),
        "edited_hit": hits(after, targets),
        "base_log_prob": answer_log_probs(before, targets),
        "edited_log_prob": answer_log_probs(after, targets),
        "unchanged": unchanged(before, after),
        "kl": kl_divergence(before, after),
    }


def _text_scores(tokens: dict[str, Tensor], owner: Int[Tensor, " n"], texts: int) -> dict[str, Tensor]:
    scores: dict[str, Tensor] = {}
    for side in SIDES:
        scores[f"{side}_exact"] = all_per_text(tokens[f"{side}_hit"], owner, texts)
        scores[f"{side}_accuracy"] = mean_per_text(tokens[f"{side}_hit"], owner, texts)
        scores[f"{side}_log_prob"] = mean_per_text(tokens[f"{side}_log_prob"], owner, texts)
    same = torch.ones(texts, device=owner.device)
    scores["base_unchanged"] = scores["base_unchanged_exact"] = same
    scores["base_kl"] = torch.zeros_like(same)
    scores["edited_unchanged"] = mean_per_text(tokens["unchanged"], owner, texts)
    scores["edited_unchanged_exact"] = all_per_text(tokens["unchanged"], owner, texts)
    scores["edited_kl"] = mean_per_text(tokens["kl"], owner, texts)
    return scores
