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

PLAIN_TEXTS = (
    "The capital of France is Paris, and many people visit it each year.",
    "Water freezes at zero degrees and boils at one hundred.",
    "My brother plays the guitar in a small band.",
)
# What rounding alone may do to a logit, as a share of the largest logit.
_TOLERANCE = {torch.float32: 2e-4, torch.float64: 2e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written and how close it comes.

    `difference` is the largest absolute difference between the logits of what was loaded back and of
    the delta as stored; `approximation` the same between the delta as stored and as given (0 when no
    rank was cut). `energy` is the least share of a site's squared norm that was kept; `ranks` is
    the stored rank by site. `checks` are the programs that loaded it back, `untried` says which could
    not and why.
    """

    folder: Path
    difference: float
    approximation: float
    energy: float
    ranks: Mapping[str, int]
    checks: tuple[str, ...] = ()
    untried: tuple[str, ...] = ()


def merge_to_one(delta: LowRankDelta) -> LowRankDelta:
    """The sum of a delta's edits as one, in float32."""
    return delta.merge().to(torch.float32)


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
    """The largest absolute difference between two lists of logits."""
    return max(float((x - y).abs().max()) for x, y in zip(first, second, strict=True))


def check_agreement(
    expected: Sequence[Tensor], found: Sequence[Tensor], dtype: torch.dtype, what: str
) -> float:
    """The largest difference between the logits of the edited model and of `what` was loaded back.

    Errors: `ModelError` when it is more than rounding in `dtype` explains, or not a number.
    """
    difference = largest_difference(expected, found)
    allowed = _TOLERANCE[dtype] * max(1.0, *(float(logits.abs().max()) for logits in expected))
    if not difference <= allowed:
        raise ModelError(
            f"{what} was loaded back and its logits differ from the edited model's by {difference:.2g}; "
            f"rounding explains {allowed:.2g}. Nothing was kept. Try dtype float32; report this if it stays."
        )
    return difference
