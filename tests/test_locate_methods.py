"""ROME, MEMIT, AlphaEdit and UltraEdit: the law that defines each, and whole runs on tiny models."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instructedit.backbone import Backbone
from instructedit.backbone.checksum import weights_checksum
from instructedit.backbone.sites import find_sites
from instructedit.delta import LowRankDelta
from instructedit.editors import ultraedit
from instructedit.editors.alphaedit import AlphaEdit, null_space
from instructedit.editors.covariance import covariances, divide, factorise, guard, insert_pairs
from instructedit.editors.location import locate, output_projections, read_keys
from instructedit.editors.many import edit_many
from instructedit.editors.memit import MEMIT, read_state
from instructedit.editors.ordinary import ordinary_texts
from instructedit.editors.registry import find_method
from instructedit.editors.rome import ROME
from instructedit.editors.ultraedit import UltraEdit, answer_text
from instructedit.errors import ModelError
from instructedit.factors import answer_nll, capture, watch_sites
from instructedit.hypernetwork import ShapeTransform, TransformConfig
from tiny_editors import tiny_case, tiny_cases
from tiny_models import LINES, tiny_backbone

pytestmark = pytest.mark.slow
D_IN, D_OUT = 7, 5
ORDINARY = (
    "The book was written by a writer who lived in London.\nI think Rome is good. I think Madrid is bad."
)
law = settings(max_examples=12, deadline=None)
seeds = st.integers(0, 999)
MODELS = ("llama", "gpt2")


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense(pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return pair[1] @ pair[0]


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own, and a few facts for the stream of edits."""
    monkeypatch.setenv("INSTRUCTEDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(ultraedit, "plain_facts", lambda split: tiny_cases(10))


@pytest.fixture
def text(tmp_path: Path) -> str:
    """Ordinary text of more tokens than a key has sides: its covariance knows every direction."""
    path = tmp_path / "ordinary.txt"
    path.write_text("\n".join(LINES))
    return str(path)


@pytest.fixture
def short(tmp_path: Path) -> str:
    """Ordinary text of fewer tokens: it leaves a null space."""
    path = tmp_path / "short.txt"
    path.write_text(ORDINARY)
    return str(path)


@pytest.fixture(params=MODELS, scope="module")
def model(request: pytest.FixtureRequest) -> Backbone:
    """Blocks 1 and 2 of four are edited."""
    made = tiny_backbone(request.param)
    sites = find_sites(made.model, "blocks=1-2")
    return Backbone(made.model, made.tokenizer, sites, made.start_ids, made.name, made.checksum)


def losses(backbone: Backbone, delta: LowRankDelta, count: int) -> torch.Tensor:
    texts = [backbone.text(case.prompt, case.target_new) for case in tiny_cases(count)]
    with torch.no_grad(), delta.applied_to(backbone):
        return answer_nll(backbone, backbone.top(backbone.prefix(texts)), texts)


# laws


@law
@given(seed=seeds)
def test_rome_maps_the_key_to_the_value_by_the_least_rank_one_update(seed: int) -> None:
    weight, key, value = (
        random(seed, D_OUT, D_IN),
        random(seed + 1, 1, 1, D_IN),
        random(seed + 2, 1, 1, D_OUT),
    )
    old = random(seed + 3, 20, D_IN)
    second = old.T @ old / 20
    update = dense(insert_pairs(key, divide(key, factorise(second)), value - key @ weight.T, 0.0))[0]
    torch.testing.assert_close((weight + update) @ key[0, 0], value[0, 0], rtol=1e-9, atol=1e-9)
    assert int(torch.linalg.matrix_rank(update, rtol=1e-9)) == 1
    lower = factorise(second)
    aside = random(seed + 4, D_OUT, D_IN)
    aside -= (aside @ key[0, 0]).outer(key[0, 0]) / key.square().sum()  # leaves the key's value as it is
    assert (update @ lower).norm() < ((update + 0.1 * aside) @ lower).norm()


@law
@given(seed=seeds, count=st.integers(1, 9), weight=st.floats(0.01, 100))
def test_memit_is_the_primal_solution(seed: int, count: int, weight: float) -> None:
    keys, residuals, old = (
        random(seed, 2, count, D_IN),
        random(seed + 1, 2, count, D_OUT),
        random(seed + 2, 30, D_IN),
    )
    lower = factorise(old.T @ old / 30)
    found = dense(MEMIT(weight=weight).solve(lower, keys[:, :1], residuals[:, :1]))
    several = dense(insert_pairs(keys, divide(keys, lower) / weight, residuals, 1.0))
    for update, k, r in ((found, keys[:, :1], residuals[:, :1]), (several, keys, residuals)):
        expected = r.mT @ k @ torch.linalg.inv(weight * lower @ lower.T + k.mT @ k)
        torch.testing.assert_close(update, expected, rtol=1e-7, atol=1e-9)


@law
@given(seed=seeds, preserved=st.integers(1, D_IN - 1), ridge=st.floats(0.01, 100))
def test_alphaedit_maps_preserved_keys_as_before(seed: int, preserved: int, ridge: float) -> None:
    old, weight = random(seed, preserved, D_IN), random(seed + 1, D_OUT, D_IN)
    key, residual = random(seed + 2, 2, 1, D_IN), random(seed + 3, 2, 1, D_OUT)
    null = null_space(old.T @ old / preserved, 1e-9)
    update = dense(AlphaEdit(ridge=ridge).solve(null, key, residual))
    spanned = random(seed + 4, 6, preserved) @ old
    torch.testing.assert_close(spanned @ (weight + update).mT, (spanned @ weight.T).expand(2, -1, -1))
    assert (update @ key.mT).norm() > 0
    project = null @ null.T
    primal = residual.mT @ key @ project
    primal = primal @ torch.linalg.inv(key.mT @ key @ project + ridge * torch.eye(D_IN).double())
    torch.testing.assert_close(update, primal, rtol=1e-7, atol=1e-9)


def test_a_null_space_that_is_empty_is_named() -> None:
    with pytest.raises(ModelError, match=r"every direction of here.*higher threshold"):
        null_space(torch.eye(D_IN), 0.5, "here")


# UltraEdit


def test_ultraedit_is_the_transform_before_training(model: Backbone) -> None:
    editor, step = UltraEdit(units="site", step=0.2, seen=10), 0.2
    delta = editor.edit(model, tiny_cases(3))
    statistics = editor.watch(model)
    factors = capture(model, [answer_text(model, case) for case in tiny_cases(3)])
    config = TransformConfig(rank=2, code=0, directions=0, log_step=math.log(step))
    for site in model.sites:
        shape = ShapeTransform([site], config)
        shape.statistics[0] = statistics[site.name]
        with torch.no_grad():
            a, b = shape(factors, torch.zeros(3, 0))[site.name]
        assert float((b @ a).abs().max()) > 0
        scale = float((b @ a).abs().max())
        torch.testing.assert_close(delta.dense(site.name) / scale, b @ a / scale, rtol=1e-4, atol=1e-5)


def test_ultraedit_solves_the_papers_ridge(model: Backbone) -> None:
    editor = UltraEdit(seen=10, step=1e-3)
    delta, statistics = editor.edit(model, tiny_cases(2)), editor.watch(model)
    factors = capture(model, [answer_text(model, case) for case in tiny_cases(2)])
    assert factors.mask.sum(1).tolist() == [
        len(model.text(case.prompt, case.wanted).targets) for case in tiny_cases(2)
    ]
    for site in model.sites:
        h, g = factors.inputs[site.name].double(), factors.gradients[site.name]
        normal, scaled = statistics[site.name].normalise(h.float(), g, factors.mask)
        v = -1e-3 * (normal.square().sum(-1, keepdim=True) * scaled).double()
        eye = torch.eye(site.d_in, dtype=torch.float64)
        expected = torch.linalg.solve(h.mT @ h + eye, h.mT @ v).mT
        torch.testing.assert_close(delta.dense(site.name).double(), expected, rtol=1e-3, atol=1e-6)


# whole runs


def quick(name: str, text: str) -> object:
    if name == "ultraedit":
        return UltraEdit(seen=10, step=1e-4)
    search = {"steps": 8, "lr": 0.1, "decay": 0.0, "contexts": 1, "text": text}  # the tiny model's scale
    strong = {"rome": {}, "memit": {"weight": 0.01}, "alphaedit": {"ridge": 1e-3, "threshold": 1e-4}}
    return find_method(name)(**search, **strong[name])


@pytest.mark.parametrize("name", ["rome", "memit", "alphaedit", "ultraedit"])
def test_an_edit_lowers_the_loss_and_writes_nothing(
    name: str, model: Backbone, text: str, short: str
) -> None:
    editor = quick(name, short if name == "alphaedit" else text)
    before = weights_checksum(model.model)
    with torch.no_grad():
        delta = editor.edit(model, tiny_cases(4), ["Change it.", "", "", ""])
    assert len(delta) == 4
    projections = [site.name for site in output_projections(model)]
    expected = {"rome": projections[-1:], "ultraedit": [site.name for site in model.sites]}.get(
        name, projections
    )
    assert sorted(delta.a) == sorted(expected)
    edited, unedited = losses(model, delta, 4), losses(model, delta.scale(0.0), 4)
    assert float(edited.mean()) < float(unedited.mean())
    assert weights_checksum(model.model) == before
    assert not any(module._forward_hooks for module in model.model.modules())
    alone = losses(model, editor.edit(model, tiny_cases(4)[1:2]), 4)
    torch.testing.assert_close(edited[1], alone[1], rtol=0.02, atol=0.02)


def test_rome_gives_its_value_for_its_key_in_the_model(model: Backbone, text: str) -> None:
    editor = ROME(steps=2, contexts=3, text=text)
    cases, site = tiny_cases(2), output_projections(model)[-1]
    delta, located = editor.edit(model, cases), locate(model, cases, 3)
    values = editor.find(model, model.modules[site.name], located)
    keys = read_keys(model, located, site)
    with torch.no_grad(), delta.applied_to(model):
        given = model.modules[site.name](keys)[:, 0]
    assert delta.a[site.name].shape[1] == 1
    torch.testing.assert_close(given, values, rtol=1e-3, atol=1e-3)


def test_memit_reaches_its_goal_where_nothing_holds_it_back(model: Backbone, text: str) -> None:
    editor = MEMIT(steps=2, contexts=1, text=text, weight=1e-9)
    cases, sites = tiny_cases(2), output_projections(model)
    last = model.blocks[sites[-1].block]
    delta, located = editor.edit(model, cases), locate(model, cases, 1)
    goal = editor.find(model, last, located)
    for count, missing in ((0, 1.0), (2, 0.0)):
        done = LowRankDelta(*({s.name: side[s.name] for s in sites[:count]} for side in (delta.a, delta.b)))
        _, reached = read_state(model, located, sites[0], last, done)
        _, first = read_state(model, located, sites[0], last, LowRankDelta({}, {}))
        share = (goal - reached).norm() / (goal - first).norm()
        assert float(share) == pytest.approx(missing, abs=1e-3)
    assert all(float(size.min()) > 0 for size in delta.norms().values())


def test_rome_inserts_one_case_after_another(model: Backbone, text: str) -> None:
    editor, cases, site = ROME(steps=2, contexts=1, text=text), tiny_cases(3), output_projections(model)[-1]
    delta = edit_many(editor, model, cases)
    before = edit_many(editor, model, cases[:2])
    with before.applied_to(model.model):
        last = editor.insert(model, cases[2:])
    torch.testing.assert_close(
        delta.dense(site.name), before.dense(site.name) + last.dense(site.name), rtol=1e-3, atol=1e-5
    )
    summed = editor.edit(model, cases).merge()
    assert float((summed.dense(site.name) - delta.dense(site.name)).abs().max()) > 1e-4
    keys = read_keys(model, locate(model, cases[2:], 1), site)
    module = model.modules[site.name]
    with torch.no_grad(), before.applied_to(model):
        value = editor.find(model, module, locate(model, cases[2:], 1))
    with torch.no_grad(), delta.applied_to(model):
        torch.testing.assert_close(module(keys)[:, 0], value, rtol=1e-3, atol=1e-3)


def test_memit_solves_a_batch_by_its_equation_block_after_block(model: Backbone, text: str) -> None:
    editor, cases = MEMIT(steps=2, contexts=1, text=text, weight=0.01), tiny_cases(3)
    delta, sites = edit_many(editor, model, cases), output_projections(model)
    located, last = locate(model, cases, 1), model.blocks[sites[-1].block]
    goal = editor.find(model, last, located)
    known = covariances(model, [site.name for site in sites], text)
    for number, site in enumerate(sites):
        done = LowRankDelta(*({s.name: side[s.name] for s in sites[:number]} for side in (delta.a, delta.b)))
        keys, reached = read_state(model, located, site, last, done)
        k, r = keys[:, 0].double(), (goal - reached).double() / (len(sites) - number)
        expected = r.mT @ k @ torch.linalg.inv(0.01 * guard(known[site.name]) + k.mT @ k)
        torch.testing.assert_close(delta.dense(site.name)[0].double(), expected, rtol=1e-2, atol=1e-4)
    summed = editor.edit(model, cases).merge()
    name = sites[-1].name
    assert float((summed.dense(name) - delta.dense(name)).norm() / delta.dense(name).norm()) > 0.05


def test_alphaedit_leaves_ordinary_text_alone(model: Backbone, short: str) -> None:
    editor = AlphaEdit(steps=3, contexts=1, text=short, ridge=1e-3, threshold=1e-5)
    delta = editor.edit(model, tiny_cases(1))
    ordinary = ordinary_texts(model, short)
    with torch.no_grad(), watch_sites(model) as (inputs, _):
        model.top(model.prefix(ordinary))
    for name in delta.a:
        rows = torch.cat([x[1 : len(t.ids)] for x, t in zip(inputs[name], ordinary, strict=True)])
        other = read_keys(model, locate(model, tiny_cases(1), 1), site_of(model, name))
        kept = (rows @ delta.dense(name)[0].T).norm(dim=1) / rows.norm(dim=1)
        changed = (other[:, 0] @ delta.dense(name)[0].T).norm(dim=1) / other[:, 0].norm(dim=1)
        assert float(kept.max()) < 0.02 * float(changed)


def site_of(backbone: Backbone, name: str):
    return next(site for site in backbone.sites if site.name == name)


def test_nothing_but_prompt_target_and_subject_is_read(llama: Backbone, text: str) -> None:
    editor = ROME(steps=2, contexts=1, text=text)
    case = tiny_case(0)
    bare = replace(case, probes=(), ground_truth="", case_id="")
    first, second = editor.edit(llama, [case]), editor.edit(llama, [bare])
    assert all(torch.equal(first.dense(name), second.dense(name)) for name in first.a)
