"""The hypernetwork: a ridge solution, a descent step at the start, and all of it learns."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instructedit.backbone import Backbone, Site
from instructedit.delta import LowRankDelta
from instructedit.factors import answer_nll, capture
from instructedit.hypernetwork import Hypernetwork, ShapeTransform, TransformConfig
from instructedit.site_rows import SiteRows
from tiny_editors import TRANSFORM, tiny_cases, tiny_editor

D_IN, D_OUT = 6, 4
SITE = Site("only", D_IN, D_OUT, 0)


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def transform(seed: int, log_ridge: float, log_damping: float, aggregation: str = "ridge") -> ShapeTransform:
    """One site with statistics, in float64."""
    shape = ShapeTransform(
        [SITE], TransformConfig(rank=2, code=2, directions=3, aggregation=aggregation)
    ).double()
    stats = shape.statistics[0]
    inputs = random(seed, 30, D_IN)
    stats.update(inputs, random(seed + 1, 30, D_OUT), random(seed + 2, 30, D_OUT))
    stats.set_directions(inputs.T @ inputs / 30)
    shape.log_ridge.data.fill_(log_ridge)
    shape.log_damping.data.fill_(log_damping)
    return shape


def dense(pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return pair[1] @ pair[0]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 999), rows=st.integers(1, 9), log_ridge=st.floats(-4, 4), log_damping=st.floats(-3, 3)
)
def test_the_dual_is_the_primal_solution(seed: int, rows: int, log_ridge: float, log_damping: float) -> None:
    shape = transform(seed, log_ridge, log_damping)
    stats = shape.statistics[0]
    keys, values = random(seed + 3, 2, rows, D_IN), random(seed + 4, 2, rows, D_OUT)
    found = dense(shape.aggregate(0, SiteRows(keys, values)))
    sigma = (stats.directions * stats.moments) @ stats.directions.T
    c = torch.eye(D_IN, dtype=torch.float64) + math.exp(log_damping) * sigma
    k = keys / math.sqrt(D_IN)
    solution = torch.linalg.solve(k.mT @ k + math.exp(log_ridge) * c, k.mT @ values)  # d_in d_out
    expected = solution.mT * stats.output_size / (stats.spread * math.sqrt(D_IN))
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


@given(seed=st.integers(0, 99))
@settings(max_examples=10, deadline=None)
def test_the_sum_is_the_limit_of_a_strong_ridge(seed: int) -> None:
    keys, values = random(seed + 3, 2, 5, D_IN), random(seed + 4, 2, 5, D_OUT)
    strong = dense(transform(seed, 20.0, 0.0).aggregate(0, SiteRows(keys, values))) * math.exp(20.0)
    plain = dense(transform(seed, 20.0, 0.0, "sum").aggregate(0, SiteRows(keys, values)))
    torch.testing.assert_close(strong, plain, rtol=1e-6, atol=1e-8)


def test_a_key_is_mapped_to_its_value_without_ridge() -> None:
    shape = transform(0, -25.0, -1.0)
    stats = shape.statistics[0]
    keys, values = random(3, 1, 4, D_IN), random(4, 1, 4, D_OUT)
    raw = keys * stats.spread  # the update reads raw inputs, less their mean
    torch.testing.assert_close(
        raw @ dense(shape.aggregate(0, SiteRows(keys, values))).mT,
        values * stats.output_size,
        rtol=1e-5,
        atol=1e-6,
    )


def losses(backbone: Backbone, delta: LowRankDelta) -> torch.Tensor:
    texts = [backbone.text(case.prompt, case.target_new) for case in tiny_cases()]
    with delta.applied_to(backbone):
        return answer_nll(backbone, backbone.top(backbone.prefix(texts)), texts)


@pytest.mark.slow
@pytest.mark.parametrize("aggregation", ["sum", "ridge"])
def test_the_first_step_descends(backbone: Backbone, aggregation: str) -> None:
    editor = tiny_editor(backbone, aggregation=aggregation)
    delta = editor.edit(backbone, tiny_cases(), [""] * 10)
    sizes = delta.norms()
    assert all(float(size.min()) > 0 for size in sizes.values())
    before, after = (losses(backbone, delta.scale(share)) for share in (0.0, 1e-3))
    assert float(after.mean()) < float(before.mean())
    assert int((after < before).sum()) >= 8


def test_the_transform_starts_as_the_identity(llama: Backbone) -> None:
    editor = tiny_editor(llama)
    factors = capture(llama, editor.texts.requests(llama, tiny_cases(2), ["", ""]))
    for shape in editor.hypernetwork.shapes:
        keys, values = shape.transform(factors, torch.ones(2, TRANSFORM.code))
        for index, (site, stats) in enumerate(shape.site_statistics()):
            expected = stats.normalise(factors.inputs[site.name], factors.gradients[site.name], factors.mask)
            torch.testing.assert_close((keys[index], values[index]), expected)


def test_every_parameter_learns_after_one_step(llama: Backbone) -> None:
    editor = tiny_editor(llama)
    optimizer = torch.optim.Adam(editor.parameters(), lr=1e-2)
    words = [f"Change the fact number {number}." if number else "" for number in range(10)]
    for _ in range(2):
        optimizer.zero_grad()
        losses(llama, editor.propose(llama, tiny_cases(), words)).mean().backward()
        optimizer.step()
    silent = [n for n, p in editor.named_parameters() if p.grad is None or not bool(p.grad.abs().max() > 0)]
    assert not silent


def test_the_instruction_changes_the_edit_once_something_is_learned(llama: Backbone) -> None:
    editor, case = tiny_editor(llama), tiny_cases(1)
    first = [editor.edit(llama, case, [words]) for words in ("Change it.", "Forget the city.", "")]
    assert all(torch.equal(first[0].a[name], other.a[name]) for other in first for name in first[0].a)
    with torch.no_grad():
        for block in (block for shape in editor.hypernetwork.shapes for block in shape.blocks):
            block.up.copy_(random(0, *block.up.shape))
    later = [editor.edit(llama, case, [words]) for words in ("Change it.", "Forget the city.", "")]
    assert all(not torch.equal(later[0].a[name], other.a[name]) for other in later[1:] for name in other.a)


@pytest.mark.slow
@pytest.mark.parametrize("prefix", [False, True])
def test_edits_of_a_batch_do_not_touch_each_other(llama: Backbone, prefix: bool) -> None:
    editor = tiny_editor(llama, prefix=prefix, code=0 if prefix else 8)
    cases, words = tiny_cases(3), ["Change it.", "", "Change the capital of this land."]
    together = editor.edit(llama, cases, words)
    for index in range(3):
        alone = editor.edit(llama, cases[index : index + 1], words[index : index + 1])
        for name in alone.a:
            torch.testing.assert_close(together[index].dense(name), alone.dense(name), rtol=1e-3, atol=1e-6)


def test_the_seed_decides_and_the_global_state_is_left_alone(llama: Backbone) -> None:
    state = torch.random.get_rng_state()
    first, same, other = (Hypernetwork(llama.sites, llama.width, TRANSFORM, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    pairs = [
        (a, b, c) for a, b, c in zip(first.parameters(), same.parameters(), other.parameters(), strict=True)
    ]
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert any(not torch.equal(a, c) for a, _, c in pairs)


def test_no_code_and_no_directions_are_allowed(llama: Backbone) -> None:
    bare = replace(TRANSFORM, code=0, directions=0)
    editor = tiny_editor(llama, code=0, directions=0)
    assert editor.config.transform == bare
    assert editor.hypernetwork.reader is None
    delta = editor.edit(llama, tiny_cases(1), [""])
    assert all(torch.isfinite(x).all() for x in (*delta.a.values(), *delta.b.values()))
