"""What an editor reads of an instruction: whether a fact shall be erased, and how far an edit shall reach."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.editors.location import early_outputs
from instructedit.types import EditCase

DEPTH, DEEP = 0.47, 0.75  # shares of the blocks: wordings that were left out were told apart best there
NARROW = -0.6  # an instruction read below this is of narrow scope; where in doubt, a wide one is meant
ERASES = 0.6  # one read above this asks for an erasure; where in doubt, none is meant

Read = Callable[[Tensor, Tensor], Tensor]  # as a `Reader` does


@torch.no_grad()
def scope_states(backbone: Backbone, instructions: Sequence[str]) -> Float[Tensor, "b d2"]:
    """Of each instruction the mean of its states, without the start token, and the last of them."""
    return torch.stack([torch.cat([row.mean(0), row[-1]]) for row in _states(backbone, instructions, DEPTH)])


@torch.no_grad()
def kind_states(backbone: Backbone, instructions: Sequence[str]) -> Float[Tensor, "b d2"]:
    """Of each instruction the mean of its states at two depths, without the start token."""
    depths = [_states(backbone, instructions, depth) for depth in (DEPTH, DEEP)]
    return torch.stack([torch.cat([row.mean(0) for row in rows]) for rows in zip(*depths, strict=True)])


def read_scopes(
    reader: Read, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str]
) -> list[EditCase]:
    """Each case, with a narrow scope where `reader` finds that its instruction asks for one."""
    sides = reader(scope_states(backbone, instructions), _absent(backbone, instructions)).tolist()
    return [
        replace(case, scope="narrow") if side < NARROW else case
        for case, side in zip(cases, sides, strict=True)
    ]


def read_kinds(
    reader: Read, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str]
) -> list[EditCase]:
    """Each case, as an erasure of its answer where `reader` finds that its instruction asks for that."""
    sides = reader(kind_states(backbone, instructions), _absent(backbone, instructions)).tolist()
    return [_erased(case) if side > ERASES else case for case, side in zip(cases, sides, strict=True)]


def _erased(case: EditCase) -> EditCase:
    """The case as an erasure; its paraphrases want then what it wants. An opinion has nothing to erase."""
    if case.kind == "sentiment":
        return case
    probes = tuple(
        replace(probe, answers=()) if probe.group == "rephrase" else probe for probe in case.probes
    )
    return replace(case, kind="erase", probes=probes)


def _absent(backbone: Backbone, instructions: Sequence[str]) -> Tensor:
    return torch.tensor([not words for words in instructions], device=backbone.device)


def _states(backbone: Backbone, instructions: Sequence[str], depth: float) -> list[Float[Tensor, "t d"]]:
    low = backbone.reaching(early_outputs(backbone, depth, 1))
    states = [row.float() for row in low.encode([low.text(words or " ") for words in instructions])]
    skip = len(low.start_ids)
    return [row[min(skip, len(row) - 1) :] for row in states]
