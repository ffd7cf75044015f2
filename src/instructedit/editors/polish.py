"""Polish: a few steps of descent on an edit that has been made, against what it is there for."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.drill import DescentConfig, Drill, Practice, prepare_descent
from instructedit.metrics import answer_log_probs, kl_divergence, mean_per_text, soften

BEND = 4.0  # as `soften`: one hopeless text does not drown the others


@dataclass(frozen=True)
class PolishConfig(DescentConfig):
    """How an edit is polished; the unit of its rate is the update's own root mean square."""

    breadth: int = 1  # how many times as many texts to leave alone are at hand as there are at least
    names: int = 0  # other names of the subject that the request is asked under as well
    scoped: bool = False  # the instruction is read: it may erase, or be narrow and leave more alone
    subject: bool = False  # write at the subject, in the place of what the pass does at those sites
    energy: float = 0.999  # share of the update's squared norm whose directions are kept


def polish(
    backbone: Backbone,
    delta: LowRankDelta,
    practice: Practice,
    config: PolishConfig,
    beside: LowRankDelta | None = None,
    rates: Mapping[str, float] | None = None,
) -> LowRankDelta:
    """One edit (b = 1) after `descend` on its practice, in the directions that it acts on already.

    These are made orthonormal, so that a step is as long along each. At the sites of `beside` that update
    takes the edit's place, with `rates` as its steps.
    """
    other = LowRankDelta({}, {}) if beside is None else beside
    own = delta.without(other.a).compress(energy=config.energy)[0]
    drill = prepare_descent(backbone, practice, config)
    start = _orthonormal(own)
    steps = {name: config.rate * float(b.square().mean().sqrt()) for name, b in start.b.items()}
    return descend(backbone, start + other, {**steps, **(rates or {})}, drill, config)


def descend(
    backbone: Backbone,
    start: LowRankDelta,
    rates: Mapping[str, float],
    drill: Drill,
    config: DescentConfig,
    under: LowRankDelta | None = None,
) -> LowRankDelta:
    """One update (b = 1) after `config.steps` steps of Adam on what it writes; what it reads stays.

    `rates` are the steps of each site's `b`; `prepare_descent` has drawn what each step asks: the bare
    request, `fit` other wordings and `keep` texts to be left alone. Loss: the mean over wordings
    of the answer's negative log-likelihood beyond `margin`, nats a token or, with `config.whole`, an answer;
    and `weight` times the mean KL(unedited ‖ edited) over the others, nats a token. The edits `under` it are
    in force all the while.
    """
    values = {name: b.clone().requires_grad_() for name, b in start.b.items()}
    optimiser = torch.optim.Adam(
        [{"params": [v], "lr": rates[n]} for n, v in values.items()], betas=(0.8, 0.95)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_at(step, config.steps))
    with in_force(backbone, under):
        for fit, keep in drill.steps:
            weights = {place: 1 / len(fit) for place in fit} | {i: config.weight / len(keep) for i in keep}
            add_gradients(backbone, lambda: LowRankDelta(start.a, values), drill, weights, config)
            for name, value in values.items():
                unit = rates[name] / config.rate
                value.grad += 2 * config.decay * value.detach() / (unit**2 * value.numel())  # type: ignore[operator]
                value.grad /= value.grad.norm() + 1e-9  # type: ignore[operator]
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
    return LowRankDelta(start.a, {name: value.detach() for name, value in values.items()}, start.header)


def in_force(backbone: Backbone, under: LowRankDelta | None) -> AbstractContextManager[None]:
    """The backbone as edited by `under`, if by anything."""
    return nullcontext() if under is None else under.applied_to(backbone.model)


def _orthonormal(delta: LowRankDelta) -> LowRankDelta:
    """The same update with orthonormal input directions."""
    pairs = {name: torch.linalg.qr(a.mT) for name, a in delta.a.items()}
    return LowRankDelta(
        {name: basis.mT.contiguous() for name, (basis, _) in pairs.items()},
        {name: delta.b[name] @ rest.mT for name, (_, rest) in pairs.items()},
        delta.header,
    )


def add_gradients(
    backbone: Backbone,
    change: Callable[[], LowRankDelta],
    drill: Drill,
    weights: Mapping[int, float],
    config: DescentConfig,
) -> None:
    """Add the gradient of one step's loss to the leaves that `change` makes its update of.

    The loss is the sum of `text_losses` of the texts by their `weights`, a few texts at a time: the update is
    made anew for each.
    """
    for part in drill.parts(weights):
        with torch.enable_grad():
            loss = text_losses(backbone, change(), drill, part, config)
            (loss * torch.tensor([weights[place] for place in part], device=loss.device)).sum().backward()


def text_losses(
    backbone: Backbone, delta: LowRankDelta, drill: Drill, part: Sequence[int], config: DescentConfig
) -> Float[Tensor, " b"]:
    """One number a text: how much its answer still lacks, or how far it has been moved."""
    with delta.applied_to(backbone.model):
        logits, owner, targets = drill.answers(backbone, part)
    lacking = (-answer_log_probs(logits, targets) - config.margin).clamp(min=0)
    left = torch.tensor([place >= drill.fits for place in part], device=owner.device)  # alone
    kept = left[owner]
    if kept.any():
        before = torch.cat([drill.before[place] for place in part if place >= drill.fits])
        moved = kl_divergence(before, logits[kept])
        lacking = torch.where(kept, torch.zeros_like(lacking).masked_scatter(kept, moved), lacking)
    losses = mean_per_text(lacking, owner, len(part))
    if config.whole:
        losses = torch.where(left, losses, losses * torch.bincount(owner, minlength=len(part)))
    return soften(losses, BEND)


def rate_at(step: int, steps: int) -> float:
    """Three steps of warming up, and a straight fall to a fifth."""
    return min(1.0, (step + 1) / 3) * (1 - 0.8 * step / steps)
