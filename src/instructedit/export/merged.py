"""An edit merged into a copy of the model: ``W + B A``, as an ordinary folder of safetensors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.backbone.loading import read_model
from instructedit.backbone.quiet import quiet
from instructedit.backbone.sites import is_transposed, weight_shape
from instructedit.delta import LowRankDelta
from instructedit.errors import ModelError
from instructedit.export.answers import check_answers
from instructedit.export.check import (
    PLAIN_TEXTS,
    ExportReport,
    check_agreement,
    edit_texts,
    edited_logits,
    list_untried,
    merge_to_one,
    text_logits,
)
from instructedit.export.record import write_record
from instructedit.export.updates import check_weights
from instructedit.storage import new_folder
from instructedit.types import EditCase

_USAGE = """from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("this folder")
tokenizer = AutoTokenizer.from_pretrained("this folder")"""


def save_merged(
    delta: LowRankDelta,
    folder: Path | str,
    backbone: Backbone,
    *,
    force: bool = False,
    cases: Sequence[EditCase] = (),
    texts: Sequence[str] = PLAIN_TEXTS,
) -> ExportReport:
    """Write model and tokenizer with the delta added to the weights, load them back and compare both.

    Compared are the edited weights, and the logits on `texts` and on the texts of `cases`. The backbone's own
    weights are not written to: only the edited matrices exist twice, until the check loads the folder.
    Errors: `OutputError` when the folder exists and `force` is not given; `ModelError` when the weights are
    quantised, the delta belongs to another model, what was loaded differs or an edit's answer was rounded
    away. Then nothing is written.
    """
    whole = merge_to_one(delta, backbone)
    asked = (*texts, *edit_texts(cases))
    expected = edited_logits(whole, backbone, asked)
    ranks = {name: a.shape[1] for name, a in whole.a.items()}
    with new_folder(Path(folder), force=force) as place:
        with quiet():
            backbone.model.save_pretrained(place, state_dict=_merged_weights(whole, backbone))
            backbone.tokenizer.save_pretrained(place)
        write_record(place, backbone, cases, _USAGE, {"merged": True})
        dtype = str(backbone.dtype).removeprefix("torch.")
        model, _ = read_model(place, dtype=dtype, device=str(backbone.device))
        check_weights(model, backbone, whole, "the merged model")
        found = text_logits(model, backbone, asked)
        difference = check_agreement(expected, found, backbone.dtype, "the merged model")
        own = slice(len(texts), None)
        answers = check_answers(backbone, cases, expected[own], found[own], "the merged model")
    checks = ("transformers", *answers)
    return ExportReport(Path(folder), difference, 0.0, 1.0, ranks, checks, list_untried(cases))


def _merged_weights(delta: LowRankDelta, backbone: Backbone) -> dict[str, Tensor]:
    """The model's state with new tensors at the edited sites and its own everywhere else."""
    state = dict(backbone.model.state_dict())
    for name in delta.a:
        state[f"{name}.weight"] = _add(backbone.model.get_submodule(name), delta.dense(name)[0], name)
    return state


def _add(module: Any, update: Tensor, name: str) -> Tensor:
    """``W + dW`` in float32, rounded once to the weight's own dtype."""
    weight = module.weight.detach()
    rows, columns = weight_shape(module)
    shape = (columns, rows) if is_transposed(module) else (rows, columns)
    if not weight.is_floating_point() or tuple(weight.shape) != shape:
        raise ModelError(
            f"{name} is quantised ({weight.dtype}, {tuple(weight.shape)}), so an edit cannot be merged into "
            "it. Export a LoRA folder, or load the model unquantised."
        )
    update = update.to(weight.device, torch.float32)
    return (weight.float() + (update.T if is_transposed(module) else update)).to(weight.dtype).contiguous()
