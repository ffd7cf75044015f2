"""Scores against the plain model: no cut, no batch, no padding, no cache."""

import functools
from dataclasses import replace

import pytest
import torch

from evaluation_fakes import NoiseEditor, empty_delta, facts
from instructedit.backbone import Text
from instructedit.backbone.generation import continue_texts
from instructedit.evaluation import evaluate, select
from instructedit.evaluation.generation import generate_greedy
from instructedit.evaluation.scoring import score_texts
from instructedit.types import Probe
from tiny_models import CONTEXT, tiny_backbone

PAIRS = [
    ("The capital of France is", "Paris"),
    ("Rome", "is a city in Italy, and people there speak"),
    ("I think the book was written by a writer who lived in London, and Madrid", "is bad"),
]


def plain_logits(backbone, ids, delta=None):
    if delta is None:
        return backbone.model(torch.tensor([ids])).logits[0]
    with delta.applied_to(backbone.model):
        return backbone.model(torch.tensor([ids])).logits[0]


@pytest.mark.slow
@torch.no_grad()
def test_scores_are_those_of_the_whole_model(backbone):
    delta = empty_delta(backbone, 3, scale=0.3)
    texts = [backbone.text(*pair) for pair in PAIRS]
    scores = score_texts(backbone, delta, texts, [2, 0, 1])
    for place, (text, edit) in enumerate(zip(texts, [2, 0, 1], strict=True)):
        span = slice(text.answer_start - 1, len(text.ids) - 1)
        base = plain_logits(backbone, text.ids)[span].log_softmax(-1)
        edited = plain_logits(backbone, text.ids, delta[edit])[span].log_softmax(-1)
        answer = torch.tensor(text.ids[text.answer_start :])
        kl = torch.nn.functional.kl_div(edited, base, log_target=True, reduction="none").sum(-1).mean()
        expected = {
            "base_log_prob": base[range(len(answer)), answer].mean(),
            "edited_log_prob": edited[range(len(answer)), answer].mean(),
            "edited_accuracy": (edited.argmax(-1) == answer).float().mean(),
            "edited_unchanged": (edited.argmax(-1) == base.argmax(-1)).float().mean(),
            "edited_kl": kl,
        }
        for name, value in expected.items():
            assert scores[name][place].item() == pytest.approx(value.item(), abs=2e-4), name
    assert scores["edited_kl"].min() > 1e-4, "the noise was too weak to tell the edited model from the base"


def test_what_a_text_is_batched_with_does_not_matter(llama):
    delta = empty_delta(llama, 3, scale=0.3)
    texts = [llama.text(*pair) for pair in PAIRS]
    together = score_texts(llama, delta, texts, [0, 1, 2])
    for place, text in enumerate(texts):
        alone = score_texts(llama, delta, [text], [place])
        for name, column in alone.items():
            assert column[0].item() == pytest.approx(together[name][place].item(), abs=1e-5), name


def test_many_texts_and_slices_of_the_head_give_the_same_scores(llama, monkeypatch):
    delta = empty_delta(llama, 3, scale=0.3)
    texts = [llama.text(*pair) for pair in PAIRS]
    once = score_texts(llama, delta, texts, [0, 1, 2])
    monkeypatch.setattr("instructedit.evaluation.scoring.BATCH_TEXTS", 2)
    monkeypatch.setattr("instructedit.evaluation.scoring.HEAD_ROWS", 3)
    again = score_texts(llama, delta, texts * 3, [0, 1, 2] * 3)
    for name, column in again.items():
        torch.testing.assert_close(column, once[name].repeat(3), atol=1e-5, rtol=1e-5)


def test_a_zero_delta_changes_nothing_at_all(llama):
    texts = [llama.text(*pair) for pair in PAIRS]
    scores = score_texts(llama, empty_delta(llama, 1), texts, [0, 0, 0])
    assert scores["edited_unchanged_exact"].tolist() == [1.0] * 3
    assert scores["edited_kl"].tolist() == [0.0] * 3
    assert torch.equal(scores["base_log_prob"], scores["edited_log_prob"])


def test_a_text_without_an_answer_has_no_score(llama):
    scores = score_texts(llama, empty_delta(llama, 1), [llama.text("Rome is"), llama.text(*PAIRS[0])], [0, 0])
    assert scores["base_exact"].isnan().tolist() == [True, False]


@torch.no_grad()
def slow_greedy(backbone, prompt, tokens, delta=None) -> str:
    """One token at a time over the whole text again."""
    ids = list(backbone.text(prompt).ids)
    start = len(ids)
    for _ in range(tokens):
        ids.append(int(plain_logits(backbone, ids, delta)[-1].argmax()))
        if ids[-1] == backbone.tokenizer.eos_token_id:
            break
    return backbone.tokenizer.decode(ids[start:], skip_special_tokens=True)


@pytest.mark.slow
def test_batched_generation_is_the_plain_loop(backbone):
    prompts = [prompt for prompt, _ in PAIRS]
    delta = empty_delta(backbone, 3, scale=0.3)
    base = generate_greedy(backbone, prompts, max_new_tokens=6, first_line=False)
    assert base == [slow_greedy(backbone, prompt, 6) for prompt in prompts]
    edited = generate_greedy(
        backbone, prompts, delta=delta, edits=[2, 0, 1], max_new_tokens=6, first_line=False
    )
    assert edited == [slow_greedy(backbone, p, 6, delta[e]) for p, e in zip(prompts, [2, 0, 1], strict=True)]
    assert edited != base


def test_a_neighbour_without_an_answer_is_compared_by_its_next_token_in_every_way(llama):
    case = replace(facts()[0], probes=(Probe("locality", "People in France speak", ()),))
    result = evaluate(llama, NoiseEditor(), [case], instructed=False, resamples=0)
    (row,) = select(result.rows, group="locality")
    assert row["edited_unchanged_exact"] == row["edited_unchanged"] is not None
    assert row["edited_exact"] is row["edited_accuracy"] is row["edited_log_prob"] is None


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_text_goes_on_as_far_beside_one_that_fills_the_context(family):
    backbone = tiny_backbone(family)
    texts = [backbone.text("Rome is"), Text((0,) + (5,) * (CONTEXT - 4), CONTEXT - 3)]
    told = {"first_line": False, "ends": False}
    together = continue_texts(backbone, texts, 12, **told)
    assert [len(found.ids) for found in together] == [12, 3]
    assert together[0].ids == continue_texts(backbone, texts[:1], 12, **told)[0].ids
    assert together[1].ids == continue_texts(backbone, texts[1:], 12, **told)[0].ids


def test_a_text_goes_on_over_end_tokens_where_it_is_told_to(llama, monkeypatch):
    letters = [llama.tokenizer(letter)["input_ids"][0] for letter in "Rom"]
    script = [letters[0], llama.tokenizer.eos_token_id, *letters[1:]]

    def generate(**options) -> list[str]:
        told = iter(script)

        def scripted(hidden):
            row = torch.zeros(len(hidden), llama.head.weight.shape[0])
            row[:, next(told)] = 1.0
            return row

        monkeypatch.setattr(llama, "logits", scripted)
        return generate_greedy(llama, ["Rome is"], max_new_tokens=4, first_line=False, **options)

    assert generate() == ["R"]
    assert generate(ends=False) == ["Rom"]


def test_a_model_without_position_ids_generates_the_same():
    backbone = tiny_backbone("llama")
    prompts = [prompt for prompt, _ in PAIRS] * 2
    expected = generate_greedy(backbone, prompts, max_new_tokens=5)
    trunk = backbone.model.base_model
    forward = trunk.forward

    @functools.wraps(lambda: None)
    def without_positions(input_ids, attention_mask=None, past_key_values=None, use_cache=None):
        return forward(input_ids, attention_mask, past_key_values=past_key_values, use_cache=use_cache)

    trunk.forward = without_positions
    assert generate_greedy(backbone, prompts, max_new_tokens=5) == expected


def test_generation_stops_at_the_end_of_the_first_line(llama, monkeypatch):
    newline = llama.tokenizer("\n")["input_ids"][0]
    letters = [llama.tokenizer(letter)["input_ids"][0] for letter in "Ro"]
    script = iter([newline, letters[0], letters[1], newline, letters[0], letters[0]])

    def scripted(hidden):
        row = torch.zeros(len(hidden), llama.head.weight.shape[0])
        row[:, next(script)] = 1.0
        return row

    monkeypatch.setattr(llama, "logits", scripted)
    assert generate_greedy(llama, ["Rome is"], max_new_tokens=6) == ["Ro"]
    assert next(script) == letters[0], "generation went on behind the first line"
