"""The scales that factors are measured in: merged as in one pass, and damping is an inverse."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instructedit.statistics import EPSILON, SiteStatistics, scale_by_edit

D_IN, D_OUT = 5, 3


def rows(seed: int, count: int, width: int) -> torch.Tensor:
    return (
        torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3 + 2
    )


def statistics(directions: int = 2) -> SiteStatistics:
    return SiteStatistics(D_IN, D_OUT, directions).double()


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 7), min_size=1, max_size=5), seed=st.integers(0, 999))
def test_parts_give_what_one_pass_gives(cuts: list[int], seed: int) -> None:
    total = sum(cuts)
    inputs, gradients, outputs = (
        rows(seed, total, D_IN),
        rows(seed + 1, total, D_OUT),
        rows(seed + 2, total, D_OUT),
    )
    stats = statistics()
    for part in zip(*(x.split(cuts) for x in (inputs, gradients, outputs)), strict=True):
        stats.update(*part)
    close = torch.testing.assert_close
    close(stats.mean, inputs.mean(0))
    close(stats.spread, inputs.std(0, correction=0) + EPSILON)
    close(stats.gradient_spread, gradients.square().mean(0).sqrt() + EPSILON)
    close(stats.output_size, outputs.square().mean().sqrt() + EPSILON)
    assert int(stats.count) == total


def test_one_row_and_no_row_give_numbers() -> None:
    stats = statistics()
    for _ in range(2):
        scaled = stats.normalise(rows(0, 1, D_IN)[None], rows(1, 1, D_OUT)[None], torch.ones(1, 1).bool())
        assert all(torch.isfinite(x).all() for x in (*scaled, stats.spread, stats.output_size))
        stats.update(rows(0, 1, D_IN), rows(1, 1, D_OUT), rows(2, 1, D_OUT))
    stats.set_directions(torch.eye(D_IN, dtype=torch.float64))
    assert torch.isfinite(stats.damp(rows(0, 1, D_IN)[None], torch.zeros((), dtype=torch.float64))).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), log_damping=st.floats(-3, 3), directions=st.integers(0, D_IN + 2))
def test_damping_is_the_inverse_on_its_directions(seed: int, log_damping: float, directions: int) -> None:
    stats = statistics(directions)
    inputs = rows(seed, 20, D_IN)
    stats.update(inputs, rows(1, 20, D_OUT), rows(2, 20, D_OUT))
    second = inputs.T @ inputs / 20
    stats.set_directions(second)
    scaled = second / stats.spread.outer(stats.spread)
    values, vectors = torch.linalg.eigh(scaled)
    values[: max(D_IN - directions, 0)] = 0  # only the leading directions are kept
    sigma = (vectors * values) @ vectors.T
    matrix = (
        torch.eye(D_IN, dtype=torch.float64) + torch.tensor(log_damping, dtype=torch.float64).exp() * sigma
    )
    keys = rows(seed + 1, 8, D_IN).reshape(2, 4, D_IN)
    damped = stats.damp(keys, torch.tensor(log_damping, dtype=torch.float64))
    torch.testing.assert_close(damped @ matrix, keys, rtol=1e-8, atol=1e-8)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), size=st.floats(1e-6, 1e6), count=st.integers(1, 4))
def test_an_edit_is_measured_by_its_own_gradients(seed: int, size: float, count: int) -> None:
    mask = torch.arange(4)[None] < count
    gradients = rows(seed, 4, D_OUT)[None] * mask[..., None]
    scaled = scale_by_edit(gradients * size, mask)
    torch.testing.assert_close(scaled, scale_by_edit(gradients, mask))
    assert float(scaled[mask].square().mean()) == pytest.approx(1.0)


def test_rows_outside_the_mask_stay_zero() -> None:
    stats = statistics()
    stats.update(rows(0, 9, D_IN), rows(1, 9, D_OUT), rows(2, 9, D_OUT))
    mask = torch.tensor([[True, False]])
    keep = mask[..., None]
    keys, values = stats.normalise(rows(3, 2, D_IN)[None] * keep, rows(4, 2, D_OUT)[None] * keep, mask)
    assert not keys[0, 1].any()
    assert not values[0, 1].any()
    assert not torch.isnan(scale_by_edit(torch.zeros(1, 2, 3), torch.zeros(1, 2).bool())).any()
