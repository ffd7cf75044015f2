"""Logistic separation: directions along which some rows stand apart from all others."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

HISTORY = 20  # of L-BFGS


def separate(
    rows: Float[Tensor, "n d"],
    meant: Bool[Tensor, "n k"],
    one: Float[Tensor, " d"],
    ridge: float,
    steps: int,
) -> Float[Tensor, "k d"]:
    """For each column the direction w that tells the rows `meant` (w·x high) from all the others (w·x low).

    Logistic regression by L-BFGS: the mean over both sides of log(1 + exp(∓w·x)), each side weighing a half,
    plus `ridge` |w|² in units of the rows' spread. What a fit adds as its constant is `one` times a number,
    where `one`·x is about 1 for every row: so the direction stands alone.
    """
    counts = meant.sum(0)
    weights = torch.where(meant, 0.5 / counts, 0.5 / (len(rows) - counts))
    share = weights.mean(1)
    centre = share @ rows / share.sum()
    spread = ((rows - centre).square() * share[:, None]).sum(0).mean().div(share.sum()).sqrt()
    level = rows @ one
    standard = torch.cat([(rows - level[:, None] * centre) / spread, level[:, None]], 1)
    sides, weights = (1.0 - 2.0 * meant).mT.contiguous(), weights.mT.contiguous()

    def loss(found: Tensor) -> Tensor:  # a row a column of `meant`: both products run over whole rows
        wrong = nn.functional.softplus(sides * (found @ standard.mT)) * weights
        return wrong.sum() + ridge * found.square().sum()

    found = minimise(loss, torch.zeros(meant.shape[1], standard.shape[1], device=rows.device), steps)
    slope, constant = found[:, :-1] / spread, found[:, -1]
    return slope + (constant - slope @ centre)[:, None] * one


def minimise(loss: Callable[[Tensor], Tensor], start: Tensor, steps: int) -> Tensor:
    """Where so many steps of L-BFGS from `start` lead that lower a loss."""
    found = start.clone().requires_grad_()
    solver = torch.optim.LBFGS([found], max_iter=steps, history_size=HISTORY, line_search_fn="strong_wolfe")

    def slope() -> Tensor:
        solver.zero_grad()
        with torch.enable_grad():
            value = loss(found)
            value.backward()
        return value

    solver.step(slope)
    return found.detach()
