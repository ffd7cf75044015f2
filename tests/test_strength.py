"""An edit is made as faint as its wordings allow, and each edit of a batch by itself."""

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.instructed import InstructedEditor
from tiny_editors import tiny_cases, tiny_editor, tiny_opinion

STRENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)


def with_strengths(backbone: Backbone, strengths: tuple[float, ...]) -> InstructedEditor:
    """An untrained editor, a plain descent step, whose steps are large enough to be felt."""
    editor = tiny_editor(backbone, wordings=1, behind=True, log_step=1.0)
    editor.adjust(strengths=strengths)
    return editor


@torch.no_grad()
def mark(backbone: Backbone, editor: InstructedEditor, delta: LowRankDelta, case, words: str) -> tuple:
    """Whether the bare prompt is answered, and how many checks are: by the whole model, text by text."""
    right = []
    for text in editor.texts.checks(backbone, case, words):
        with delta.applied_to(backbone.model):
            logits = backbone.model(input_ids=torch.tensor([text.ids])).logits[0]
        right.append([int(logits[place].argmax()) for place in text.positions] == list(text.targets))
    return right[0], sum(right)


@pytest.mark.slow
def test_the_faintest_of_the_best_strengths_is_taken(llama: Backbone) -> None:
    editor = with_strengths(llama, STRENGTHS)
    cases, words = tiny_cases(4), ["Change this.", "", "Replace it.", ""]
    delta = editor.propose(llama, cases, words, whole=True)
    tempered = editor.temper(llama, cases, words, delta)
    site = llama.sites[0].name
    moved = 0
    for i, case in enumerate(cases):
        marks = [mark(llama, editor, delta[i].scale(s), case, words[i]) for s in STRENGTHS]
        wanted = STRENGTHS[marks.index(max(marks))] if max(marks)[1] else 1.0
        torch.testing.assert_close(tempered[i].dense(site), wanted * delta[i].dense(site))
        moved += max(marks)[1] > 0
    assert moved, "no edit answers anything at any strength: nothing was tried"


def test_what_has_no_answer_keeps_its_strength(llama: Backbone) -> None:
    editor = with_strengths(llama, STRENGTHS)
    editor.adjust(distil=("sentiment",))
    cases, words = [tiny_opinion(0)], ["Be kind about it."]
    delta = editor.propose(llama, cases, words)
    assert editor.temper(llama, cases, words, delta) is delta


def test_checks_are_not_the_wordings_that_are_read(llama: Backbone) -> None:
    editor = with_strengths(llama, STRENGTHS)
    case = tiny_cases(1)[0]
    read = {text.ids for text in editor.texts.wordings(llama, case)}
    assert read
    assert not read & {text.ids for text in editor.texts.checks(llama, case, "")}


@pytest.mark.slow
@pytest.mark.parametrize("strengths", [(), (1.0,)])
def test_strength_one_changes_nothing(llama: Backbone, strengths: tuple[float, ...]) -> None:
    cases = tiny_cases(2)
    plain = with_strengths(llama, ()).edit(llama, cases)
    edit = with_strengths(llama, strengths).edit(llama, cases)
    for name in plain.b:
        assert torch.equal(edit.b[name], plain.b[name])


def test_each_edit_is_scaled_by_its_own_number(llama: Backbone) -> None:
    delta = tiny_editor(llama).edit(llama, tiny_cases(3))
    factors = torch.tensor([0.0, 1.0, -2.0])
    scaled = delta.scale(factors)
    for name in delta.a:
        torch.testing.assert_close(scaled.dense(name), delta.dense(name) * factors[:, None, None])
