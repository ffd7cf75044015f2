"""Mending: what many edits have done to ordinary text is taken back, as far as their facts allow it."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone, Text
from instructedit.delta import LowRankDelta
from instructedit.editors.course import Company, Course, as_answer, plan_course
from instructedit.editors.descent import dense_delta
from instructedit.editors.drill import DescentConfig, Drill, prepare_drill
from instructedit.editors.ordinary import ordinary_texts
from instructedit.editors.polish import add_gradients, in_force, rate_at
from instructedit.errors import DataError

MOMENTUM = 0.9
TINY = 1e-30  # a gradient of nothing has no direction
Matrices = dict[str, Tensor]


@dataclass(frozen=True)
class MendConfig(DescentConfig):
    """How edits that share a model are mended; `steps` of zero leaves them as they were written.

    A step asks `fit` edits and `keep` ordinary texts; the unit of its rate is the update's own size.
    """

    fit: int = 8
    keep: int = 16
    weight: float = 50.0
    margin: float = 0.1
    rate: float = 0.002
    every: int = 50  # edits

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.every < 1:
            raise DataError(
                f"edits cannot be mended every {self.every} of them. Expected mend.every from 1 on."
            )

    def steps_between(self, before: int, after: int) -> int:
        """The steps that are due once the edits are so many more."""
        return self.steps * (after // self.every - before // self.every)


def plan_mending(
    backbone: Backbone, facts: Sequence[Text], text: str, config: MendConfig, rng: random.Random
) -> Course:
    """What is asked in `config.steps` steps: of `facts`, texts that edits answer, and of ordinary text."""
    plain = [as_answer(passage) for passage in ordinary_texts(backbone, text)]
    company = Company(facts, plain, config.fit, config.keep, config.weight * config.fit)
    return plan_course([], company, config, rng)


def mend(
    backbone: Backbone,
    updates: Mapping[str, Float[Tensor, "d_out d_in"]],
    systems: Mapping[str, Float[Tensor, "d_in d_in"]],
    course: Course,
    config: DescentConfig,
    under: LowRankDelta | None = None,
) -> Matrices:
    """The updates after one step of steepest descent for each step of `course`, in the metric of the edits.

    A site's length is |D|^2 = tr(D P D.T), with P of `systems`: what moves an edit's key is long, so a step
    goes where few edits look. A step goes along -G P^-1, G the gradient with momentum, and is
    `config.rate` times as long as the update. Loss: as `text_losses` of the texts that `course` asks, by
    weight. Other edits may be in force `under` them.
    Source: the natural gradient (Amari 1998), with P of MEMIT (arXiv 2210.07229), eq. 14, for its metric.
    """
    drill, steps = prepare_drill(backbone, course.practice), len(course.steps)
    factors = {name: torch.linalg.cholesky(systems[name]) for name in updates}
    lengths = {name: config.rate * _length(update, systems[name]) for name, update in updates.items()}
    found, heading = dict(updates), {name: 0 * update.double() for name, update in updates.items()}
    for step, weights in enumerate(course.steps):
        with in_force(backbone, under):
            slopes = _slopes(backbone, found, drill, weights, config)
        for name, slope in slopes.items():
            heading[name] = MOMENTUM * heading[name] + slope.double()
            along = torch.cholesky_solve(heading[name].mT, factors[name]).mT
            size = (along * heading[name]).sum().clamp(min=TINY).sqrt()
            stride = lengths[name] * rate_at(step, steps) / size
            found[name] = found[name] - (stride * along).to(found[name].dtype)
    return found


def _slopes(
    backbone: Backbone,
    updates: Matrices,
    drill: Drill,
    weights: Mapping[int, float],
    config: DescentConfig,
) -> Matrices:
    """The gradient of one step's loss by each update."""
    leaves = {name: update.detach()[None].requires_grad_() for name, update in updates.items()}
    add_gradients(backbone, lambda: dense_delta(leaves), drill, weights, config)
    return {name: leaf.grad[0] for name, leaf in leaves.items() if leaf.grad is not None}


def _length(update: Float[Tensor, "d_out d_in"], system: Float[Tensor, "d_in d_in"]) -> float:
    """The size of an update in the metric of a system."""
    wide = update.double()
    return float(((wide @ system) * wide).sum().sqrt())
