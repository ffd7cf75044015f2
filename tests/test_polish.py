"""A polished edit answers better and leaves more alone, in the directions that it acted on already."""

from dataclasses import replace

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.drill import DescentConfig, Practice, prepare_drill
from instructedit.editors.editor_file import load_editor, save_editor
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.polish import BEND, PolishConfig, polish, text_losses
from instructedit.errors import DataError
from instructedit.factors import answer_nll
from instructedit.metrics import kl_divergence
from instructedit.types import EditCase
from tiny_editors import tiny_case, tiny_cases, tiny_editor, tiny_opinion

STEPS = PolishConfig(steps=12, fit=3, keep=6, margin=0.0, rate=0.2)


def made(backbone: Backbone, steps: int = 0, **changes: object) -> InstructedEditor:
    """An untrained editor, a plain descent step, that is large enough to be felt."""
    editor = tiny_editor(backbone, wordings=1, behind=True, log_step=1.0, others=2, own=1)
    editor.adjust(polish=replace(STEPS, steps=steps), **changes)
    return editor


@torch.no_grad()
def losses(backbone: Backbone, delta: LowRankDelta, practice: Practice) -> tuple[float, float]:
    """The mean nats a token of the wanted answers, and of KL to the unedited model at the others."""
    with delta.applied_to(backbone.model):
        wanted = answer_nll(backbone, backbone.top(backbone.prefix(practice.fit)), practice.fit).mean()
        after = [backbone.model(input_ids=torch.tensor([text.ids])).logits[0] for text in practice.keep]
    before = [backbone.model(input_ids=torch.tensor([text.ids])).logits[0] for text in practice.keep]
    pairs = zip(before, after, practice.keep, strict=True)
    moved = [kl_divergence(b[list(t.positions)], a[list(t.positions)]).mean() for b, a, t in pairs]
    return float(wanted), float(torch.stack(moved).mean())


@pytest.mark.slow
def test_polish_lowers_what_it_is_judged_by(backbone: Backbone) -> None:
    editor, case = made(backbone), tiny_case(0)
    delta = editor.edit(backbone, [case], ["Change it."])
    practice = editor.texts.practice(backbone, case, "Change it.")
    assert practice
    before = losses(backbone, delta, practice)
    after = losses(backbone, polish(backbone, delta, practice, STEPS), practice)
    assert after[0] + STEPS.weight * after[1] < before[0] + STEPS.weight * before[1]


@pytest.mark.slow
def test_an_answer_as_a_whole_lacks_what_its_tokens_lack_together(backbone: Backbone) -> None:
    fit = (backbone.text("the answer is", "Rome"), backbone.text("the answer is", "a very long name"))
    drill = prepare_drill(backbone, Practice(fit, (backbone.text("the sky is", "blue and wide"),)))
    delta = made(backbone).edit(backbone, [tiny_case(0)], [""])
    configs = (DescentConfig(margin=0.0), DescentConfig(margin=0.0, whole=True))
    plain, whole = (
        BEND * torch.expm1(text_losses(backbone, delta, drill, range(3), config).detach() / BEND)
        for config in configs
    )
    sizes = torch.tensor([len(text.positions) for text in fit])
    assert sizes.max() > 1
    torch.testing.assert_close(whole[:2], plain[:2] * sizes, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(whole[2], plain[2])  # what is left alone is measured as before


@pytest.mark.slow
def test_a_polished_update_reads_what_it_read_before(llama: Backbone) -> None:
    editor, case = made(llama), tiny_case(0)
    delta = editor.edit(llama, [case], [""])
    practice = editor.texts.practice(llama, case, "")
    assert practice
    polished = polish(llama, delta, practice, replace(STEPS, energy=1.0))
    for name, a in delta.a.items():
        rows = torch.linalg.qr(a[0].mT).Q  # the input directions of the edit as it was made
        new = polished.dense(name)[0]
        torch.testing.assert_close(new @ rows @ rows.mT, new, rtol=1e-3, atol=1e-5)
        assert not torch.allclose(new, delta.dense(name)[0], rtol=0.01)


@pytest.mark.slow
def test_the_same_edit_is_polished_the_same_way_whatever_is_beside_it(llama: Backbone) -> None:
    editor, cases = made(llama, steps=3), tiny_cases(3)
    together = editor.edit(llama, cases, ["", "Change it.", ""])
    alone = editor.edit(llama, cases[1:2], ["Change it."])
    for name in alone.a:
        same = alone.dense(name)
        assert (together[1].dense(name) - same).norm() < 1e-3 * same.norm()  # padding moves the last digits
        assert (together[0].dense(name) - same).norm() > 0.1 * same.norm()


def test_more_edits_than_fit_are_made_by_turns(llama: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    editor, cases = made(llama, steps=0), tiny_cases(3)
    whole = editor.edit(llama, cases, [""] * 3)
    monkeypatch.setattr("instructedit.editors.passes.CHUNK", 2)
    parts = editor.edit(llama, cases, [""] * 3)
    for name in whole.a:
        torch.testing.assert_close(parts.dense(name), whole.dense(name), rtol=1e-3, atol=1e-5)


def test_texts_beyond_the_context_are_left_out_and_the_request_is_not(llama: Backbone) -> None:
    most = llama.model.config.max_position_embeddings
    word, case = " book", tiny_case(0)
    head = len(llama.text(case.prompt, case.wanted).ids)
    long = replace(case, prompt=f"{word.strip()}{word * (most - head - 4)} {case.prompt}")
    practice = made(llama).texts.practice(llama, long, "")
    assert practice
    assert practice.fit[0].ids == llama.text(long.prompt, long.wanted).ids
    assert all(len(text.ids) <= most for text in (*practice.fit, *practice.keep))
    with pytest.raises(DataError, match="tokens"):
        made(llama).texts.practice(llama, replace(long, prompt=f"{word * most} is"), "")


@pytest.mark.slow
def test_no_steps_and_no_answer_leave_an_edit_as_it_was(llama: Backbone) -> None:
    plain = made(llama).edit(llama, [tiny_case(0)], [""])
    untouched = made(llama, steps=0).edit(llama, [tiny_case(0)], [""])
    assert all(torch.equal(plain.b[name], untouched.b[name]) for name in plain.b)
    editor = made(llama, steps=3, distil=("sentiment",))
    opinion = [tiny_opinion(0)]
    assert editor.texts.practice(llama, opinion[0], "Be kind.") is None
    delta = editor.edit(llama, opinion, ["Be kind."])
    bare = made(llama, distil=("sentiment",)).edit(llama, opinion, ["Be kind."])
    assert all(torch.equal(delta.dense(name), bare.dense(name)) for name in delta.a)


def test_an_edit_is_not_polished_on_what_it_is_tried_on(llama: Backbone) -> None:
    editor = made(llama)
    case = EditCase("The place of birth of France is", "Rome", "France")
    practice = editor.texts.practice(llama, case, "Change it.")
    bare, told, *checks = editor.texts.checks(llama, case, "Change it.")
    assert practice
    assert checks
    assert practice.fit[:2] == (bare, told)
    assert not set(practice.fit[2:]) & set(checks)
    assert len(set(practice.fit)) == len(practice.fit) > 8
    assert len(practice.keep) > 20


def test_a_broad_practice_leaves_more_alone_and_asks_the_same(llama: Backbone) -> None:
    editor, case = made(llama, near=8), EditCase("The place of birth of France is", "Rome", "France")
    configs = (PolishConfig(), PolishConfig(breadth=3))
    plain, broad = (editor.texts.practice(llama, case, "Change it.", config) for config in configs)
    assert plain
    assert broad
    assert broad.fit == plain.fit
    assert len(set(broad.keep)) > 2 * len(set(plain.keep))


@pytest.mark.slow
@pytest.mark.parametrize("prompt", ["the answer is", "What is it?"])
def test_a_request_without_a_subject_can_be_polished(llama: Backbone, prompt: str) -> None:
    editor = made(llama, steps=2)
    delta = editor.edit(llama, [EditCase(prompt, "Rome")], [""])
    assert all(torch.isfinite(b).all() for b in delta.b.values())


def test_the_settings_are_kept_with_the_editor(llama: Backbone, tmp_path) -> None:
    editor = made(llama, steps=3, near=2, tails=1)
    save_editor(editor, tmp_path / "editor.safetensors", llama, {})
    assert load_editor(tmp_path / "editor.safetensors", llama).config == editor.config


def test_deltas_of_different_ranks_stand_side_by_side() -> None:
    torch.manual_seed(0)
    parts = [LowRankDelta({"s": torch.randn(1, r, 4)}, {"s": torch.randn(1, 3, r)}) for r in (1, 3, 2)]
    whole = LowRankDelta.stack(parts)
    assert len(whole) == 3
    for place, part in enumerate(parts):
        torch.testing.assert_close(whole[place].dense("s"), part.dense("s"))


def test_fewer_than_no_steps_are_refused() -> None:
    with pytest.raises(DataError, match="-1 steps"):
        PolishConfig(steps=-1)
