"""What the facts of one batch are practised on together, step by step."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from instructedit.backbone import Text
from instructedit.editors.drill import DescentConfig, Practice, draw


@dataclass(frozen=True)
class Course:
    """One practice for all facts, and by step the weight of each of its texts that is asked then.

    A text's place is its place among those to answer, followed by those to leave alone.
    """

    practice: Practice
    steps: tuple[dict[int, float], ...]


@dataclass(frozen=True)
class Company:
    """What a batch of facts is practised beside: earlier edits to answer still, and ordinary texts.

    `replay` and `texts` are how many of each are asked a step, `weight` that of all ordinary texts in the
    loss; an earlier edit weighs as much as a fact.
    """

    earlier: Sequence[Text]
    ordinary: Sequence[Text]
    replay: int
    texts: int
    weight: float


def as_answer(text: Text) -> Text:
    """A passage whose second half is asked for."""
    return Text(text.ids, max(1, len(text.ids) // 2))


def plan_course(
    practices: Sequence[Practice], company: Company, config: DescentConfig, rng: random.Random
) -> Course:
    """Draw what is asked in every step; what is never asked is left out.

    A step asks of each fact the bare request, `fit` other wordings and `keep` texts to be left alone. The
    weights of a fact's wordings add up to one, and those of its other texts to `weight`.
    """
    drawn = [_draw_step(practices, company, config, rng) for _ in range(config.steps)]
    fit, keep = ({text: None for step in drawn for text in step[side]} for side in range(2))
    places = [
        {text: place for place, text in enumerate(fit)},
        {text: place for place, text in enumerate(keep, len(fit))},
    ]
    steps = tuple(
        {places[side][text]: weight for side in range(2) for text, weight in step[side].items()}
        for step in drawn
    )
    return Course(Practice(tuple(fit), tuple(keep)), steps)


def _draw_step(
    practices: Sequence[Practice], company: Company, config: DescentConfig, rng: random.Random
) -> tuple[dict[Text, float], dict[Text, float]]:
    """The weights of what is to be answered, and of what is to be left alone."""
    fit: dict[Text, float] = {}
    keep: dict[Text, float] = {}
    for practice in practices:
        _add(fit, [practice.fit[0], *draw(practice.fit[1:], config.fit, rng)], 1.0)
        _add(keep, draw(practice.keep, config.keep, rng), config.weight)
    earlier = draw(company.earlier, company.replay, rng)
    _add(fit, earlier, float(len(earlier)))
    _add(keep, draw(company.ordinary, company.texts, rng), company.weight)
    return fit, keep


def _add(weights: dict[Text, float], texts: Sequence[Text], weight: float) -> None:
    """Share a weight out among some texts."""
    for text in texts:
        weights[text] = weights.get(text, 0.0) + weight / len(texts)
