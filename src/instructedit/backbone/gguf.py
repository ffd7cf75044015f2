"""Reading a GGUF file: its quantised weights become ordinary ones."""

import struct
from pathlib import Path
from typing import Any

from instructedit.backbone.quiet import quiet
from instructedit.errors import ModelError

MAGIC = b"GGUF"
LOAD_ERRORS = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    ImportError,
    struct.error,
)


def read_gguf(path: Path, dtype: Any) -> tuple[Any, Any]:
    """The model and the tokenizer of a GGUF file, de-quantised; needs several times its size in memory.

    Errors: `ModelError` when the file is missing, cut short, or of a family that transformers cannot read.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _check_magic(path)
    place = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        with quiet(swallow=True):
            tokenizer = AutoTokenizer.from_pretrained(**place)
            model = AutoModelForCausalLM.from_pretrained(**place, dtype=dtype)
    except LOAD_ERRORS as error:
        raise ModelError(
            f"cannot read {path}: {first_line(error)}. Expected a whole GGUF file of a causal language model "
            "that transformers can read; fetch the file again, or give a folder with safetensors."
        ) from error
    _forget_quantisation(model)
    return model, tokenizer


def _check_magic(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}. Expected a GGUF file.") from error
    if start != MAGIC:
        raise ModelError(f"{path} is not a GGUF file: it starts with {start!r} in place of {MAGIC!r}.")


def _forget_quantisation(model: Any) -> None:
    """Drop the marks of the packed format: the weights are ordinary now, and saving refuses otherwise."""
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
