"""Does what was written answer like the edited model? The logits are compared over whole texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.errors import ModelError
from instructedit.export.updates import check_fit
from instructedit.types import EditCase

PLAIN_TEXTS = (
    "The capital of France is Paris, and many people visit it each year.",
    "Water freezes at zero degrees and boils at one hundred.",
    "My brother plays the guitar in a small band.",
)
ASKED = 20  # edits whose own texts are compared, at the most
_UNKNOWN = "the edits' own texts: no edit is written down, so plain texts alone were compared"
# What rounding alone may do to a logit, as a share of the largest logit.
_TOLERANCE = {torch.float32: 2e-4, torch.float64: 2e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written and how close it comes.

    `difference` is the largest absolute difference between the logits of what was loaded back and of
    the delta as stored, on plain texts and on the edits' own; `approximation` the same between the delta as
    stored and as given (0 when no rank was cut). `energy` is the least share of a site's squared norm that
    was kept; `ranks` is the stored rank by site. `checks` are the programs that loaded it back, and what
    they answer; `untried` says what was not tried and why.
    """

    folder: Path
    difference: float
    approximation: float
    energy: float
    ranks: Mapping[str, int]
    checks: tuple[str, ...] = ()
    untried: tuple[str, ...] = ()


def merge_to_one(delta: LowRankDelta, backbone: Backbone) -> LowRankDelta:
    """The sum of a delta's edits as one, in float32, for this model. Errors: as `check_fit`."""
    check_fit(delta, backbone)
    return delta.merge().to(torch.float32)


def edit_texts(cases: Sequence[EditCase]) -> list[str]:
    """What the `asked_edits` are for, prompt and answer: a local edit does nothing elsewhere."""
    return [_text(case) for case in asked_edits(cases)]


def asked_edits(cases: Sequence[EditCase]) -> list[EditCase]:
    """The edits that have a text; of more than `ASKED` edits, some that are spread over all."""
    return [case for case in cases[:: -(-len(cases) // ASKED) or 1] if _text(case)]


def _text(case: EditCase) -> str:
    return " ".join(filter(None, (case.prompt, case.wanted or case.carrier)))


def list_untried(cases: Sequence[EditCase]) -> tuple[str, ...]:
    """What the comparison leaves out where no edit is known."""
    return () if cases else (_UNKNOWN,)


@torch.no_grad()
def text_logits(model: Any, backbone: Backbone, texts: Sequence[str]) -> list[Float[Tensor, "t v"]]:
    """The logits of `model` at every position of each text, which begins as the backbone's texts do."""
    ids = [backbone.pad([backbone.text(text).ids]) for text in texts]
    return [model(input_ids=row.to(model.device), use_cache=False).logits[0].float().cpu() for row in ids]


def edited_logits(
    delta: LowRankDelta, backbone: Backbone, texts: Sequence[str]
) -> list[Float[Tensor, "t v"]]:
    """The logits of the backbone with `delta` (of one edit) applied by hooks."""
    with delta.to(backbone.device).applied_to(backbone.model):
        return text_logits(backbone.model, backbone, texts)


def largest_difference(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """The largest absolute difference between two lists of logits; no number where one is none."""
    return float(torch.stack([(x - y).abs().max() for x, y in zip(first, second, strict=True)]).max())


def check_agreement(
    expected: Sequence[Tensor], found: Sequence[Tensor], dtype: torch.dtype, what: str
) -> float:
    """The largest difference between the logits of the edited model and of `what` was loaded back.

    Errors: `ModelError` when it is more than rounding in `dtype` explains, or a logit is not finite.
    """
    for whose, logits in (("the edited model", expected), (what, found)):
        if not all(bool(row.isfinite().all()) for row in logits):
            raise ModelError(
                f"{whose} gives logits that are not finite (nan or inf), so nothing can be compared. Nothing "
                "was kept. Try dtype float32 or bfloat16, or make the edit again."
            )
    difference = largest_difference(expected, found)
    allowed = _TOLERANCE[dtype] * max(1.0, *(float(logits.abs().max()) for logits in expected))
    if not difference <= allowed:
        raise ModelError(
            f"{what} was loaded back and its logits differ from the edited model's by {difference:.2g}; "
            f"rounding explains {allowed:.2g}. Nothing was kept. Try dtype float32; report this if it stays."
        )
    return difference
