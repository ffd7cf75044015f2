"""Directions told apart: they answer to the keys that are wanted, and hardly to those to be left alone."""

from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.apart import RIDGE, tell_apart
from instructedit.editors.drill import Practice, prepare_drill
from instructedit.editors.polish import PolishConfig, polish
from test_polish import STEPS, losses, made
from tiny_editors import tiny_case

WIDE, RANK = 12, 3


def told(
    wanted: torch.Tensor, alone: torch.Tensor, weight: float, seed: int = 0
) -> tuple[LowRankDelta, torch.Tensor]:
    """An update of one site, and its directions after they were told apart."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(1, *shape, generator=generator) for shape in ((RANK, WIDE), (5, RANK)))
    delta = LowRankDelta({"site": a}, {"site": b})
    found = tell_apart(delta, {"site": wanted}, {"site": alone}, weight)
    assert torch.equal(found.b["site"], b)
    return delta, found.a["site"][0]


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 20), m=st.integers(1, 20), weight=st.floats(0.1, 9.0), seed=st.integers(0, 2**31 - 1))
def test_no_other_move_costs_less(n: int, m: int, weight: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    wanted, alone = (torch.randn(size, WIDE, generator=generator) for size in (n, m))
    delta, found = told(wanted, alone, weight, seed)
    a = delta.a["site"][0]
    move = (found - a).requires_grad_()
    ridge = RIDGE * (wanted.square().sum() / n + weight * alone.square().sum() / m) / WIDE
    cost = (wanted @ move.mT).square().sum() / n + weight * (alone @ (a + move).mT).square().sum() / m
    (cost + ridge * move.square().sum()).backward()
    assert move.grad is not None
    assert move.grad.abs().max() < 1e-3 * (1 + float(cost.detach()))


def test_what_shares_nothing_is_told_apart_whole() -> None:
    keys = torch.eye(WIDE) * 3
    delta, found = told(keys[:4], keys[4:8], 1000.0)
    a = delta.a["site"][0]
    torch.testing.assert_close(found[:, :4], a[:, :4])
    torch.testing.assert_close(found[:, 8:], a[:, 8:])
    assert found[:, 4:8].abs().max() < 0.2 * a[:, 4:8].abs().max()


def test_what_is_the_same_is_met_half_way() -> None:
    keys = torch.eye(WIDE)[:1]
    delta, found = told(keys, keys, 1.0)
    half = found[:, 0] / delta.a["site"][0][:, 0]
    assert ((half > 0.4) & (half < 0.6)).all()


def test_a_polish_that_tells_apart_starts_nearer_to_the_unedited_model(backbone: Backbone) -> None:
    editor, case = made(backbone), tiny_case(0)
    delta = editor.edit(backbone, [case], [""])
    practice = editor.texts.practice(backbone, case, "")
    assert practice
    none: PolishConfig = replace(STEPS, steps=1, rate=1e-9, energy=1.0)
    plain, apart = (
        losses(backbone, polish(backbone, delta, practice, c), practice)
        for c in (
            none,
            replace(none, apart=9.0),
        )
    )
    assert apart[1] < plain[1]
    after = losses(backbone, polish(backbone, delta, practice, replace(STEPS, apart=1.0)), practice)
    before = losses(backbone, delta, practice)
    assert after[0] + STEPS.weight * after[1] < before[0] + STEPS.weight * before[1]


def test_where_nothing_is_to_be_left_alone_nothing_is_told_apart(llama: Backbone) -> None:
    delta = made(llama).edit(llama, [tiny_case(0)], [""])
    practice = Practice((llama.text("the answer is", "Rome"),), ())
    plain, apart = (polish(llama, delta, practice, replace(STEPS, apart=weight)) for weight in (0.0, 1.0))
    assert all(torch.equal(plain.b[name], apart.b[name]) for name in plain.b)


def test_keys_are_what_sites_read_where_it_matters(llama: Backbone) -> None:
    case = tiny_case(0)
    practice = made(llama).texts.practice(llama, case, "")
    assert practice
    name = llama.sites[0].name
    drill = prepare_drill(llama, practice, watch=[name])
    tokens = [len(text.ids) - len(llama.start_ids) - 1 for text in practice.fit]
    assert len(drill.keys_of(name, left=False)) == sum(tokens)
    assert len(drill.keys_of(name, left=True)) == sum(len(text.positions) for text in practice.keep)
    assert not prepare_drill(llama, practice).keys
