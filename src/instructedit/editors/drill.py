"""What a descent asks, and what is known of it before: texts to answer and texts to leave alone."""

import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone, Text, like_length
from instructedit.backbone.past import Past, go_on_together
from instructedit.errors import DataError
from instructedit.factors import answer_rows

TOKENS = 288  # of one pass, padding counted: small passes are as fast on a CPU and need little memory
Item = TypeVar("Item")
Step = tuple[list[int], list[int]]  # places of texts to answer, the first among them, and to leave alone


@dataclass(frozen=True)
class DescentConfig:
    """How what an update writes is moved by descent; `steps` of zero leaves it as it was."""

    steps: int = 0
    fit: int = 4  # other wordings that a step asks beside the bare prompt
    keep: int = 8  # texts a step that are to stay as they are
    weight: float = 1.5  # of those in the loss
    margin: float = 0.3  # nats a token below which an answer is good enough
    whole: bool = False  # an answer lacks what its tokens lack together, not what they lack on average
    decay: float = 0.0  # weight of the squared size of what is written, in units that rates are told in
    rate: float = 0.12  # Adam's, in units of what is written

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise DataError(f"an edit cannot be polished in {self.steps} steps. Expected 0 (none) or more.")


@dataclass(frozen=True)
class Practice:
    """What an edit is polished on: texts to answer, the bare request first, and texts to leave alone."""

    fit: tuple[Text, ...]
    keep: tuple[Text, ...]


@dataclass(frozen=True)
class Drill:
    """The texts of a practice, those to answer first, and by place what is known of those that are asked.

    That is the states that enter the edited blocks, what the model predicted before for the answers of texts
    to be left alone, and of texts whose beginning is not run again, what that leaves behind: text and states
    are then of what follows. `steps` are those of a descent.
    """

    texts: Sequence[Text]
    fits: int
    states: Mapping[int, Float[Tensor, "_ d"]]
    before: Mapping[int, Float[Tensor, "_ v"]] = field(default_factory=dict)
    pasts: Mapping[int, Past] = field(default_factory=dict)
    steps: Sequence[Step] = ()

    def answers(self, backbone: Backbone, part: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Logits ``[n v]`` where the answers of a `part` are predicted, whose they are, and their tokens."""
        states = [self.states[place] for place in part]
        if self.pasts:
            top = go_on_together(backbone, states, [self.pasts[place] for place in part])
        else:
            top = backbone.top(backbone.pad_states(states))
        rows, positions, targets = answer_rows([self.texts[place] for place in part], top.device)
        return backbone.logits(top[rows, positions]), rows, targets

    def parts(self, places: Iterable[int]) -> Iterator[list[int]]:
        """Texts to be run at one time; where their beginnings are known, more than one stands in a row."""
        most = 2 * TOKENS if self.pasts else TOKENS  # two of these are one that is not padded
        return like_length(places, self.texts, most, padded=not self.pasts)


def prepare_descent(backbone: Backbone, practice: Practice, config: DescentConfig) -> Drill:
    """The steps of a descent, and what it needs of the texts in them."""
    steps = draw_steps(len(practice.fit), len(practice.keep), config)
    asked = {place for fit, keep in steps for place in (*fit, *keep)}
    return replace(prepare_drill(backbone, practice, asked), steps=steps)


@torch.no_grad()
def prepare_drill(backbone: Backbone, practice: Practice, places: Collection[int] | None = None) -> Drill:
    """What is needed to ask the texts of a practice at some `places`, or at all of them."""
    drill = encode_drill(backbone, practice, places)
    before: dict[int, Tensor] = {}
    for part in drill.parts(place for place in drill.states if place >= drill.fits):
        logits, owner, _ = drill.answers(backbone, part)
        before.update({place: logits[owner == row] for row, place in enumerate(part)})
    return replace(drill, before=before)


def encode_drill(backbone: Backbone, practice: Practice, places: Collection[int] | None = None) -> Drill:
    """As `prepare_drill` without what the model predicts now."""
    texts = (*practice.fit, *practice.keep)
    asked = sorted(range(len(texts)) if places is None else places)
    states = backbone.encode([texts[place] for place in asked])
    return Drill(texts, len(practice.fit), dict(zip(asked, states, strict=True)))


def draw_steps(fits: int, keeps: int, config: DescentConfig) -> list[Step]:
    """The steps of a descent on so many texts to answer and to leave alone, the same each time."""
    rng, others = random.Random(0), range(fits, fits + keeps)
    return [
        ([0, *draw(range(1, fits), config.fit, rng)], draw(others, config.keep, rng))
        for _ in range(config.steps)
    ]


def draw(items: Sequence[Item], count: int, rng: random.Random) -> list[Item]:
    """So many of some items, or all of them where there are fewer, in chance order."""
    return rng.sample(items, min(count, len(items)))
