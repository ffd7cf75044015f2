"""The state of a run in one file, so that a killed run goes on as if nothing had happened."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from torch import nn
from torch.optim import Optimizer

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


def load_checkpoint(path: Path, model: nn.Module, optimizer: Optimizer) -> Progress:
    """Put a checkpoint back into model and optimizer, to the bit."""
    tensors, header = load_tensors(path)
    model.load_state_dict({n.removeprefix("model."): x for n, x in tensors.items() if n.startswith("model.")})
    state: dict[int, dict] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return Progress(**json.loads(header["progress"]))
