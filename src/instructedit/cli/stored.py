"""Reading an edit that was kept: a delta file, or a LoRA folder of this project or of peft."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from instructedit.errors import DataError
from instructedit.storage import load_tensors, read_json
from instructedit.types import EditCase

if TYPE_CHECKING:
    from instructedit.delta import LowRankDelta

CONFIG, WEIGHTS, RECORD = "adapter_config.json", "adapter_model.safetensors", "instructedit.json"
PREFIX, HALVES = "base_model.model.", {".lora_A.weight": "a", ".lora_B.weight": "b"}


def read_edit(path: Path) -> "LowRankDelta":
    """The delta in a file, or in a LoRA folder with its scale alpha / r multiplied in.

    Errors: `DataError` when it is missing, broken, or something else.
    """
    from instructedit.delta import LowRankDelta

    if not path.is_dir():
        return LowRankDelta.load(path)
    config, tensors = _read_folder(path)
    sides: dict[str, dict[str, Any]] = {"a": {}, "b": {}}
    for name, tensor in tensors.items():
        ending = next((ending for ending in HALVES if name.endswith(ending)), None)
        if ending is None or not name.startswith(PREFIX):
            raise DataError(
                f"{path / WEIGHTS} holds {name!r}. Expected the A and B of LoRA layers and nothing else."
            )
        sides[HALVES[ending]][name.removeprefix(PREFIX).removesuffix(ending)] = tensor[None]
    if not sides["a"] or sides["a"].keys() != sides["b"].keys():
        raise DataError(f"{path / WEIGHTS} is not whole. Expected an A and a B for every layer.")
    scaled = {name: tensor * _scale(config, name, tensor.shape[2]) for name, tensor in sides["b"].items()}
    return LowRankDelta(sides["a"], scaled)


def read_record(path: Path) -> tuple[str | None, list[EditCase]]:
    """The base model and the edits that are written down beside a LoRA folder, where they are."""
    if not (path / RECORD).is_file():
        return None, []
    try:
        record = read_json(path / RECORD)
        return record.get("base_model"), [EditCase(**_as_case(edit)) for edit in record["edits"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"cannot read {path / RECORD}: {error}. Expected what `instructedit edit` wrote."
        ) from error


def _as_case(edit: dict[str, Any]) -> dict[str, Any]:
    return {"target_new": "", **edit}


def _read_folder(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from safetensors import SafetensorError

    try:
        config = read_json(path / CONFIG)
        tensors, _ = load_tensors(path / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise DataError(
            f"cannot read the LoRA folder {path}: {error}. Expected {CONFIG} and {WEIGHTS} in it."
        ) from error
    return config, tensors


def _scale(config: dict[str, Any], name: str, rank: int) -> float:
    """alpha / r of one layer, or alpha / sqrt(r) for a rank-stabilised adapter."""
    patterns = config.get("alpha_pattern") or {}
    alpha = next((value for key, value in patterns.items() if name == key or name.endswith(f".{key}")), None)
    alpha = config.get("lora_alpha", rank) if alpha is None else alpha
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)
