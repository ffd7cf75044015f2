"""Edits that come batch after batch into one model, whatever the editor: their sum, and how it is kept."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.many import EditSequence
from instructedit.editors.summed import SummedEdits
from instructedit.errors import DataError
from instructedit.evaluation.curve_folder import digest_cases
from instructedit.storage import load_tensors, save_tensors
from instructedit.types import EditCase

FORMAT = "instructedit-curve-1"
KEPT = {"update:": "updates", "memory:": "memory"}  # what stands before a tensor's name in the file
WRITTEN = "written:"  # before the name of a site whose matrix is a writer's
ENERGY = 0.9999  # share of the squared norm that a rank has to hold, as in `LowRankDelta.compress`


class SolvedEdits(EditSequence):
    """The edits of a trained editor that solves; its memory is the matrix P of each site."""

    @property
    def memory(self) -> dict[str, Tensor]:
        """What is known of earlier edits beside their updates; what is written has matrices of its own."""
        written = self.writer.memory if self.writer else {}
        return {**self.systems, **{f"{WRITTEN}{name}": system for name, system in written.items()}}

    @memory.setter
    def memory(self, tensors: dict[str, Tensor]) -> None:
        self.systems = {name: x for name, x in tensors.items() if not name.startswith(WRITTEN)}
        if self.writer:
            found = {name.removeprefix(WRITTEN): x for name, x in tensors.items() if name.startswith(WRITTEN)}
            self.writer.memory = found


Edits = SolvedEdits | SummedEdits


def start_edits(editor: Any, backbone: Backbone, case: EditCase, instruction: str) -> Edits:
    """No edit yet, of an editor as it is made for a sequence; `backbone` has to be unedited.

    What a method has to know of the unedited model is read here. An editor that has no form for sequences
    makes one edit that is thrown away, which reads it as well, and the first batch is not timed cold.
    Errors: `DataError` for a method whose edits cannot be added.
    """
    begin, network = getattr(editor, "in_sequence", None), getattr(editor, "hypernetwork", None)
    if begin is not None and getattr(editor, "result", "delta") == "delta":
        return SummedEdits(begin(backbone), backbone)
    if network is not None and network.solves:
        return _warmed(SolvedEdits(editor, backbone), case, instruction)
    change = editor.edit(backbone, [case], [instruction])
    if not isinstance(change, LowRankDelta):
        raise DataError(
            f"the edits of {editor.name} cannot be put together: they are no deltas. Expected a trained "
            "editor, or a method whose edits are deltas (see `instructedit ls methods`)."
        )
    return SummedEdits(editor, backbone)


def _warmed(edits: SolvedEdits, case: EditCase, instruction: str) -> SolvedEdits:
    """The same without an edit, once what it has to know of the unedited model has been read."""
    if edits.writer and edits.editor.is_fact(case):
        edits.writer.read_ordinary()
    else:
        edits.editor.edit(edits.own, [case], [instruction])
    return edits


def save_edits(edits: Edits, path: Path, facts: Mapping[str, Any]) -> None:
    """Write the state of a sequence with some facts, atomically, as one safetensors file.

    `facts` holds the seconds of editing and the digest of the cases, as `load_edits` wants them.
    Errors: `OutputError`, see `write_atomic`.
    """
    header = {"format": FORMAT, "edits": edits.count, **facts}
    save_tensors(path, _tensors(edits), {name: str(value) for name, value in header.items()})


def load_edits(
    edits: Edits, path: Path, cases: Sequence[EditCase], instructions: Sequence[str]
) -> float | None:
    """Go on where a sequence of the first of these cases was kept: its seconds; None where there is none.

    There is none either where more cases than these were edited. `edits` is then as it was when
    `save_edits` wrote it. Errors: `DataError` when the file is broken, or of other cases.
    """
    if not path.is_file():
        return None
    try:
        tensors, header = load_tensors(path)
        if header.get("format") != FORMAT:
            raise KeyError("format")
        count, seconds = int(header["edits"]), float(header["seconds"])
        if count > len(cases):
            return None
        if header["records"] != digest_cases(cases[:count]):
            raise ValueError("other edits than the records give now")
        for kind, kept in KEPT.items():
            found = {n: x.to(edits.backbone.device) for n, x in tensors.items() if n.startswith(kind)}
            setattr(edits, kept, {name.removeprefix(kind): x for name, x in found.items()})
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise DataError(
            f"cannot go on from {path}: {error!r}. Expected what this command wrote. Remove the file, and "
            "the edits are made again from the first."
        ) from error
    edits.keep(cases[:count], instructions[:count])
    return seconds


def _tensors(edits: Edits) -> dict[str, Tensor]:
    return {f"{kind}{name}": x for kind, kept in KEPT.items() for name, x in getattr(edits, kept).items()}


def is_finite(edits: Edits) -> bool:
    """Whether every number of the sum is a number."""
    return all(bool(torch.isfinite(update).all()) for update in edits.updates.values())


def describe_edits(edits: Edits) -> dict[str, int]:
    """The largest rank of a site's sum (what holds 99.99 % of its squared norm), and the state's bytes."""
    return {
        "rank": max((energy_rank(update) for update in edits.updates.values()), default=0),
        "bytes": sum(x.numel() * x.element_size() for x in _tensors(edits).values()),
    }


def energy_rank(update: Float[Tensor, "d_out d_in"], energy: float = ENERGY) -> int:
    """How many singular values hold a share of a matrix's squared norm; none for zeros."""
    wide = (update if update.shape[0] <= update.shape[1] else update.mT).double()
    squares = torch.linalg.eigvalsh(wide @ wide.mT).clamp(min=0).flip(0)
    total = squares.sum()
    return int((squares.cumsum(0) < energy * total).sum()) + 1 if total > 0 else 0
