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

    `expected` and `found` are the logits of the edited model and of `what` on `edit_texts(cases)`. An answer
    is kept where all its tokens that the edit makes the likeliest still are.
    Errors: `ModelError` that names an answer which is lost.
    """
    before = text_logits(backbone.model, backbone, edit_texts(cases))
    kept = 0
    lost: list[EditCase] = []
    for case, *logits in zip(asked_edits(cases), before, expected, found, strict=True):
        old, new, made = (rows[_answer(backbone, case)].argmax(-1) for rows in logits)
        changed = new != old
        if not case.wanted or not bool(changed.any()):
            continue
        if torch.equal(new[changed], made[changed]):
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


def _answer(backbone: Backbone, case: EditCase) -> slice:
    """The positions of a text at which the tokens of its answer are foretold."""
    return slice(len(backbone.text(case.prompt).ids) - 1 if case.prompt else 0, -1)
