"""An edit as a GGUF adapter that llama.cpp puts on a model: ``--lora adapter.gguf``.

The form is that of llama.cpp's convert_lora_to_gguf.py: ``general.type`` is adapter, ``adapter.type`` is
lora, and a weight W has ``W.lora_a`` ``[r d_in]`` and ``W.lora_b`` ``[d_out r]``. llama.cpp adds
``alpha / r * B A`` with the one ``adapter.lora.alpha`` and each pair's own r (llama-adapter.h, `get_scale`).
Our sites differ in rank, so alpha is the widest rank, and each B is written times ``r / alpha``.
"""

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.backbone.origin import original_gguf
from instructedit.delta import LowRankDelta
from instructedit.errors import ModelError
from instructedit.export.check import (
    PLAIN_TEXTS,
    ExportReport,
    check_agreement,
    edited_logits,
    list_untried,
)
from instructedit.export.cut import cut_ranks
from instructedit.export.gguf_names import find_architecture, name_tensors
from instructedit.export.llama_cpp import compare_answers, find_llama_cpp
from instructedit.export.record import write_record
from instructedit.export.updates import check_fit, check_updates
from instructedit.storage import new_folder
from instructedit.types import EditCase

ADAPTER_FILE = "adapter.gguf"
_USAGE = "llama-server -m base-model.gguf --lora adapter.gguf"


def save_gguf(
    delta: LowRankDelta,
    folder: Path | str,
    backbone: Backbone,
    *,
    rank: int | None = None,
    energy: float | None = None,
    force: bool = False,
    cases: Sequence[EditCase] = (),
    texts: Sequence[str] = PLAIN_TEXTS,
) -> ExportReport:
    """Write a delta as a GGUF adapter in float32, read it again and compare updates and logits.

    Several edits become one; ranks are cut as by `save_lora`. Where llama-cpp-python is installed and a GGUF
    file of the base model at hand, llama.cpp's answers are compared too. Errors: `OutputError` when the
    folder exists and `force` is not given; `ModelError` when the model or a site has no place in GGUF, or
    what is read again is not the edit. Then nothing is written.
    """
    check_fit(delta, backbone)
    names = name_tensors(backbone.model, delta.a)
    cut = cut_ranks(delta, backbone, cases, texts, rank=rank, energy=energy)
    with new_folder(Path(folder), force=force) as place:
        file = place / ADAPTER_FILE
        write_adapter(file, cut.delta, names, find_architecture(backbone.model))
        write_record(place, backbone, cases, _USAGE, cut.facts, language="bash")
        found = read_adapter(file, names)
        check_updates(cut.delta, found, "the GGUF adapter")
        logits = edited_logits(found, backbone, cut.texts)
        difference = check_agreement(cut.logits, logits, backbone.dtype, "the GGUF adapter")
        with original_gguf(backbone.name if find_llama_cpp() else None) as base:
            answers = compare_answers(cut.delta, backbone, cases, base, file)
    checks = ("gguf's reader", *([answers.said] if answers.asked else []))
    untried = (*list_untried(cases), *(() if answers.asked else (answers.said,)))
    return ExportReport(
        Path(folder), difference, cut.lost, min(cut.kept.values()), cut.ranks, checks, untried
    )


def write_adapter(path: Path, delta: LowRankDelta, names: Mapping[str, str], architecture: str) -> None:
    """Write a delta of one edit as one GGUF file; `names` are the weights' names there, by site."""
    from gguf import GGUFType, GGUFWriter, Keys, LlamaFileType

    alpha = max(a.shape[1] for a in delta.a.values())
    writer = GGUFWriter(path, architecture)
    writer.add_type(GGUFType.ADAPTER)
    writer.add_string(Keys.Adapter.TYPE, "lora")
    writer.add_float32(Keys.Adapter.LORA_ALPHA, float(alpha))
    writer.add_file_type(LlamaFileType.ALL_F32)
    for site, a in delta.a.items():
        writer.add_tensor(f"{names[site]}.lora_a", as_array(a[0]))
        writer.add_tensor(f"{names[site]}.lora_b", as_array(delta.b[site][0] * (a.shape[1] / alpha)))
    finish(writer, path)


def read_adapter(path: Path, names: Mapping[str, str]) -> LowRankDelta:
    """The delta in a GGUF adapter, with ``alpha / r`` multiplied into B as llama.cpp does.

    Errors: `ModelError` when it is not a LoRA adapter or does not hold exactly the pairs of `names`.
    """
    from gguf import GGUFReader, Keys

    reader = GGUFReader(path)
    kinds = [reader.get_field(key) for key in (Keys.General.TYPE, Keys.Adapter.TYPE, Keys.Adapter.LORA_ALPHA)]
    kind, form, alpha = (field.contents() if field else None for field in kinds)
    tensors = {tensor.name: torch.from_numpy(np.array(tensor.data)) for tensor in reader.tensors}
    wanted = {f"{name}.{half}" for name in names.values() for half in ("lora_a", "lora_b")}
    if (kind, form) != ("adapter", "lora") or tensors.keys() != wanted:
        raise ModelError(
            f"{path} is no LoRA adapter of this edit: general.type is {kind!r}, adapter.type {form!r}, "
            f"and it holds {len(tensors)} tensors. Expected 'adapter', 'lora' and {len(wanted)}."
        )
    a = {site: tensors[f"{name}.lora_a"] for site, name in names.items()}
    b = {site: tensors[f"{name}.lora_b"] for site, name in names.items()}
    scaled = {site: x * (alpha / x.shape[1] if alpha else 1.0) for site, x in b.items()}
    return LowRankDelta(
        {site: x[None] for site, x in a.items()}, {site: x[None] for site, x in scaled.items()}
    )


def as_array(tensor: Tensor) -> np.ndarray:
    """A tensor as a contiguous array in float32."""
    return tensor.detach().to("cpu", torch.float32).contiguous().numpy()


def finish(writer: Any, path: Path) -> None:
    """Write what a `GGUFWriter` for `path` was given.

    Errors: `OSError` when not all of it reached the disk, which numpy keeps to itself.
    """
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    (file,) = writer.fout
    end = file.tell()
    writer.close()
    if path.stat().st_size < end:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
