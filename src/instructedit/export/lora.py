"""An edit as a LoRA folder that `peft` loads: ``dW = B A`` is a LoRA pair as it stands."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.backbone.quiet import quiet
from instructedit.backbone.sites import is_transposed
from instructedit.delta import LowRankDelta
from instructedit.export.check import PLAIN_TEXTS, ExportReport, check_agreement, text_logits
from instructedit.export.cut import ENERGY, cut_ranks
from instructedit.export.record import base_path, write_record
from instructedit.extras import require
from instructedit.storage import new_folder, save_tensors, write_json
from instructedit.types import EditCase

CHECKS = ("peft", "transformers' load_adapter")
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
    energy: float = ENERGY,
    force: bool = False,
    cases: Sequence[EditCase] = (),
    texts: Sequence[str] = PLAIN_TEXTS,
) -> ExportReport:
    """Write a delta as a PEFT LoRA folder, load it back in two ways and compare the logits on `texts`.

    Several edits become one. Every site is cut to `rank`, or to the least rank that keeps `energy` of its
    squared norm. Loaded by peft and by transformers' `load_adapter`. Errors: `OutputError` when the folder
    exists and `force` is not given, or peft is missing; `DataError` for a rank or an energy that cannot be;
    `ModelError` when the logits disagree. Then nothing is written.
    """
    require("export", "a LoRA folder, which is loaded back to check it,")
    cut = cut_ranks(delta, backbone, texts, rank=rank, energy=energy)
    with new_folder(Path(folder), force=force) as place:
        write_json(place / "adapter_config.json", _config(cut.ranks, backbone))
        save_tensors(place / "adapter_model.safetensors", _tensors(cut.delta), {"format": "pt"})
        usage = _USAGE.format(base=base_path(backbone))
        write_record(place, backbone, cases, usage, {"ranks": cut.ranks, "energy_kept": cut.kept})
        difference = max(
            check_agreement(cut.logits, load(place, backbone, texts), backbone.dtype, "the LoRA folder")
            for load in (_peft_logits, _transformers_logits)
        )
    least = min(cut.kept.values())
    return ExportReport(Path(folder), difference, cut.lost, least, cut.ranks, CHECKS)


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


def _peft_logits(folder: Path, backbone: Backbone, texts: Sequence[str]) -> list[Tensor]:
    """The logits with the folder loaded by peft around the backbone's own model."""
    from peft import PeftModel

    with _put_back(backbone.model), quiet():
        wrapped = PeftModel.from_pretrained(backbone.model, str(folder))
        return text_logits(wrapped.eval(), backbone, texts)


def _transformers_logits(folder: Path, backbone: Backbone, texts: Sequence[str]) -> list[Tensor]:
    """The logits with the folder loaded by the model's own `load_adapter`."""
    with _put_back(backbone.model), quiet():
        backbone.model.load_adapter(str(folder))
        return text_logits(backbone.model, backbone, texts)


@contextmanager
def _put_back(model: Any) -> Iterator[None]:
    """Let a model be wrapped for as long as the block lasts; its weights are never touched.

    Afterwards its own layers are where they were, and what loaders leave on the model (configs, and renamings
    that `save_pretrained` would follow) is gone.
    """
    attributes = dict(vars(model))
    try:
        yield
    finally:
        for name, module in list(model.named_modules()):
            if hasattr(module, "base_layer"):
                model.set_submodule(name, module.base_layer)
        vars(model).clear()
        vars(model).update(attributes)
        model.requires_grad_(False)
