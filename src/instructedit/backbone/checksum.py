"""A model's fingerprint, to tell whether an editor was made for it."""

import hashlib
from typing import Any

import torch
from torch import Tensor

from instructedit.errors import ModelError

SAMPLES = 16384  # values a tensor: a model of 135M parameters takes about 0.1 s


def weights_checksum(model: Any) -> str:
    """The SHA-256 of the architecture's type and, by sorted name, each parameter's shape and sampled values.

    About `SAMPLES` values, evenly spread over the flattened tensor and rounded to bfloat16, stand for
    it. So the same weights give the same checksum from a GGUF file, a folder or the hub, on any
    device, in float32 or bfloat16 (in float16 when they are stored so), tied head or not listed.
    What is in the config only (rotary base, norm epsilon) and buffers do not count.
    Errors: `ModelError` when a part of the model was moved out of memory.
    """
    digest = hashlib.sha256(str(model.config.get_text_config().model_type).encode())
    for name, parameter in sorted(model.named_parameters()):
        if parameter.device.type == "meta":
            raise ModelError(
                f"{name} was moved out of memory. Edits need the whole model there: "
                "choose dtype bfloat16, a larger device or a smaller model."
            )
        digest.update(f"|{name}{tuple(parameter.shape)}".encode())
        digest.update(_sample(parameter.detach()).numpy().tobytes())
    return digest.hexdigest()


def _sample(tensor: Tensor) -> Tensor:
    """Evenly spread values of a tensor: bfloat16 bits in int16, or the integers of a quantised weight."""
    flat = tensor.reshape(-1)
    values = flat[:: (flat.numel() // SAMPLES) | 1].cpu()  # odd: not in step with the columns
    return values.to(torch.bfloat16).view(torch.int16) if values.is_floating_point() else values.contiguous()
