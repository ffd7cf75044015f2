"""What the model answers before and after, token by token, and how likely each was."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.evaluation.generation import generate_greedy
from instructedit.evaluation.readings import NEW_TOKENS
from instructedit.factors import answer_rows

BATCH = 32  # texts of one pass
Tokens = list[dict[str, Any]]  # {"token": text, "p": its probability after all before it}


@torch.no_grad()
def read_tokens(
    backbone: Backbone, asked: Sequence[tuple[str, str]], delta: LowRankDelta | None = None
) -> list[Tokens]:
    """The tokens of each answer behind its prompt, with their probabilities; `delta` is one update for all.

    Errors: `DataError` for a text that does not fit the model's context.
    """
    backbone = backbone if delta is None else backbone.reaching(delta.a)
    texts = [backbone.text(prompt, answer) for prompt, answer in asked]
    found: list[Tokens] = [[] for _ in texts]
    answered = [index for index, text in enumerate(texts) if text.targets]
    for start in range(0, len(answered), BATCH):
        batch = answered[start : start + BATCH]
        part = [texts[index] for index in batch]
        with nullcontext() if delta is None else delta.applied_to(backbone.model):
            top = backbone.top(backbone.prefix(part))
        rows, positions, targets = answer_rows(part, top.device)
        shares = backbone.logits(top[rows, positions]).float().softmax(-1).gather(1, targets[:, None])[:, 0]
        for row, token, share in zip(rows.tolist(), targets.tolist(), shares.tolist(), strict=True):
            found[batch[row]].append({"token": backbone.tokenizer.decode([token]), "p": share})
    return found


def explain_readings(
    backbone: Backbone, delta: LowRankDelta | None, readings: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Readings (see `Reading.as_record`) with every token of the two answers and of the wanted one.

    Adds ``tokens_before``, ``tokens_after``, ``wanted_before`` and ``wanted_after`` (see `Tokens`).
    """
    before = [(reading["reads"], reading["before"]) for reading in readings]
    after = [(reading["reads"], reading["after"]) for reading in readings]
    wanted = [(reading["reads"], reading["target"]) for reading in readings]
    base = read_tokens(backbone, [*before, *wanted])
    edited = read_tokens(backbone, [*after, *wanted], delta)
    count = len(readings)
    return [
        {
            **{name: value for name, value in reading.items() if name not in ("edit", "reads")},
            "tokens_before": base[index],
            "tokens_after": edited[index],
            "wanted_before": base[count + index],
            "wanted_after": edited[count + index],
        }
        for index, reading in enumerate(readings)
    ]


def ask_prompt(
    backbone: Backbone, delta: LowRankDelta | None, prompt: str, target: str = ""
) -> dict[str, Any]:
    """One question before and after, its greedy answers token by token, and those of `target` beside them.

    Errors: `DataError` for a prompt that does not fit the model's context.
    """
    (before,) = generate_greedy(backbone, [prompt], max_new_tokens=NEW_TOKENS)
    after = before
    if delta is not None:
        (after,) = generate_greedy(backbone, [prompt], delta=delta, edits=[0], max_new_tokens=NEW_TOKENS)
    reading = {"group": "asked", "prompt": prompt, "reads": prompt, "target": target}
    (found,) = explain_readings(backbone, delta, [{**reading, "before": before, "after": after}])
    for side in ("before", "after"):
        shares = [token["p"] for token in found[f"wanted_{side}"]]
        found[f"probability_{side}"] = float(torch.tensor(shares).prod()) if shares else None
    return found
