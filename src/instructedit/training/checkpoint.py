"""The state of a run in one file, so that a killed run goes on as if nothing had happened."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from torch import nn
from torch.optim import Optimizer

from instructedit.errors import DataError
from instructedit.storage import load_tensors, save_tensors


@dataclass
class Progress:
    """How far a run is: steps done, the best validation score and its step, and validations since."""

    step: int = 0
    best: float = float("-inf")
    best_step: int = 0
    stale: int = 0
    scores: list[float] = field(default_factory=list)
    run: str = ""  # digest of configuration, data and model: another run's checkpoint is refused


def save_checkpoint(path: Path, model: nn.Module, optimizer: Optimizer, progress: Progress) -> None:
    """Write weights, buffers, both Adam moments and the progress, atomically."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    save_tensors(path, tensors, {"progress": json.dumps(asdict(progress))})


def load_checkpoint(path: Path, model: nn.Module, optimizer: Optimizer, run: str) -> Progress:
    """Put a checkpoint of the run with the digest `run` back into model and optimizer, to the bit.

    Errors: `DataError` when it is broken or another run's.
    """
    try:
        tensors, header = load_tensors(path)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"cannot read {path}: {error}. Expected a run's checkpoint; remove it to begin again."
        ) from error
    progress = Progress(**json.loads(header["progress"]))
    if progress.run != run:
        raise DataError(
            f"{path.parent} holds a run with other settings, data or model. Expected the same to continue "
            "it; choose another folder, or remove this one."
        )
    model.load_state_dict({n.removeprefix("model."): x for n, x in tensors.items() if n.startswith("model.")})
    state: dict[int, dict] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return progress
