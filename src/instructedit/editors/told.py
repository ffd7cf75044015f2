"""What an editor reads of an instruction: whether a fact shall be erased, and how far an edit shall reach."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.editors.covariance import remember
from instructedit.editors.location import early_outputs
from instructedit.types import EditCase

DEPTH, DEEP = 0.47, 0.6  # shares of the blocks, at which wordings that were left out are told apart well
NARROW = -0.3  # an instruction read below this is of narrow scope; where in doubt, a wide one is meant
ERASES = 0.6  # one read above this asks for an erasure; where in doubt, none is meant
FREE = 0.8  # what a sentence may say beyond the whole: what the whole denies is not asked for
SENTENCES = re.compile(r"(?<=[.!?;:])\s+")

Read = Callable[[Tensor, Tensor], Tensor]  # as a `Reader` does


@torch.no_grad()
def scope_states(backbone: Backbone, instructions: Sequence[str]) -> Float[Tensor, "b d2"]:
    """Of each instruction the mean of its states, without the start token, and the last of them."""
    early = _states(backbone, instructions, DEPTH)
    return torch.stack([torch.cat([row.mean(0), row[-1]]) for row in early])


@torch.no_grad()
def kind_states(backbone: Backbone, instructions: Sequence[str]) -> Float[Tensor, "b d2"]:
    """Of each instruction the mean of its states at two depths, without the start token."""
    pairs = zip(*(_states(backbone, instructions, depth) for depth in (DEPTH, DEEP)), strict=True)
    return torch.stack([torch.cat([row.mean(0) for row in rows]) for rows in pairs])


@torch.no_grad()
def are_narrow(scope: Read, backbone: Backbone, instructions: Sequence[str]) -> Bool[Tensor, " b"]:
    """Which instructions want this statement alone changed."""
    return scope(scope_states(backbone, instructions), _absent(backbone, instructions)) < NARROW


@torch.no_grad()
def are_erasures(kind: Read, backbone: Backbone, instructions: Sequence[str]) -> Bool[Tensor, " b"]:
    """Which instructions ask for an erasure, by the whole or by the loudest of their sentences.

    A sentence may go `FREE` beyond the whole: "Forget the old answer. Learn this one." erases nothing.
    """
    parts = [list(dict.fromkeys([words, *SENTENCES.split(words)])) for words in instructions]
    flat = [part for group in parts for part in group]
    sides = kind(kind_states(backbone, flat), _absent(backbone, flat)).split([len(group) for group in parts])
    loudest = [torch.minimum(side.max(), side[0] + FREE) for side in sides]
    return torch.stack(loudest) > ERASES


def read_told(
    kind: Read | None,
    scope: Read | None,
    backbone: Backbone,
    cases: Sequence[EditCase],
    instructions: Sequence[str],
) -> list[EditCase]:
    """Each case as its instruction asks for it: erased where `kind` finds that, narrow where `scope` does."""
    found = list(cases)
    if kind is not None:
        gone = are_erasures(kind, backbone, instructions).tolist()
        found = [_erased(case) if asked else case for case, asked in zip(found, gone, strict=True)]
    if scope is not None:
        narrow = are_narrow(scope, backbone, instructions).tolist()
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


def _absent(backbone: Backbone, instructions: Sequence[str]) -> Bool[Tensor, " b"]:
    return torch.tensor([not words for words in instructions], device=backbone.device)


def _states(backbone: Backbone, instructions: Sequence[str], depth: float) -> list[Float[Tensor, "t d"]]:
    low = remember(backbone, ("told", depth), lambda: backbone.cut_at(early_outputs(backbone, depth, 1)))
    texts = [low.text(words or " ") for words in instructions]
    skip = len(low.start_ids)
    return [row[min(skip, len(row) - 1) :].float().to(backbone.device) for row in low.encode(texts)]
