"""What an editor sees of an instruction when it reads how far an edit shall reach."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.editors.location import early_outputs
from instructedit.types import EditCase, Scope

DEPTH = 0.47  # share of the blocks: wordings that were left out were told apart best there
NARROW = -0.6  # an instruction read below this is of narrow scope; where in doubt, a wide one is meant


@torch.no_grad()
def scope_states(backbone: Backbone, instructions: Sequence[str]) -> Float[Tensor, "b d2"]:
    """Of each instruction the mean of its states, without the start token, and the last of them."""
    low = backbone.reaching(early_outputs(backbone, DEPTH, 1))
    states = [row.float() for row in low.encode([low.text(words or " ") for words in instructions])]
    skip = len(low.start_ids)
    rows = [row[min(skip, len(row) - 1) :] for row in states]
    return torch.stack([torch.cat([row.mean(0), row[-1]]) for row in rows])


def read_scopes(
    reader: Callable[[Tensor, Tensor], Tensor],
    backbone: Backbone,
    cases: Sequence[EditCase],
    instructions: Sequence[str],
) -> list[EditCase]:
    """Each case with the scope that `reader`, a `Reader`, finds in its instruction: wide, unless narrow."""
    absent = torch.tensor([not words for words in instructions], device=backbone.device)
    sides = reader(scope_states(backbone, instructions), absent).tolist()
    found: list[Scope] = ["narrow" if side < NARROW else "wide" for side in sides]
    return [replace(case, scope=scope) for case, scope in zip(cases, found, strict=True)]
