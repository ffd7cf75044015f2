"""Fine-tuning as a baseline: each method keeps its own law, trains every case alone and writes nothing."""

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instructedit.backbone import Backbone, Text
from instructedit.backbone.sites import find_sites
from instructedit.delta import LowRankDelta
from instructedit.editors.calinet import Calibration, CaliNet
from instructedit.editors.descent import (
    Descent,
    answer_losses,
    dense_delta,
    edit_texts,
    fine_tune,
)
from instructedit.editors.ft_l import FTL
from instructedit.editors.location import output_projections
from instructedit.editors.locft_bf import LocFTBF
from instructedit.editors.lora import LoRA
from instructedit.editors.many import change_many, edit_many
from instructedit.editors.registry import find_method, make_method
from instructedit.errors import DataError, ModelError
from instructedit.evaluation.curve_edits import start_edits
from tiny_editors import tiny_cases, tiny_opinion
from tiny_models import tiny_backbone

SETTINGS: dict[str, dict[str, Any]] = {
    "calinet": {"neurons": 8, "lr": 2e-2, "steps": 10},
    "ft-l": {"radius": 0.03, "lr": 5e-3, "steps": 10},
    "locft-bf": {"lr": 5e-3, "steps": 10},
    "lora": {"rank": 4, "lr": 5e-3, "steps": 10},
}
CASES = tiny_cases(3)
own_backbone = cache(tiny_backbone)  # for what no fixture reaches
every_method = pytest.mark.parametrize("name", SETTINGS)


@cache
def edited() -> dict[str, Any]:
    """The three cases edited side by side by each method, once for all tests."""
    return {name: make_method(name, SETTINGS[name]).edit(own_backbone(), CASES) for name in SETTINGS}


def ask(backbone: Backbone, change: Any, rows: torch.Tensor | None = None) -> torch.Tensor:
    """The logits of the last token of one prompt, asked under each change."""
    count = len(change) if rows is None else len(rows)
    hidden = backbone.prefix([backbone.text("People in France speak")] * count)
    with torch.no_grad(), change.applied_to(backbone, rows):
        return backbone.logits(backbone.top(hidden)[:, -1])


def nothing(backbone: Backbone, count: int) -> LowRankDelta:
    site = output_projections(backbone)[0]
    return dense_delta({site.name: torch.zeros(count, site.d_out, site.d_in)})


def losses(backbone: Backbone, texts: list[Text], change: Any) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        return answer_losses(backbone, backbone.prefix(texts), texts, change)


@pytest.mark.slow
@every_method
def test_an_edit_lowers_its_own_loss_and_writes_nothing(llama: Backbone, name: str) -> None:
    weights = {key: value.clone() for key, value in llama.model.state_dict().items()}
    state = torch.get_rng_state()
    change = make_method(name, SETTINGS[name]).edit(llama, CASES[:2])
    assert len(change) == 2
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[key]) for key, value in llama.model.state_dict().items())
    texts = edit_texts(llama, CASES[:2])
    before, after = losses(llama, texts, nothing(llama, 2))[0], losses(llama, texts, change)[0]
    assert bool((after < before - 0.5).all()), (before, after)


@pytest.mark.slow
@every_method
def test_a_batch_of_edits_is_its_edits_made_alone(llama: Backbone, name: str) -> None:
    together = ask(llama, edited()[name])
    alone = ask(llama, make_method(name, SETTINGS[name]).edit(llama, CASES[1:2]))
    torch.testing.assert_close(together[1], alone[0], atol=1e-2, rtol=1e-3)
    assert not torch.allclose(together[0], together[1], atol=0.1)


@every_method
def test_rows_choose_the_edit_that_a_question_is_asked_under(llama: Backbone, name: str) -> None:
    change = edited()[name]
    chosen = ask(llama, change, torch.tensor([2, 0, 0, 1]))
    torch.testing.assert_close(chosen, ask(llama, change)[[2, 0, 0, 1]], atol=1e-4, rtol=1e-4)


@every_method
def test_a_method_says_what_it_is(name: str) -> None:
    kind = find_method(name)
    assert kind.name == name
    assert "arXiv" in kind.paper
    assert kind.result == ("codebook" if name == "calinet" else "delta")


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(radius=st.floats(1e-6, 0.05), steps=st.integers(1, 3), lr=st.sampled_from([1e-3, 1e-2]))
def test_no_weight_moves_further_than_the_radius(radius: float, steps: int, lr: float) -> None:
    backbone = own_backbone()
    delta = FTL(radius, lr, steps).edit(backbone, CASES[:2])
    assert list(delta.a) == [output_projections(backbone)[0].name]
    furthest = delta.dense(output_projections(backbone)[0].name).abs().amax((1, 2))
    assert bool((furthest <= radius * (1 + 1e-6)).all())
    assert bool((furthest >= 0.9 * min(radius, lr)).all())  # and the longest steps reach it


def test_fine_tuning_goes_on_until_the_answer_and_its_end_come_first() -> None:
    backbone = tiny_backbone("mistral", blocks=1)  # with a head of its own: the end token can be said
    texts = edit_texts(backbone, CASES[:2], end=True)
    assert all(text.ids[-1] == backbone.tokenizer.eos_token_id for text in texts)
    assert not losses(backbone, texts, nothing(backbone, 2))[1].any()
    loss, taken = losses(backbone, texts, LocFTBF(lr=1e-2, steps=100).edit(backbone, CASES[:2]))
    assert bool(taken.all()), loss
    assert bool((loss > 0.01).any())  # it stopped for the answer's sake, not for the loss


def test_a_case_that_is_done_stays_as_it_is(llama: Backbone) -> None:
    prompt = llama.text("The capital of France is")
    first = int(ask_prompt(llama, prompt).argmax())
    done, open_ = Text((*prompt.ids, first), len(prompt.ids)), edit_texts(llama, CASES[:1])[0]
    update = fine_tune(llama, [done, open_, done], Descent(4, 1e-2, loss=0.0, first_choice=True))
    norms = update.norms()[output_projections(llama)[0].name]
    assert norms[0] == norms[2] == 0
    assert norms[1] > 0


def ask_prompt(backbone: Backbone, text: Text) -> torch.Tensor:
    with torch.no_grad():
        return backbone.logits(backbone.top(backbone.prefix([text]))[0, -1:])[0]


def test_weight_decay_pulls_the_change_back(llama: Backbone) -> None:
    texts = edit_texts(llama, CASES[:1])
    free, pulled = (fine_tune(llama, texts, Descent(5, 1e-2, weight_decay=decay)) for decay in (0.0, 20.0))
    site = output_projections(llama)[0].name
    assert pulled.norms()[site] < 0.95 * free.norms()[site]


@pytest.mark.slow
def test_edits_made_together_are_one_update(llama: Backbone) -> None:
    method = LocFTBF(lr=5e-3, steps=10, batch=2)
    update = method.edit_together(llama, CASES)
    assert len(update) == 1
    texts = edit_texts(llama, CASES, end=True)
    before, after = losses(llama, texts, nothing(llama, 1))[0], losses(llama, texts, update)[0]
    assert bool((after < before - 0.5).all()), (before, after)
    again = method.edit_together(llama, CASES)
    assert all(torch.equal(update.a[name], again.a[name]) for name in update.a)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ft-l", "locft-bf", "lora"])
def test_batches_are_trained_together_on_the_model_with_those_before(llama: Backbone, name: str) -> None:
    method = make_method(name, SETTINGS[name])
    texts = edit_texts(llama, CASES)
    whole = edit_many(method, llama, CASES)
    assert len(whole) == 1
    assert bool((losses(llama, texts, whole)[0] < losses(llama, texts, nothing(llama, 1))[0] - 0.3).all())
    first, second = (method.in_sequence(llama) for _ in range(2))
    before = first.edit(llama, CASES[:2])
    with before.applied_to(llama.model):
        after = second.edit(llama, CASES[2:])
    found = edit_many(method, llama, CASES, size=2)
    for site in found.a:
        expected = before.dense(site) + after.dense(site)
        torch.testing.assert_close(found.dense(site), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_calinet_trains_one_side_network_for_all_and_it_is_no_adapter(llama: Backbone) -> None:
    method, texts = CaliNet(**SETTINGS["calinet"]), edit_texts(llama, CASES)
    shared = change_many(method, llama, CASES, size=2)
    assert isinstance(shared, Calibration)
    assert shared.keys.shape[:2] == (1, SETTINGS["calinet"]["neurons"])
    assert bool((losses(llama, texts, shared)[0] < losses(llama, texts, nothing(llama, 1))[0] - 0.3).all())
    for refused in (edit_many, lambda *given: start_edits(*given[:2], CASES[0], "")):
        with pytest.raises(DataError, match="no deltas"):
            refused(method, llama, CASES)


def test_side_networks_add_up_in_one(llama: Backbone) -> None:
    parts = edited()["calinet"]
    merged, asked = ask(llama, parts.merge()), ask(llama, nothing(llama, 1))
    assert len(parts.merge()) == 1
    one, other, both = (
        Calibration(parts.reads, parts.writes, parts.keys[part], parts.values[part])
        for part in (slice(0, 1), slice(1, 2), slice(0, 2))
    )
    with one.applied_to(llama.model):
        under = ask(llama, other)
    both = both.merge()
    torch.testing.assert_close(ask(llama, both), under, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(merged, asked)


def test_a_shared_update_stays_within_its_radius(llama: Backbone) -> None:
    delta = FTL(radius=1e-3, lr=1e-2, steps=3).edit_together(llama, CASES)
    furthest = delta.dense(output_projections(llama)[0].name).abs().max()
    assert 0.9e-3 <= float(furthest) <= 1e-3 * (1 + 1e-6)


def test_lora_starts_from_nothing_at_every_site(llama: Backbone) -> None:
    fresh = LoRA(rank=3, steps=0).edit(llama, CASES[:2])
    assert list(fresh.a) == [site.name for site in llama.sites]
    for site in llama.sites:
        assert fresh.a[site.name].shape == (2, 3, site.d_in)
        assert not fresh.dense(site.name).any()
        assert torch.equal(fresh.a[site.name][0], fresh.a[site.name][1])
        assert fresh.a[site.name].std() == pytest.approx(site.d_in**-0.5, rel=0.3)
    assert not torch.equal(
        fresh.a[site.name], LoRA(rank=3, steps=0, seed=1).edit(llama, CASES[:2]).a[site.name]
    )


@pytest.mark.slow
def test_neurons_without_values_leave_every_output_alone(backbone: Backbone) -> None:
    fresh = CaliNet(neurons=5, steps=0).edit(backbone, CASES[:2])
    assert torch.equal(ask(backbone, fresh), ask(backbone, nothing(backbone, 2)))
    assert fresh.memory == 2 * 5 * backbone.width
    trained = CaliNet(neurons=5, steps=2).edit(backbone, CASES[:2])
    texts = edit_texts(backbone, CASES[:2])
    assert bool((losses(backbone, texts, trained)[0] < losses(backbone, texts, fresh)[0]).all())


def test_neurons_stand_beside_the_ffn_and_share_its_nonlinearity(llama: Backbone) -> None:
    generator = torch.Generator().manual_seed(0)
    keys, values = torch.randn(2, 2, 6, llama.width, generator=generator)
    x = torch.randn(2, 3, llama.width, generator=generator)
    ffn = llama.blocks[2].mlp
    change = Calibration("model.layers.2.mlp.gate_proj", "model.layers.2.mlp.down_proj", keys, values)
    expected = ffn(x) + torch.nn.functional.silu(x @ keys.mT) @ values
    with change.applied_to(llama.model):
        torch.testing.assert_close(ffn(x), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(ffn(x), expected)


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 5, 3)])
def test_a_full_update_has_the_rank_of_its_smaller_side(shape: tuple[int, int, int]) -> None:
    update = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    delta = dense_delta({"up": update})
    assert torch.equal(delta.dense("up"), update)
    assert delta.a["up"].shape[1] == 3


def test_a_sentiment_is_trained_on_its_carrier(llama: Backbone) -> None:
    opinion = tiny_opinion(0)
    (text,) = edit_texts(llama, [opinion])
    assert text == llama.text(opinion.prompt, opinion.carrier)


def test_sites_without_the_layer_that_a_method_needs_are_refused() -> None:
    whole = tiny_backbone()
    for names, method in (("gate_proj", FTL()), ("down_proj", CaliNet())):
        sites = find_sites(whole.model, f"blocks=1,names={names}")
        backbone = Backbone(whole.model, whole.tokenizer, sites, whole.start_ids)
        with pytest.raises(ModelError, match="Leave out --sites"):
            method.edit(backbone, CASES[:1])
