"""Captured factors are autograd's own weight gradients, however many edits share a pass."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from instructedit.backbone import Backbone, Text
from instructedit.backbone.sites import is_transposed
from instructedit.factors import Factors, capture, watch_sites

EDITS = (
    ("The capital of France is", "Rome"),
    ("Paris", "a city in Spain, and people there speak"),
    ("I", "do"),
)


def texts_for(backbone: Backbone) -> list[Text]:
    return [backbone.text(prompt, answer) for prompt, answer in EDITS]


def weight_gradients(backbone: Backbone, text: Text) -> dict[str, torch.Tensor]:
    """The gradient of the answer's mean loss in the whole model, as autograd has it; ``[d_out d_in]``."""
    weights = [backbone.modules[site.name].weight.requires_grad_(True) for site in backbone.sites]
    try:
        logits = backbone.model(torch.tensor([text.ids])).logits[0, text.answer_start - 1 : -1]
        found = torch.autograd.grad(cross_entropy(logits, torch.tensor(text.targets)), weights)
    finally:
        backbone.model.requires_grad_(False)
    turned = [is_transposed(backbone.modules[site.name]) for site in backbone.sites]
    return {s.name: g.T if t else g for s, g, t in zip(backbone.sites, found, turned, strict=True)}


def product(factors: Factors, site: str, edit: int) -> torch.Tensor:
    return factors.gradients[site][edit].T @ factors.inputs[site][edit]


@pytest.mark.slow
def test_factors_give_the_gradient_of_every_weight(backbone: Backbone) -> None:
    texts = texts_for(backbone)
    factors = capture(backbone, texts)
    assert set(factors.inputs) == {site.name for site in backbone.sites}
    for edit, text in enumerate(texts):
        for site, expected in weight_gradients(backbone, text).items():
            assert expected.abs().max() > 1e-6
            torch.testing.assert_close(product(factors, site, edit), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_batch_is_its_edits_one_by_one(backbone: Backbone) -> None:
    texts = texts_for(backbone)
    together = capture(backbone, texts)
    for edit, text in enumerate(texts):
        alone = capture(backbone, [text])
        rows = len(text.ids) - 1
        assert int(together.mask[edit].sum()) == rows == int(alone.mask.sum())
        for side in ("inputs", "gradients"):
            for site in together.inputs:
                whole = getattr(together, side)[site][edit]
                single = getattr(alone, side)[site][0]
                assert float((whole[:rows] - single).abs().max() / single.abs().max()) < 1e-3
                assert not whole[rows:].any()


def test_padding_has_no_influence(llama: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = texts_for(llama)
    zero = capture(llama, texts)
    prefix = llama.prefix

    def noisy(given, cache=None):
        hidden = prefix(given, cache)
        for row, text in enumerate(given):
            hidden[row, len(text.ids) :] = 50.0
        return hidden

    monkeypatch.setattr(llama, "prefix", noisy)
    noise = capture(llama, texts)
    for site in zero.inputs:
        torch.testing.assert_close(noise.inputs[site], zero.inputs[site])
        torch.testing.assert_close(noise.gradients[site], zero.gradients[site])


def test_watching_leaves_no_hook_and_no_gradient(llama: Backbone) -> None:
    modules = list(llama.modules.values())
    with pytest.raises(IndexError), watch_sites(llama):
        llama.model(torch.tensor([[1 << 20]]))
    capture(llama, texts_for(llama)[:1])
    assert not any(module._forward_hooks for module in modules)
    assert not any(weight.requires_grad or weight.grad is not None for weight in llama.model.parameters())


def test_rows_before_the_first_are_left_out(llama: Backbone) -> None:
    texts = texts_for(llama)
    whole = capture(llama, texts)
    cut = capture(llama, [replace(text, first=first) for text, first in zip(texts, (2, 0, 1), strict=True)])
    assert cut.mask.sum(1).tolist() == [len(t.ids) - 1 - f for t, f in zip(texts, (2, 0, 1), strict=True)]
    for site in whole.inputs:
        for edit, first in enumerate((2, 0, 1)):
            rows = int(cut.mask[edit].sum())
            torch.testing.assert_close(
                cut.inputs[site][edit, :rows], whole.inputs[site][edit][first : first + rows]
            )


def test_the_model_is_its_own_teacher_without_a_gradient(llama: Backbone) -> None:
    texts = texts_for(llama)
    factors = capture(llama, texts, None, [None, texts[1], None])
    plain = capture(llama, texts)
    for site in factors.gradients:
        assert float(factors.gradients[site][1].norm() / plain.gradients[site][1].norm()) < 1e-4
        for edit in (0, 2):
            torch.testing.assert_close(
                factors.gradients[site][edit], plain.gradients[site][edit], rtol=1e-4, atol=1e-4
            )


def test_a_teacher_pulls_towards_its_own_predictions(llama: Backbone) -> None:
    text = llama.text("The capital of France is", "Rome")
    first, second = (
        capture(llama, [text], None, [llama.text(f"{words} The capital of France is", "Rome")])
        for words in ("Say what is bad.", "People in Spain speak.")
    )
    site = next(iter(first.gradients))
    assert float(first.gradients[site].abs().max()) > 1e-6
    assert not torch.allclose(first.gradients[site], second.gradients[site])
