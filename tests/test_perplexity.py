"""Perplexity of a text: of the whole model, counted once a token, and what edits make of it."""

import json
import math

import pytest
import torch

from evaluation_fakes import NoiseEditor, ZeroEditor, facts
from instructedit.errors import DataError
from instructedit.evaluation import Perplexity, measure_perplexity
from instructedit.evaluation.text_cost import measure_text_cost, single_changes, tell_text_cost
from instructedit.report.store_page_text import show_perplexity

TEXT = "The capital of France is Paris. The capital of Italy is Rome. I think Rome is good. " * 3


def test_perplexity_of_one_window_is_that_of_the_whole_model(llama, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    result = measure_perplexity(llama, path, ZeroEditor().edit(llama, [None]), window=200, stride=200)
    ids = [0, *llama.tokenizer(TEXT)["input_ids"]]
    with torch.no_grad():
        logits = llama.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    nats = -sum(logits[place, token].item() for place, token in enumerate(ids[1:]))
    assert result.tokens == len(ids) - 1
    assert result.base_nats == pytest.approx(nats, rel=1e-4)
    assert (
        result.per_token() == result.per_token("base") == pytest.approx(2.718281828 ** (nats / result.tokens))
    )
    assert result.words == len(TEXT.split())
    assert result.per_word() > result.per_token()


def test_a_perplexity_without_a_finite_number_is_none_in_json_and_said_in_words():
    found = Perplexity(base_nats=20.0, edited_nats=1e5, tokens=10, words=5)
    assert found.per_token() == math.inf
    stored = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert (stored["edited_perplexity"], stored["edited_nats_per_token"]) == (None, 1e4)
    assert show_perplexity(stored) == "7.389 before, no finite number now"
    assert show_perplexity({"base_perplexity": 2.0, "edited_perplexity": 3.0}).endswith("(+50.00 %)")


def test_every_token_is_counted_once_in_windows(llama, tmp_path):
    from instructedit.evaluation.perplexity import _windows

    ids = list(range(10, 47))
    for window, stride, start in ((8, 8, (0,)), (8, 3, (0,)), (9, 8, ()), (9, 3, ())):
        parts = list(_windows(ids, start, window, stride))
        counted = [token for part in parts for token in part.targets]
        assert counted == ids[0 if start else 1 :]
        assert max(len(part.ids) - len(start) for part in parts) <= window
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    noise = NoiseEditor().edit(llama, facts()[:1])
    result = measure_perplexity(llama, path, noise, window=16, stride=5, limit=40)
    assert result.tokens == 40
    assert result.as_dict()["edited_perplexity"] != result.as_dict()["base_perplexity"]


def test_a_text_that_cannot_be_read_is_refused(llama, tmp_path):
    nothing = ZeroEditor().edit(llama, [None])
    with pytest.raises(DataError, match="cannot read the text"):
        measure_perplexity(llama, tmp_path / "missing.txt", nothing)
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match="no token"):
        measure_perplexity(llama, tmp_path / "empty.txt", nothing)
    with pytest.raises(ValueError, match="from 1 to 8"):
        measure_perplexity(llama, tmp_path / "empty.txt", nothing, window=8, stride=9)


def test_what_edits_do_to_a_text_is_their_mean_and_the_worst_of_them(llama, tmp_path):
    path, cases = tmp_path / "text.txt", facts()
    path.write_text(TEXT)
    words = [""] * len(cases)
    changes = list(single_changes(llama, NoiseEditor(), cases, words, 2))
    assert len(changes) == 2
    assert len(list(single_changes(llama, NoiseEditor(), cases, words))) == len(cases)
    found = measure_text_cost(llama, changes, path, 40)
    each = [measure_perplexity(llama, path, change, limit=40) for change in changes]
    assert (found["edits"], found["tokens"]) == (2, 40)
    assert found["base"] == each[0].per_token("base")
    assert found["edited"] == pytest.approx(sum(one.per_token() for one in each) / 2)
    ratios = [one.per_token() / one.per_token("base") for one in each]
    assert found["ratio"] == pytest.approx(sum(ratios) / 2)
    assert found["highest"] == pytest.approx(max(ratios))
    assert "mean of 2" in tell_text_cost(found)
    nothing = measure_text_cost(llama, [ZeroEditor().edit(llama, [None])], path)
    assert (nothing["ratio"], nothing["edited"]) == (1.0, nothing["base"])
    assert "with 3 edits in force" in tell_text_cost(nothing, 3)
