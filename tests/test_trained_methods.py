"""MEND, MALMEN and KE: a plain gradient step at the start, no instruction, and a way through training."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instructedit.backbone import Backbone, Site
from instructedit.delta import LowRankDelta
from instructedit.editors.editor_file import load_editor, read_header
from instructedit.editors.instructed import EditorConfig, InstructedEditor
from instructedit.editors.ke import KnowledgeConfig, KnowledgeEditor, SiteGate
from instructedit.editors.many import edit_many
from instructedit.editors.mend import RectifiedBlock
from instructedit.editors.registry import find_trained
from instructedit.errors import UnknownNameError
from instructedit.factors import answer_nll, capture
from instructedit.hypernetwork import TransformConfig
from instructedit.instructions import render
from instructedit.statistics import SiteStatistics
from instructedit.storage import load_tensors
from instructedit.training.config import TrainConfig, from_dict, named_config
from instructedit.training.course import Course
from instructedit.training.loop import train
from tiny_editors import CONFIG, tiny_case, tiny_cases, tiny_course
from tiny_models import tiny_backbone

NAMES = ("mend", "malmen", "ke")
LOG_STEP = -2.0


def make(name: str, backbone: Backbone) -> InstructedEditor:
    """The editor of a named configuration, small and untrained, with statistics that change nothing."""
    config = named_config(name).editor
    config = replace(config, transform=replace(config.transform, rank=8, log_step=LOG_STEP))
    editor = find_trained(config.kind)(config, backbone.sites, backbone.width)
    for statistics in editor.hypernetwork.statistics().values():
        make_plain(statistics)
    return editor


def make_plain(statistics: SiteStatistics) -> None:
    """Mean 0, and every spread and size 1."""
    for name in ("count", "squares", "gradient_squares", "output_squares"):
        getattr(statistics, name).fill_(1.0)


def weight_gradients(backbone: Backbone, site: Site) -> torch.Tensor:
    """The gradient of the first case's loss with respect to a site's own weight."""
    text = backbone.text(tiny_case(0).prompt, tiny_case(0).target_new)
    weight = backbone.modules[site.name].weight.requires_grad_()
    try:
        loss = answer_nll(backbone, backbone.top(backbone.prefix([text])), [text])
        return torch.autograd.grad(loss.sum(), weight)[0]
    finally:
        weight.requires_grad_(False)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "factor"), [("mend", 1.0), ("ke", 0.5)])  # the gate of KE starts half open
def test_the_first_edit_is_a_plain_scaled_gradient_step(name: str, factor: float) -> None:
    source = tiny_backbone()  # and no start token, whose row editors leave out
    backbone = Backbone(source.model, source.tokenizer, source.sites)
    delta = make(name, backbone).edit(backbone, tiny_cases(1))
    factors = capture(backbone, [backbone.text(tiny_case(0).prompt, tiny_case(0).target_new)])
    for site in backbone.sites:
        size = factors.gradients[site.name].square().sum() / (factors.mask.sum() * site.d_out)  # RMS squared
        scale = factor * math.exp(LOG_STEP) / (site.d_in * float(size.sqrt()))
        expected = -scale * weight_gradients(backbone, site)
        torch.testing.assert_close(delta.dense(site.name)[0], expected, rtol=1e-3, atol=1e-4 * scale)


def test_the_papers_editor_is_mend_with_words_in_front(llama: Backbone) -> None:
    bare, told = make("mend", llama), make("paper", llama)
    prefixed = replace(tiny_case(0), prompt=render("Change it.", tiny_case(0).prompt, tiny_case(0).task))
    words = told.edit(llama, [tiny_case(0)], ["Change it."])
    same = bare.edit(llama, [prefixed], [""])
    for site in llama.sites:
        torch.testing.assert_close(words.dense(site.name), same.dense(site.name))
        assert not torch.allclose(
            words.dense(site.name), bare.edit(llama, [tiny_case(0)], ["Change it."]).dense(site.name)
        )


def test_mends_layers_are_those_of_the_paper_and_begin_as_the_identity() -> None:
    draw, config = torch.Generator().manual_seed(0), TransformConfig(rank=2, code=0)
    block, h = RectifiedBlock(5, 3, config), torch.randn(3, 4, 5, generator=draw)
    assert torch.equal(block(h, torch.zeros(4, 0)), h)
    block(h, torch.zeros(4, 0)).square().sum().backward()
    learn = {name for name, value in block.named_parameters() if bool(value.grad.abs().max() > 0)}
    assert learn == {"up", "bias", "shift"}, "at zero the layer is not stuck"
    with torch.no_grad():
        for value in block.parameters():
            value.copy_(torch.randn(*value.shape, generator=draw))
        for site in range(3):
            inner = block.scale[site] * (h[site] @ block.down @ block.up + block.bias) + block.shift[site]
            torch.testing.assert_close(block(h, torch.zeros(4, 0))[site], h[site] + torch.relu(inner))


def test_mend_sums_its_rows_in_one_unit_a_site(llama: Backbone) -> None:
    draw, case, editor = torch.Generator().manual_seed(0), tiny_cases(1), make("mend", llama)
    with torch.no_grad():
        for stats in editor.hypernetwork.statistics().values():
            stats.squares.copy_(torch.rand(stats.squares.shape, generator=draw))
        factors, _, _, _ = editor.observe(llama, case, [""])
        delta = editor.edit(llama, case)
        for name, shape, index in editor.hypernetwork.places():
            keys, values = (side[index][factors.mask] for side in shape.transform(factors, torch.zeros(1, 0)))
            stats = shape.statistics[index]
            scale = math.exp(LOG_STEP) * stats.output_size / stats.spread.square().mean().sqrt() / shape.d_in
            torch.testing.assert_close(delta.dense(name)[0], -scale * values.mT @ keys, rtol=1e-3, atol=1e-6)


def test_malmen_is_the_least_squares_of_all_shifts_on_the_keys_as_read(llama: Backbone) -> None:
    draw, cases = torch.Generator().manual_seed(0), tiny_cases(4)
    editor = make("malmen", llama)
    with torch.no_grad():
        for shape in editor.hypernetwork.shapes:
            shape.log_ridge.copy_(torch.randn(len(shape.sites), generator=draw))
            for index, block in enumerate(shape.blocks):
                block.up.copy_(0.1 * torch.randn(*block.up.shape, generator=draw))
                shape.statistics[index].mean.fill_(0.3)
        factors, _, _, _ = editor.observe(llama, cases, [""] * 4)
        together, alone = edit_many(editor, llama, cases), editor.edit(llama, cases)
        for name, shape, index in editor.hypernetwork.places():
            made, moved = shape.transform(factors, torch.zeros(4, 0))
            stats, mask = shape.statistics[index], factors.mask
            size = (stats.mean.square() + stats.spread.square()).sum().double()  # of a key, squared
            read = factors.inputs[name].double()
            step = float(shape.log_step[index].exp() * stats.output_size)
            share = (read * made[index]).sum(-1, keepdim=True) / (size * shape.d_in).sqrt()
            wanted = -step * share * moved[index]
            ridge = float(shape.log_ridge[index].exp()) * size * torch.eye(shape.d_in)
            for found, u, d in (
                (together.dense(name)[0], read[mask], wanted[mask]),
                (alone.dense(name)[1], read[1][mask[1]], wanted[1][mask[1]]),
            ):
                expected = torch.linalg.solve(u.mT @ u + ridge, u.mT @ d).mT
                torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mend", "malmen"])
def test_another_network_is_trained_kept_and_loaded(llama: Backbone, tmp_path: Path, name: str) -> None:
    config = from_dict({"editor": {"kind": name, "transform": {"rank": 8}}, "steps": 2}, CONFIG)
    result = train(config, llama, tiny_course(config), tmp_path / "run", cache_folder=tmp_path / "cache")
    editor = load_editor(result.editor, llama)
    assert type(editor) is find_trained(name)
    assert (editor.config, editor.name) == (config.editor, name)
    assert editor.edit(llama, tiny_cases(2)).a.keys() == {site.name for site in llama.sites}


@pytest.mark.parametrize("name", NAMES)
def test_instructions_are_not_read(llama: Backbone, name: str) -> None:
    editor = make(name, llama)
    first, other = (editor.edit(llama, tiny_cases(2), [words] * 2) for words in ("Change it.", ""))
    assert all(torch.equal(first.dense(site), other.dense(site)) for site in first.a)


@pytest.mark.parametrize("name", NAMES)
def test_lessons_hold_no_instruction_either(name: str) -> None:
    config = named_config(name)
    course = Course(tiny_cases(), [], config)
    lessons = [lesson for step in range(5) for lesson in course.lessons(step)]
    assert {lesson.instruction for lesson in lessons} == {""}
    assert "bare" in {item.slot for lesson in lessons for item in lesson.items}
    assert "instructed" not in {item.slot for lesson in lessons for item in lesson.items}
    assert (config.editor.prefix, config.editor.transform.code, config.blocks) == (False, 0, 3)
    assert config.editor.name == name


@pytest.mark.parametrize("name", NAMES)
def test_who_is_told_nothing_learns_what_is_wanted(llama: Backbone, name: str) -> None:
    case = replace(tiny_case(0), kind="erase")
    told = InstructedEditor(EditorConfig(transform=TransformConfig(rank=2)), llama.sites, llama.width)
    for editor, answer in ((make(name, llama), case.wanted), (told, case.target_new)):
        (text,) = editor.texts.requests(llama, [case], [""])
        assert text.ids == llama.text(case.prompt, answer).ids


def test_the_gate_and_the_shift_are_those_of_the_paper() -> None:
    draw = torch.Generator().manual_seed(0)
    gate = SiteGate(Site("only", 6, 4, 0), TransformConfig(rank=3, code=0, log_step=LOG_STEP))
    make_plain(gate.statistics)
    with torch.no_grad():
        gate.last.weight.copy_(torch.randn(*gate.last.weight.shape, generator=draw))
    code, inputs = torch.randn(2, 6, generator=draw), torch.randn(2, 5, 6, generator=draw)
    gradients, mask = torch.randn(2, 5, 4, generator=draw), torch.ones(2, 5, dtype=torch.bool)
    a, b = gate(inputs, gradients, mask, code)
    assert (a.shape, b.shape) == ((2, 6, 6), (2, 4, 6))
    for edit in range(2):
        read = gate.last(torch.tanh(gate.hidden(code[edit])))
        alpha, beta, gamma, delta, eta = read.split([4, 4, 6, 6, 1])
        gradient = gradients[edit].T @ inputs[edit] / gradients[edit].square().mean().sqrt() / 6
        opened = 4 * alpha.softmax(0)[:, None] * gamma[None] * gradient
        shift = 4 * beta.softmax(0)[:, None] * delta[None] / math.sqrt(6)
        expected = math.exp(LOG_STEP) * torch.sigmoid(eta) * (opened + shift)
        torch.testing.assert_close(b[edit] @ a[edit], expected, rtol=1e-4, atol=1e-5)


def losses(backbone: Backbone, delta: LowRankDelta) -> torch.Tensor:
    texts = [backbone.text(case.prompt, case.target_new) for case in tiny_cases(3)]
    with delta.applied_to(backbone):
        return answer_nll(backbone, backbone.top(backbone.prefix(texts)), texts)


@pytest.mark.slow
def test_all_of_ke_learns_and_every_edit_is_by_itself(llama: Backbone) -> None:
    editor, cases = make("ke", llama), tiny_cases(3)
    optimizer = torch.optim.Adam(editor.parameters(), lr=1e-2)
    before = losses(llama, editor.edit(llama, cases)).mean()
    for _ in range(6):
        optimizer.zero_grad()
        losses(llama, editor.propose(llama, cases, [""] * 3)).mean().backward()
        optimizer.step()
    silent = [n for n, p in editor.named_parameters() if p.grad is None or not bool(p.grad.abs().max() > 0)]
    assert not silent
    together = editor.edit(llama, cases)
    assert float(losses(llama, together).mean()) < float(before)
    for index in range(3):
        alone = editor.edit(llama, cases[index : index + 1])
        for name in alone.a:
            torch.testing.assert_close(together[index].dense(name), alone.dense(name), rtol=1e-3, atol=1e-6)
    summed = edit_many(editor, llama, cases, [""] * 3)  # there are no keys to solve for
    for name in summed.a:
        torch.testing.assert_close(summed.dense(name), together.merge().dense(name), rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_ke_is_trained_kept_and_loaded(llama: Backbone, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    config = from_dict({"editor": {"kind": "ke", "transform": {"rank": 8}}, "steps": 2}, CONFIG)
    result = train(config, llama, tiny_course(config), tmp_path / "run", cache_folder=tmp_path / "cache")
    assert torch.equal(torch.random.get_rng_state(), state)
    header = read_header(result.editor)
    assert header["editor"]["kind"] == "ke"
    assert from_dict(header["config"]) == config
    editor = load_editor(result.editor, llama)
    assert type(editor) is KnowledgeEditor
    assert editor.config == config.editor
    stored = load_tensors(result.editor)[0]
    assert all(torch.equal(value, stored[name].float()) for name, value in editor.state_dict().items())
    assert editor.edit(llama, tiny_cases(2)).a.keys() == {site.name for site in llama.sites}


def test_a_kind_of_editor_has_settings_of_its_own() -> None:
    ke = from_dict({"editor": {"kind": "ke"}}).editor
    assert (type(ke), ke.transform.code, ke.transform.aggregation) == (KnowledgeConfig, 0, "sum")
    changed = from_dict({"editor": {"kind": "ke", "rounds": 2}}, TrainConfig(editor=replace(ke, wordings=3)))
    assert (changed.editor.rounds, changed.editor.wordings) == (2, 3), "the same kind keeps what it has"
    back = from_dict({"editor": {"kind": "instructed"}}, changed).editor
    assert back == EditorConfig()
    assert "kind" not in TrainConfig().to_dict()["editor"], "runs from before there were kinds go on"
    with pytest.raises(UnknownNameError, match="'ke'"):
        from_dict({"editor": {"kind": "kee"}})
