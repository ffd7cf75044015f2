"""Greedy generation for many prompts at once, each under its own edit."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch

from instructedit.backbone import Backbone
from instructedit.backbone.generation import continue_texts, even_batches
from instructedit.editors.change import Change, reword_prompts


@torch.no_grad()
def generate_greedy(
    backbone: Backbone,
    prompts: Sequence[str],
    *,
    delta: Change | None = None,
    edits: Sequence[int] = (),
    max_new_tokens: int = 12,
    first_line: bool = True,
) -> list[str]:
    """Continue every prompt with the likeliest tokens, under row ``edits[i]`` of `delta` or unedited.

    Each ends as `continue_texts` has it, and does not depend on what it is batched with.
    """
    told = prompts if delta is None else reword_prompts(delta, prompts, edits)
    texts = [backbone.text(prompt) for prompt in told]
    done = [""] * len(texts)
    for batch in even_batches(backbone, texts):
        rows = torch.tensor([edits[i] for i in batch], device=backbone.device) if delta is not None else None
        with delta.applied_to(backbone.model, rows=rows) if delta is not None else nullcontext():
            found = continue_texts(backbone, [texts[i] for i in batch], max_new_tokens, first_line)
        for index, answer in zip(batch, found, strict=True):
            done[index] = answer.text
    return done
