"""Anchors: prompts made from the request alone, whose keys the ridge solution leaves alone."""

import math

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.data.anchors import make_anchors
from instructedit.data.subjects import guess_subject, subject_of
from instructedit.editors.instructed import InstructedEditor
from instructedit.factors import Anchors, last_inputs
from instructedit.hypernetwork import ShapeTransform
from instructedit.types import EditCase
from test_hypernetwork import D_IN, D_OUT, random, transform
from tiny_editors import tiny_case, tiny_cases, tiny_editor

PROMPTS = {
    "The capital of France is": "France",
    "What does Michel Denisot speak?": "Michel Denisot",
    "Who wrote Romeo and Juliet?": "Romeo and Juliet",
    "Paris is the capital of": "Paris",
    "Charles de Gaulle's wife is": "Charles de Gaulle",
    "the boiling point of water is": "",
    "Which is best?": "",
}


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_subject_is_guessed_from_capital_letters(prompt: str) -> None:
    assert guess_subject(prompt) == PROMPTS[prompt]


def test_a_records_own_subject_goes_before_the_guess() -> None:
    assert subject_of(EditCase("The capital of Old France is", "Rome", "France")) == "France"
    assert subject_of(EditCase("The capital of Old France is", "Rome", "Gaul")) == "Old France"


def test_anchors_ask_the_same_of_others_and_other_things_of_the_subject() -> None:
    case = tiny_case(0)
    others, own = make_anchors(case, 3, 2)
    assert (len(others), len(own)) == (3, 2)
    assert all(prompt.startswith("The capital of ") and case.subject not in prompt for prompt in others)
    assert all(case.subject in prompt and prompt != case.prompt for prompt in own)
    assert make_anchors(case, 3, 2) == (others, own)


def test_a_prompt_without_a_subject_has_no_anchors() -> None:
    assert make_anchors(EditCase("the answer is", "yes"), 3, 2) == ((), ())


def test_a_subject_that_is_in_the_list_is_not_its_own_anchor() -> None:
    for name in ("Italy", "Marie Curie", "Hamlet"):
        others, _ = make_anchors(EditCase(f"{name} is known as", "x", name), 4, 0)
        assert all(name not in prompt for prompt in others)


def test_heavy_anchors_are_mapped_to_nothing() -> None:
    shape: ShapeTransform = transform(0, 0.0, -1.0)
    keys, values = random(3, 1, 2, D_IN), random(4, 1, 2, D_OUT)
    fixed = random(5, 1, 2, D_IN)
    sizes = []
    for weight in (math.exp(-9.0), 1.0, math.exp(9.0)):
        rows = torch.cat([keys, fixed * weight], 1)
        with torch.no_grad():
            a, b = shape.aggregate(0, rows, torch.cat([values, torch.zeros_like(values)], 1))
        raw = fixed * shape.statistics[0].spread
        sizes.append(float((raw @ (b @ a).mT).norm()))
    assert sizes[0] > sizes[1] > 100 * sizes[2]


def test_keys_are_the_inputs_at_each_last_token(backbone: Backbone) -> None:
    texts = [backbone.text(prompt) for prompt in ("The capital of France is", "Paris")]
    together = last_inputs(backbone, texts)
    for row, text in enumerate(texts):
        for site, alone in last_inputs(backbone, [text]).items():
            torch.testing.assert_close(together[site][row], alone[0], rtol=1e-3, atol=1e-5)


def anchored(backbone: Backbone) -> InstructedEditor:
    return tiny_editor(backbone, others=2, own=1)


def test_an_edit_without_a_subject_gets_rows_of_zeros(llama: Backbone) -> None:
    cases = [*tiny_cases(1), EditCase("the answer is", "Rome")]
    found = anchored(llama).anchors(llama, cases)
    assert isinstance(found, Anchors)
    assert found.own.tolist() == [False, False, True]
    for keys in found.keys.values():
        assert keys.shape[:2] == (2, 3)
        assert keys[0].abs().sum(-1).min() > 0
        assert not keys[1].any()
    assert anchored(llama).anchors(llama, cases[1:]) is None


def test_anchors_change_the_delta_and_their_weights_learn(llama: Backbone) -> None:
    editor, cases = anchored(llama), tiny_cases(2)
    delta = editor.propose(llama, cases, ["Change it.", ""])
    site = next(iter(delta.a))
    plain = tiny_editor(llama).propose(llama, cases, ["Change it.", ""])
    assert delta.a[site].shape[1] == plain.a[site].shape[1] + 3
    sum(x.square().sum() for x in delta.b.values()).backward()
    for shape in editor.hypernetwork.shapes:
        assert shape.log_anchor.grad.abs().min() > 0
        assert shape.anchor_code.grad.abs().max() > 0
