"""Greedy generation for many prompts at once, each under its own edit."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from instructedit.backbone import Backbone
from instructedit.backbone.generation import continue_texts
from instructedit.editors.change import Change, reword_prompts


def generate_greedy(
    backbone: Backbone,
    prompts: Sequence[str],
    *,
    delta: Change | None = None,
    edits: Sequence[int] = (),
    max_new_tokens: int = 12,
    first_line: bool = True,
    ends: bool = True,
) -> list[str]:
    """Continue every prompt with the likeliest tokens, under row ``edits[i]`` of `delta` or unedited.

    Each ends as `continue_texts` has it, and does not depend on what it is batched with.
    """
    told = prompts if delta is None else reword_prompts(delta, prompts, edits)
    texts = [backbone.text(prompt) for prompt in told]

    def under(batch: list[int]) -> AbstractContextManager[None]:
        if delta is None:
            return nullcontext()
        rows = torch.tensor([edits[place] for place in batch], device=backbone.device)
        return delta.applied_to(backbone.model, rows=rows)

    found = continue_texts(backbone, texts, max_new_tokens, first_line, ends, under)
    return [answer.text for answer in found]
