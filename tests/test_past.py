"""Going on from what the first tokens of a text have left behind is as running the whole text."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.backbone.past import can_go_on, go_on, go_on_together, read_pasts
from test_prefix import texts_for
from tiny_models import tiny_backbone

Way = Callable[..., torch.Tensor]
CUTS = (3, 0, 11)  # tokens of each text that are not run again


WAYS = pytest.mark.parametrize("way", [go_on, go_on_together])


def behind(backbone: Backbone, moved: torch.Tensor, way: Way, wrong: int = 0) -> torch.Tensor:
    """The top behind the cuts, of `moved` states; each past lacks its first `wrong` tokens."""
    texts = texts_for(backbone)
    pasts, _ = read_pasts(backbone, backbone.prefix(texts))
    rows = zip(pasts, moved, CUTS, texts, strict=True)
    pairs = [(past[..., wrong:cut, :], states[cut : len(text.ids)]) for past, states, cut, text in rows]
    return way(backbone, [states for _, states in pairs], [past for past, _ in pairs])


@pytest.mark.slow
@WAYS
def test_what_lies_behind_is_as_in_the_whole_text(backbone: Backbone, way: Way) -> None:
    texts = texts_for(backbone)
    assert max(CUTS) > 8  # beyond the sliding windows of the tiny models
    hidden = backbone.prefix(texts)
    moved = hidden.clone()
    for row, cut in zip(moved, CUTS, strict=True):
        row[cut:] += 0.1
    whole, found = backbone.top(moved), behind(backbone, moved, way)
    forgetful = behind(backbone, moved, way, wrong=1)
    for row, (text, cut) in enumerate(zip(texts, CUTS, strict=True)):
        expected = whole[row, cut : len(text.ids)]
        torch.testing.assert_close(found[row, : len(expected)], expected, rtol=1e-3, atol=1e-4)
        assert torch.allclose(forgetful[row, : len(expected)], expected, atol=1e-4) == (cut == 0)


def test_a_window_is_kept_to_where_the_language_models_own_part_of_the_config_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone = tiny_backbone("mistral")
    whole = behind(backbone, backbone.prefix(texts_for(backbone)), go_on)
    several = SimpleNamespace(get_text_config=lambda own=backbone.model.config: own)  # of pictures and text
    monkeypatch.setattr(backbone.model, "config", several)
    found = behind(backbone, backbone.prefix(texts_for(backbone)), go_on_together)
    for row, (text, cut) in enumerate(zip(texts_for(backbone), CUTS, strict=True)):
        length = len(text.ids) - cut
        torch.testing.assert_close(found[row, :length], whole[row, :length], rtol=1e-3, atol=1e-4)


@WAYS
def test_gradients_are_those_of_the_whole_text(llama: Backbone, way: Way) -> None:
    texts, slopes = texts_for(llama), []
    ends = [len(text.ids) - 1 for text in texts]
    from_cut = [end - cut for end, cut in zip(ends, CUTS, strict=True)]
    for run, last in ((llama.top, ends), (lambda leaf: behind(llama, leaf, way), from_cut)):
        leaf = llama.prefix(texts).requires_grad_()
        (run(leaf)[range(len(texts)), last] @ torch.linspace(-1, 1, llama.width)).sum().backward()
        assert leaf.grad is not None
        slopes.append([leaf.grad[row, max(cut, 1) :] for row, cut in enumerate(CUTS)])  # no start tokens
    for whole, cut in zip(*slopes, strict=True):
        assert float(whole.abs().max()) > 0.01
        torch.testing.assert_close(cut, whole, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_every_family_goes_on(backbone: Backbone) -> None:
    assert can_go_on(backbone)


@pytest.mark.parametrize("keeps", [True, False])
def test_a_model_that_keeps_or_heeds_no_past_is_found_out(
    monkeypatch: pytest.MonkeyPatch, keeps: bool
) -> None:
    backbone = tiny_backbone("llama")
    run = backbone.run_top

    def deaf(hidden: torch.Tensor, until: int | None = None, **arguments: Any) -> Any:
        past = arguments.pop("past_key_values", None)
        if past is not None and not past.get_seq_length(backbone.first_block) and keeps:
            return run(hidden, until, past_key_values=past, **arguments)
        return run(hidden, until, use_cache=False)

    monkeypatch.setattr(backbone, "run_top", deaf)
    assert not can_go_on(backbone)
