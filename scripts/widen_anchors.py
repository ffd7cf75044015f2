"""Give an editor trained with two kinds of anchors (commit a4b3018) the four kinds of later versions.

    python scripts/widen_anchors.py OLD.safetensors NEW.safetensors

The kinds "answer" and "after" take the weights of "own"; scale and shift of the blocks lose an axis of one.
"""

import json
import sys
from pathlib import Path

import torch

from instructedit.storage import load_tensors, save_tensors

KEY = "instructedit"


def widen(name: str, value: torch.Tensor) -> torch.Tensor:
    """One weight in the later form."""
    if name.endswith(("log_anchor", "anchor_code")) and value.shape[-1] == 2:
        return torch.cat([value, value[..., 1:], value[..., 1:]], -1)
    return value[:, 0] if name.endswith((".scale", ".shift")) and value.ndim == 4 else value


def main(old: Path, new: Path) -> None:
    """Read, widen, write; the header tells of more anchors and of the request behind its instruction."""
    tensors, metadata = load_tensors(old)
    header = json.loads(metadata[KEY])
    header["editor"] |= {"wordings": 2, "behind": True}
    header["editor"]["transform"] |= {"others": 4, "own": 4}
    wider = {name: widen(name, value).contiguous() for name, value in tensors.items()}
    save_tensors(new, wider, {KEY: json.dumps(header)})


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
