"""An edit as a LoRA folder that `peft` loads: ``dW = B A`` is a LoRA pair as it stands."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.backbone.quiet import quiet
from instructedit.backbone.sites import is_transposed
from instructedit.delta import LowRankDelta
from instructedit.export.check import PLAIN_TEXTS, ExportReport, check_agreement, list_untried, text_logits
from instructedit.export.cut import CutDelta, cut_ranks
from instructedit.export.record import base_path, write_record
from instructedit.export.updates import check_updates
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
    energy: float | None = None,
    force: bool = False,
    cases: Sequence[EditCase] = (),
    texts: Sequence[str] = PLAIN_TEXTS,
) -> ExportReport:
    """Write a delta as a PEFT LoRA folder, load it back in two ways and compare updates and logits.

    Several edits become one, cut as by `cut_ranks`. Loaded by peft and by transformers' `load_adapter`; the
    logits are those on `texts` and on the texts of `cases`. Errors: `OutputError` when the folder exists and
    `force` is not given, or peft is missing; `DataError` for a rank or an energy that cannot be;
    `ModelError` when the delta belongs to another model or what was loaded differs. Then nothing is written.
    """
    require("export", "a LoRA folder, which is loaded back to check it,")
    cut = cut_ranks(delta, backbone, cases, texts, rank=rank, energy=energy)
    with new_folder(Path(folder), force=force) as place:
        write_json(place / "adapter_config.json", _config(cut.ranks, backbone))
        save_tensors(place / "adapter_model.safetensors", _tensors(cut.delta), {"format": "pt"})
        usage = _USAGE.format(base=base_path(backbone))
        write_record(place, backbone, cases, usage, cut.facts)
        difference = max(_compare(place, backbone, cut, load) for load in (_by_peft, _by_transformers))
    least, untried = min(cut.kept.values()), list_untried(cases)
    return ExportReport(Path(folder), difference, cut.lost, least, cut.ranks, CHECKS, untried)


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


def _compare(folder: Path, backbone: Backbone, cut: CutDelta, load: Callable[[Path, Any], Any]) -> float:
    """The largest difference of a logit with the folder loaded by `load` around the backbone's own model."""
    with _put_back(backbone.model), quiet():
        model = load(folder, backbone.model)
        check_updates(cut.delta, _loaded_pairs(backbone.model), "the LoRA folder")
        found = text_logits(model, backbone, cut.texts)
    return check_agreement(cut.logits, found, backbone.dtype, "the LoRA folder")


def _by_peft(folder: Path, model: Any) -> Any:
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(folder)).eval()


def _by_transformers(folder: Path, model: Any) -> Any:
    model.load_adapter(str(folder))
    return model


def _loaded_pairs(model: Any) -> LowRankDelta:
    """The pairs of a model that a loader wrapped, with their scales multiplied in."""
    layers = {name: layer for name, layer in model.named_modules() if hasattr(layer, "base_layer")}
    a = {name: layer.lora_A["default"].weight.detach()[None] for name, layer in layers.items()}
    b = {
        name: layer.lora_B["default"].weight.detach()[None] * layer.scaling["default"]
        for name, layer in layers.items()
    }
    return LowRankDelta(a, b)


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
