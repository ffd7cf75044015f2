"""The meta-loss by hand: what is fitted, what is kept, and what an edit adds to a reply's preference."""

import math

import pytest
import torch

from instructedit.metrics import soften
from instructedit.training.lessons import Item, Lesson
from instructedit.training.losses import LossConfig, Outcome, lesson_loss
from instructedit.types import EditCase

PLAIN = LossConfig(keep=2.0, reply=3.0, contrast=5.0, reply_fit=0.0, soften=0.0)


def lesson(*roles: str) -> Lesson:
    items = tuple(Item(role, "reply" if role in ("good", "bad") else role, "p", "a") for role in roles)
    return Lesson(EditCase("p", "a"), "", items)


def outcome(nll: list[float], base: list[float] | None = None, divergence: float = 0.0) -> Outcome:
    values = torch.tensor(nll)
    before = torch.tensor(base) if base else torch.zeros_like(values)
    return Outcome(
        values, before, torch.ones_like(values), torch.full_like(values, divergence), torch.ones_like(values)
    )


def test_fitted_and_kept_texts_are_averaged_apart() -> None:
    loss, _ = lesson_loss([lesson("fit", "fit", "keep")], outcome([1.0, 3.0, 9.0], divergence=0.25), PLAIN)
    assert float(loss) == pytest.approx(2.0 + 2.0 * 0.25)


def test_a_reply_counts_by_what_the_edit_adds_to_it() -> None:
    pair = lesson("good", "bad")
    for base in ([1.0, 4.0], [4.0, 1.0]):  # an edit that changes nothing, however likely the replies are
        assert float(lesson_loss([pair], outcome(base, base), PLAIN)[0]) == pytest.approx(3 * math.log(2))
    gap = 5.0 * ((4.0 - 3.5) + (1.5 - 1.0))  # good 0.5 more likely, bad 0.5 less
    loss, read = lesson_loss([pair], outcome([3.5, 1.5], [4.0, 1.0]), PLAIN)
    assert float(loss) == pytest.approx(3 * math.log(1 + math.exp(-gap)), rel=1e-4)
    assert read == {"win": 0.0}  # the bad reply is still the likelier one


def test_every_pair_of_replies_is_compared() -> None:
    loss, _ = lesson_loss(
        [lesson("good", "bad", "good", "bad")], outcome([1.0, 2.0, 0.0, 3.0], [1.0, 1.0, 1.0, 1.0]), PLAIN
    )
    gaps = [5.0 * (added + taken) for added in (0.0, 1.0) for taken in (1.0, 2.0)]
    expected = 3 * sum(math.log(1 + math.exp(-gap)) for gap in gaps) / 4
    assert float(loss) == pytest.approx(expected, rel=1e-3)


def test_softening_bends_large_losses_only() -> None:
    assert float(soften(torch.tensor([1e-4]), 4.0)) == pytest.approx(1e-4, rel=1e-3)
    assert float(soften(torch.tensor([30.0]), 4.0)) == pytest.approx(4 * math.log(8.5))
    assert float(soften(torch.tensor([30.0]), 0.0)) == 30.0
