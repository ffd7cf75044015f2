"""What an update reads, told apart from what it is to leave alone: a ridge solution in closed form."""

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.delta import LowRankDelta

RIDGE = 0.5  # of the mean square of the keys: less follows what a few keys have for themselves


def tell_apart(
    delta: LowRankDelta,
    wanted: dict[str, Float[Tensor, "n _"]],
    alone: dict[str, Float[Tensor, "m _"]],
    weight: float,
) -> LowRankDelta:
    """One edit (b = 1) whose input directions answer as before to the keys `wanted`, and hardly to others.

    The move D of a site's directions A minimises |W Dᵀ|²/n + `weight` |K (A + D)ᵀ|²/m + r |D|², where W are
    the keys wanted, K those to be left alone, and r is `RIDGE` of the mean square of their parts. It lies in
    the span of the keys and is solved for there: n + m unknowns, however wide the site.
    """
    pairs = {name: _tell_apart(a[0], wanted[name], alone[name], weight) for name, a in delta.a.items()}
    return LowRankDelta({name: a[None] for name, a in pairs.items()}, delta.b, delta.header)


def _tell_apart(
    a: Float[Tensor, "r d"], wanted: Float[Tensor, "n d"], alone: Float[Tensor, "m d"], weight: float
) -> Float[Tensor, "r d"]:
    rows = torch.cat([wanted / len(wanted) ** 0.5, alone * (weight / len(alone)) ** 0.5])
    gram = rows @ rows.mT
    ridge = RIDGE * gram.trace() / rows.shape[1]
    goal = rows @ a.mT
    goal[: len(wanted)] = 0
    move = torch.linalg.solve(
        (gram + ridge * torch.eye(len(gram), device=gram.device)).double(), goal.double()
    )
    return a - move.to(a.dtype).mT @ rows
