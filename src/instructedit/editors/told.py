"""What an editor reads of an instruction: whether a fact shall be erased, and how far an edit shall reach."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.editors.covariance import remember
from instructedit.editors.location import early_outputs
from instructedit.types import EditCase

DEPTH, DEEP = 0.47, 0.6  # shares of the blocks, at which wordings that were left out are told apart well
NARROW = -0.6  # an instruction read below this is of narrow scope; where in doubt, a wide one is meant
ERASES = 0.6  # one read above this asks for an erasure; where in doubt, none is meant

Read = Callable[[Tensor, Tensor], Tensor]  # as a `Reader` does
States = Sequence[Float[Tensor, "_ d"]]  # of instructions, one after the other


@torch.no_grad()
def scope_states(backbone: Backbone, instructions: Sequence[str]) -> Float[Tensor, "b d2"]:
    """Of each instruction the mean of its states, without the start token, and the last of them."""
    return _scope(_states(backbone, instructions, DEPTH))


@torch.no_grad()
def kind_states(backbone: Backbone, instructions: Sequence[str]) -> Float[Tensor, "b d2"]:
    """Of each instruction the mean of its states at two depths, without the start token."""
    return _kind(*(_states(backbone, instructions, depth) for depth in (DEPTH, DEEP)))


@torch.no_grad()
def read_told(
    kind: Read | None,
    scope: Read | None,
    backbone: Backbone,
    cases: Sequence[EditCase],
    instructions: Sequence[str],
) -> list[EditCase]:
    """Each case as its instruction asks for it: erased where `kind` finds that, narrow where `scope` does."""
    found = list(cases)
    if kind is None and scope is None:
        return found
    absent = torch.tensor([not words for words in instructions], device=backbone.device)
    early = _states(backbone, instructions, DEPTH)
    if kind is not None:
        sides = kind(_kind(early, _states(backbone, instructions, DEEP)), absent).tolist()
        found = [_erased(case) if side > ERASES else case for case, side in zip(found, sides, strict=True)]
    if scope is not None:
        narrow = (scope(_scope(early), absent) < NARROW).tolist()
        found = [replace(c, scope="narrow") if small else c for c, small in zip(found, narrow, strict=True)]
    return found


def _erased(case: EditCase) -> EditCase:
    """The case as an erasure; its paraphrases want then what it wants. An opinion has nothing to erase."""
    if case.kind == "sentiment":
        return case
    probes = tuple(
        replace(probe, answers=()) if probe.group == "rephrase" else probe for probe in case.probes
    )
    return replace(case, kind="erase", probes=probes)


def _scope(early: States) -> Float[Tensor, "b d2"]:
    return torch.stack([torch.cat([row.mean(0), row[-1]]) for row in early])


def _kind(early: States, deep: States) -> Float[Tensor, "b d2"]:
    pairs = zip(early, deep, strict=True)
    return torch.stack([torch.cat([row.mean(0) for row in rows]) for rows in pairs])


def _states(backbone: Backbone, instructions: Sequence[str], depth: float) -> list[Float[Tensor, "t d"]]:
    low = remember(backbone, ("told", depth), lambda: backbone.cut_at(early_outputs(backbone, depth, 1)))
    texts = [low.text(words or " ") for words in instructions]
    skip = len(low.start_ids)
    return [row[min(skip, len(row) - 1) :].float().to(backbone.device) for row in low.encode(texts)]
