"""Loading a model by what the user typed: "default", a hub id, a folder, or a GGUF file."""

import json
import re
from pathlib import Path
from typing import Any

import torch

from instructedit.backbone.backbone import Backbone
from instructedit.backbone.checksum import weights_checksum
from instructedit.backbone.default_model import model_folder, recorded_start
from instructedit.backbone.gguf import LOAD_ERRORS, first_line, read_gguf
from instructedit.backbone.quiet import drop_padding_warning, quiet
from instructedit.backbone.sites import find_sites
from instructedit.backbone.start_token import find_start_token
from instructedit.errors import ModelError

DEFAULT = "default"
DTYPES = ("float32", "bfloat16", "float16", "auto")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_CAUSAL_TOKENS = 8


def load_backbone(
    model: str = DEFAULT,
    *,
    sites: str | None = None,
    blocks: int = 3,
    device: str = "cpu",
    dtype: str = "float32",
    device_map: str | dict | None = None,
    start: str = "auto",
) -> Backbone:
    """Load a causal language model, frozen, with its edit sites and its start token found.

    `model` is "default", a hub id, a folder or a ``.gguf`` file; `sites` and `blocks` go to
    `find_sites`, `start` to `find_start_token`; `device` may be "auto", `device_map` is accelerate's.
    Errors: `ModelError` when it is missing, broken, not a causal language model, or has no sites.
    """
    source = resolve(model)
    raw, tokenizer = read_model(source, dtype=dtype, device=device, device_map=device_map)
    checksum = weights_checksum(raw)
    drop_padding_warning()
    _check_causal(raw, model)
    chosen = find_sites(raw, sites, blocks)
    known = recorded_start(source) if isinstance(source, Path) else None
    opening = find_start_token(raw, tokenizer, known if known and start == "auto" else start)
    return Backbone(raw, tokenizer, chosen, opening.ids, model, checksum)


def resolve(model: str) -> Path | str:
    """What the user typed as an existing path, or as a hub id.

    Errors: `ModelError` when it is a path and nothing is there, or can be neither.
    """
    if model == DEFAULT:
        return model_folder()
    path = Path(model).expanduser()
    if model and path.exists():
        return path
    if model.startswith((".", "/", "~")) or model.endswith(".gguf") or not _HUB_ID.fullmatch(model):
        raise ModelError(
            f"no model at {model!r}. Expected 'default', a folder with config.json, a .gguf file, or a hub "
            "id such as 'Qwen/Qwen2.5-0.5B'."
        )
    return model


def read_model(
    source: Path | str, *, dtype: str = "float32", device: str = "cpu", device_map: str | dict | None = None
) -> tuple[Any, Any]:
    """The frozen model and the tokenizer at `source`, in evaluation mode on its device.

    Errors: `ModelError` as `load_backbone`.
    """
    if dtype not in DTYPES:
        raise ModelError(f"unknown dtype {dtype!r}. Expected one of {', '.join(DTYPES)}.")
    precision = "auto" if dtype == "auto" else getattr(torch, dtype)
    if isinstance(source, Path) and source.is_file():
        model, tokenizer = read_gguf(source, precision)
    else:
        model, tokenizer = _read_folder(source, precision, device_map), _read_tokenizer(source)
    if device_map is None or (isinstance(source, Path) and source.is_file()):
        model = _move(model, device)
    _check_vocabulary(model, tokenizer, source)
    return model.eval().requires_grad_(False), tokenizer


def _read_folder(source: Path | str, dtype: Any, device_map: str | dict | None) -> Any:
    from transformers import AutoModelForCausalLM

    _check_folder(source)
    try:
        with quiet():
            model, report = AutoModelForCausalLM.from_pretrained(
                str(source), dtype=dtype, device_map=device_map, output_loading_info=True
            )
    except _errors() as error:
        raise _unreadable(source, error) from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise ModelError(
            f"{source} is broken: {len(missing)} weights are missing, the first is {missing[0]}. "
            "Expected the whole model; fetch it again."
        )
    return model


def _read_tokenizer(source: Path | str) -> Any:
    from transformers import AutoTokenizer

    try:
        with quiet():
            return AutoTokenizer.from_pretrained(str(source))
    except _errors() as error:
        raise ModelError(
            f"cannot read the tokenizer of {source}: {first_line(error)}. Expected tokenizer.json beside "
            "the weights."
        ) from error


def _errors() -> tuple[type[BaseException], ...]:
    from safetensors import SafetensorError

    return (*LOAD_ERRORS, SafetensorError)


def _check_folder(source: Path | str) -> None:
    if not isinstance(source, Path):
        return
    path = source / "config.json"
    if not path.is_file():
        raise ModelError(f"{source} holds no config.json. Expected a folder that save_pretrained wrote.")
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"cannot read {path}: {first_line(error)}. Expected JSON; fetch the model again."
        ) from error


def _unreadable(source: Path | str, error: BaseException) -> ModelError:
    """The message for what transformers refused, told apart by what it refused."""
    text = first_line(error)
    if "Unrecognized configuration class" in text:
        kind = re.search(r"configuration_\w+\.(\w+)", text)
        return ModelError(
            f"{source} is not a causal language model ({kind[1] if kind else text}). Expected one that "
            "AutoModelForCausalLM loads, such as Llama, Qwen, Gemma or GPT-2."
        )
    if isinstance(source, str) and isinstance(error, OSError):
        return ModelError(
            f"cannot fetch {source!r} from the hub: {text}. Check the name and the network "
            "(HF_HUB_OFFLINE?), log in with `hf auth login` if the model is gated, or give a local folder."
        )
    return ModelError(f"cannot load {source}: {text}. Expected a whole folder that save_pretrained wrote.")


def _move(model: Any, device: str) -> Any:
    if device == "auto":
        device = (
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"cannot put the model on {device!r}: {first_line(error)}. Expected 'cpu', 'cuda', 'cuda:1' "
            "or 'auto'."
        ) from error


def _check_vocabulary(model: Any, tokenizer: Any, source: Path | str) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"the tokenizer of {source} knows {len(tokenizer)} tokens and the model only {rows}. "
            "Expected a tokenizer that belongs to the model."
        )


@torch.no_grad()
def _check_causal(model: Any, name: str) -> None:
    """Refuse models whose tokens see what follows them (BERT loads as a causal model without a word)."""
    ids = torch.arange(_CAUSAL_TOKENS, device=model.device)[None]
    other = ids.clone()
    other[0, -1] = 0
    first, second = (model(input_ids=x, use_cache=False).logits[0, :-1].float() for x in (ids, other))
    if not torch.allclose(first, second, atol=1e-2, rtol=1e-2):
        raise ModelError(f"{name} is not a causal language model: its tokens see the text behind them.")
