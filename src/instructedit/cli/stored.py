"""Reading an edit that was kept: a delta file, or a LoRA folder of this project or of peft."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from instructedit.errors import DataError, one_line
from instructedit.storage import load_tensors, read_json
from instructedit.types import EditCase, Kind, Scope, Sentiment

if TYPE_CHECKING:
    from torch import Tensor

    from instructedit.delta import LowRankDelta

CONFIG, WEIGHTS, RECORD = "adapter_config.json", "adapter_model.safetensors", "instructedit.json"
PREFIX, HALVES = "base_model.model.", {".lora_A.weight": "a", ".lora_B.weight": "b"}
WORDS = {"prompt", "target_new", "subject", "kind", "scope", "sentiment", "instruction", "case_id"}
CHOICES = {"kind": get_args(Kind), "scope": get_args(Scope), "sentiment": get_args(Sentiment)}
LARGEST = 1e6  # a scale beyond it is a broken one


@dataclass(frozen=True, slots=True)
class Record:
    """What is written down beside a LoRA folder: base model, checksum of its weights, edits; where it is."""

    base: str | None = None
    checksum: str | None = None
    cases: tuple[EditCase, ...] = ()


def read_edit(path: Path) -> "LowRankDelta":
    """The delta in a file, or in a LoRA folder with its scale alpha / r multiplied in.

    Errors: `DataError` when it is missing, broken, or something else.
    """
    from instructedit.delta import LowRankDelta, pair_sides

    if not path.is_dir():
        return LowRankDelta.load(path)
    config, tensors = _read_folder(path)
    sides: dict[str, dict[str, Tensor]] = {"a": {}, "b": {}}
    for name, tensor in tensors.items():
        ending = next((ending for ending in HALVES if name.endswith(ending)), None)
        if ending is None or not name.startswith(PREFIX):
            raise DataError(
                f"{path / WEIGHTS} holds {name!r}. Expected the A and B of LoRA layers and nothing else."
            )
        sides[HALVES[ending]][name.removeprefix(PREFIX).removesuffix(ending)] = tensor[None]
    delta = pair_sides(sides["a"], sides["b"], str(path / WEIGHTS))
    try:
        scales = {name: _scale(config, name, a.shape[1]) for name, a in delta.a.items()}
    except (ValueError, TypeError, AttributeError, re.error) as error:
        raise DataError(
            f"cannot read the scales in {path / CONFIG}: {one_line(error)}. Expected lora_alpha as a number "
            "and alpha_pattern as numbers by layer."
        ) from error
    scaled = {name: b * scales[name] for name, b in delta.b.items()}
    return pair_sides(delta.a, scaled, str(path / WEIGHTS))


def read_record(path: Path) -> Record:
    """What is written down beside a LoRA folder; of a folder of peft, the base model that it names.

    Errors: `DataError` when it is broken.
    """
    place = path / RECORD if (path / RECORD).is_file() else path / CONFIG
    if not place.is_file():
        return Record()
    try:
        facts = _as_table(read_json(place))
        if place.name == CONFIG:
            return Record(_as_text(facts.get("base_model_name_or_path")))
        cases = tuple(_as_case(edit) for edit in facts["edits"])
        return Record(_as_text(facts.get("base_model")), _as_text(facts.get("base_checksum")), cases)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"cannot read {place}: {one_line(error)}. Expected what `instructedit edit` wrote."
        ) from error


def _as_case(edit: object) -> EditCase:
    """One edit of a record. Errors: `ValueError` or `TypeError` when it is none."""
    fields: dict[str, Any] = {"prompt": "", "target_new": "", **_as_table(edit)}
    for name, value in fields.items():
        if name not in WORDS or not isinstance(value, str) or value not in CHOICES.get(name, (value,)):
            raise ValueError(f"an edit has {name} = {value!r}")
    return EditCase(**fields)


def _as_table(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"it holds a {type(value).__name__} where names and values should be")
    return value


def _as_text(value: object) -> str | None:
    if not isinstance(value, str | None):
        raise TypeError(f"it holds {value!r} where a name should be")
    return value or None


def _read_folder(path: Path) -> tuple[dict[str, Any], dict[str, "Tensor"]]:
    from safetensors import SafetensorError

    try:
        config = _as_table(read_json(path / CONFIG))
        tensors, _ = load_tensors(path / WEIGHTS)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise DataError(
            f"cannot read the LoRA folder {path}: {one_line(error)}. Expected {CONFIG} and {WEIGHTS} in it."
        ) from error
    return config, tensors


def _scale(config: Mapping[str, Any], name: str, rank: int) -> float:
    """alpha / r of one layer, or alpha / sqrt(r) for a rank-stabilised adapter.

    A pattern is matched as peft does it. Errors: `ValueError`, `TypeError` and others for what is none.
    """
    patterns = _as_table(config.get("alpha_pattern") or {})
    key = next((key for key in patterns if re.match(rf"(.*\.)?({key})$", name)), None)
    alpha = patterns[key] if key is not None else config.get("lora_alpha", rank)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not abs(alpha) <= LARGEST:
        raise ValueError(f"{name} has the alpha {alpha!r}")
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)
