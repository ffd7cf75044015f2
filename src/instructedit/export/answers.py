"""Does what was written still give the edits' own answers? Half precision may round a small edit away."""

from collections.abc import Sequence

import torch
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.errors import ModelError
from instructedit.export.check import asked_edits, edit_texts, text_logits
from instructedit.types import EditCase


def check_answers(
    backbone: Backbone,
    cases: Sequence[EditCase],
    expected: Sequence[Tensor],
    found: Sequence[Tensor],
    what: str,
) -> tuple[str, ...]:
    """How many of the edits' own answers are kept, in words; nothing where the edits give none of their own.

    `expected` and `found` are the logits of the edited model and of `what` on `edit_texts(cases)`. Answers
    count that the edited model gives whole and the unedited one does not.
    Errors: `ModelError` that names an answer which is lost.
    """
    texts = edit_texts(cases)
    before = text_logits(backbone.model, backbone, texts)
    kept = 0
    lost: list[EditCase] = []
    for case, text, *logits in zip(asked_edits(cases), texts, before, expected, found, strict=True):
        start = len(backbone.text(case.prompt).ids) if case.prompt else 1
        wanted = torch.tensor(backbone.text(text).ids[start:])
        old, new, made = (torch.equal(rows[start - 1 : -1].argmax(-1), wanted) for rows in logits)
        if not case.wanted or old or not new:
            continue
        if made:
            kept += 1
        else:
            lost.append(case)
    if lost:
        raise ModelError(
            f"{what} keeps {kept} of {kept + len(lost)} edits' answers: rounding to {backbone.dtype} loses "
            f"{lost[0].wanted!r} after {lost[0].prompt!r}. Nothing was kept. Load the model in float32 "
            "(--dtype), or export an adapter (--to lora or --to gguf), which is not rounded."
        )
    return (f"{kept} of {kept} edits' answers kept",) if kept else ()
