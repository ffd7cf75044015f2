"""Rows of other wordings: they join a request's own, and change nothing where there are none."""

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.editors.instructed import EditorConfig, InstructedEditor
from instructedit.factors import Factors
from tiny_editors import TRANSFORM, tiny_cases, tiny_editor, tiny_opinion


def test_rows_are_joined_in_order_and_absent_texts_left_out() -> None:
    values = torch.arange(4.0)[:, None, None].expand(4, 3, 2) + 1
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 1]]).bool()
    joined = Factors({"s": values}, {"s": -values}, mask).join(torch.tensor([[True, True], [True, False]]))
    assert joined.mask.all()
    assert joined.inputs["s"][..., 0].tolist() == [[1, 1, 2], [3, 3, 3]]
    assert torch.equal(joined.gradients["s"], -joined.inputs["s"])


def test_other_wordings_add_rows_with_the_same_goal(llama: Backbone) -> None:
    editor, cases = tiny_editor(llama, wordings=2), tiny_cases(2)
    plain = tiny_editor(llama).capture(llama, cases, ["", ""])
    more = editor.capture(llama, cases, ["", ""], whole=True)
    for edit, case in enumerate(cases):
        texts = editor.texts.wordings(llama, case)
        assert len(texts) == 2
        assert all(text.targets == llama.text(case.prompt, case.target_new).targets for text in texts)
        rows = sum(len(text.ids) - 1 - text.first for text in texts)
        assert int(more.mask[edit].sum()) == int(plain.mask[edit].sum()) + rows


def test_a_sentiment_has_no_other_wordings(llama: Backbone) -> None:
    configs = [
        EditorConfig(distil=["sentiment"], transform=TRANSFORM, wordings=wordings) for wordings in (0, 2)
    ]
    plain, editor = (InstructedEditor(config, llama.sites, llama.width) for config in configs)
    plain.load_state_dict(tiny_editor(llama).state_dict())
    editor.load_state_dict(plain.state_dict())
    cases, words = [tiny_cases(1)[0], tiny_opinion(0)], ["Change it.", "Say what is good."]
    assert editor.texts.wordings(llama, cases[1]) == []
    alone = plain.propose(llama, cases[1:], words[1:])
    together = editor.propose(llama, cases, words, whole=True)[1]
    for site in alone.a:
        torch.testing.assert_close(together.dense(site), alone.dense(site), rtol=1e-2, atol=1e-4)


@pytest.mark.slow
def test_a_second_round_reads_every_wording_under_its_own_edit(llama: Backbone) -> None:
    editor, cases = tiny_editor(llama, wordings=1), tiny_cases(3)
    under = tiny_editor(llama).propose(llama, cases, [""] * 3)
    together = editor.propose(llama, cases, [""] * 3, under=under, whole=True)
    for edit in range(3):
        alone = editor.propose(llama, [cases[edit]], [""], under=under[edit], whole=True)
        for site in alone.a:
            scale = float(alone.dense(site).detach().norm())
            assert float((together[edit].dense(site) - alone.dense(site)).detach().norm()) < 2e-2 * scale


def test_the_request_behind_its_instruction_is_one_more_wording(llama: Backbone) -> None:
    editor, cases, words = tiny_editor(llama, behind=True), tiny_cases(2), ["Change it.", ""]
    plain = editor.capture(llama, cases, words)
    more = editor.capture(llama, cases, words, whole=True)
    (text,) = editor.texts.wordings(llama, cases[0], words[0])
    assert len(text.ids) > len(llama.text(cases[0].prompt, cases[0].target_new).ids)
    assert int(more.mask[0].sum()) == int(plain.mask[0].sum()) + len(text.ids) - 1 - text.first
    assert int(more.mask[1].sum()) == int(plain.mask[1].sum())  # without an instruction there is nothing
