"""An edit as a LoRA folder that `peft` loads: ``dW = B A`` is a LoRA pair as it stands."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.backbone.quiet import quiet
from instructedit.backbone.sites import is_transposed
from instructedit.delta import LowRankDelta
from instructedit.errors import ModelError
from instructedit.export.check import (
    PLAIN_TEXTS,
    ExportReport,
    check_agreement,
    edited_logits,
    largest_difference,
    merge_to_one,
    text_logits,
)
from instructedit.export.record import base_path, write_record
from instructedit.storage import new_folder, save_tensors, write_json
from instructedit.types import EditCase

_USAGE = """from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, "this folder")"""


def save_lora(
    delta: LowRankDelta,
    folder: Path | str,
    backbone: Backbone,
    *,
    rank: int | None = None,
    energy: float = 0.9999,
    force: bool = False,
    cases: Sequence[EditCase] = (),
    texts: Sequence[str] = PLAIN_TEXTS,
) -> ExportReport:
    """Write a delta as a PEFT LoRA folder, load it back with peft and compare the logits on `texts`.

    Several edits become one. Every site is cut to `rank`, or to the least rank that keeps `energy` of its
    squared norm. Errors: `OutputError` when the folder exists and `force` is not given; `ModelError`
    when peft is missing or the logits disagree. Then nothing is written.
    """
    _require_peft()
    whole = merge_to_one(delta)
    stored, kept = whole.compress(rank=rank, energy=energy)
    expected = edited_logits(stored, backbone, texts)
    lost = largest_difference(edited_logits(whole, backbone, texts), expected)
    ranks = {name: a.shape[1] for name, a in stored.a.items()}
    with new_folder(Path(folder), force=force) as place:
        write_json(place / "adapter_config.json", _config(ranks, backbone))
        save_tensors(place / "adapter_model.safetensors", _tensors(stored), {"format": "pt"})
        usage = _USAGE.format(base=base_path(backbone))
        write_record(place, backbone, cases, usage, {"ranks": ranks, "energy_kept": kept})
        found = _adapter_logits(place, backbone, texts)
        difference = check_agreement(expected, found, backbone.dtype, "the LoRA folder")
    return ExportReport(Path(folder), difference, lost, min(kept.values()), ranks)


def _require_peft() -> None:
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise ModelError(
            "peft is not installed, and a LoRA folder is loaded back with it. Run "
            "`pip install 'instructedit[export]'`, or export the merged model."
        ) from error


def _config(ranks: dict[str, int], backbone: Backbone) -> dict[str, Any]:
    """``adapter_config.json``: scale alpha / r is 1 at every site, whatever its rank."""
    from peft import LoraConfig, TaskType

    widest = max(ranks.values())
    config = LoraConfig(
        r=widest,
        lora_alpha=widest,
        target_modules=sorted(ranks),
        rank_pattern=dict(ranks),
        alpha_pattern=dict(ranks),
        fan_in_fan_out=any(is_transposed(backbone.model.get_submodule(name)) for name in ranks),
        lora_dropout=0.0,
        task_type=TaskType.CAUSAL_LM,
        base_model_name_or_path=base_path(backbone),
        inference_mode=True,
    )
    plain = {name: getattr(value, "value", value) for name, value in config.to_dict().items()}
    return {name: sorted(value) if isinstance(value, set) else value for name, value in plain.items()}


def _tensors(delta: LowRankDelta) -> dict[str, Tensor]:
    halves = (("lora_A", delta.a), ("lora_B", delta.b))
    return {
        f"base_model.model.{name}.{half}.weight": tensor[0]
        for half, tensors in halves
        for name, tensor in tensors.items()
    }


def _adapter_logits(folder: Path, backbone: Backbone, texts: Sequence[str]) -> list[Tensor]:
    """The logits with the folder loaded by peft around the backbone's own model, unwrapped afterwards."""
    from peft import PeftModel

    model = backbone.model
    try:
        with quiet():
            wrapped = PeftModel.from_pretrained(model, str(folder))
        return text_logits(wrapped.eval(), backbone, texts)
    finally:
        _unwrap(model, backbone)


def _unwrap(model: Any, backbone: Backbone) -> None:
    """Put the model's own layers back where peft wrapped them; their weights were never touched."""
    for name, module in list(model.named_modules()):
        if hasattr(module, "base_layer"):
            model.set_submodule(name, module.base_layer)
    if hasattr(model, "peft_config"):
        del model.peft_config
    model.requires_grad_(False)
