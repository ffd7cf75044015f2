"""Edits that have not taken are made again on top of themselves; the others are left as they are."""

from dataclasses import replace

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.errors import DataError
from tiny_editors import tiny_cases, tiny_editor, tiny_opinion


def test_a_spread_delta_changes_nothing_elsewhere():
    one = LowRankDelta({"s": torch.randn(2, 3, 4)}, {"s": torch.randn(2, 5, 3)})
    dense = one.spread([3, 1], 4).dense("s")
    assert torch.equal(dense[3], one.dense("s")[0])
    assert torch.equal(dense[1], one.dense("s")[1])
    assert not dense[[0, 2]].any()


def test_taken_is_the_greedy_answer(llama: Backbone):
    editor, cases = tiny_editor(llama), tiny_cases(4)
    nothing = editor.edit(llama, cases).scale(0.0)
    first = []
    for case in cases:
        text = llama.text(case.prompt, case.wanted)
        logits = llama.model(input_ids=torch.tensor([text.ids])).logits[0]
        greedy = logits[list(text.positions)].argmax(-1).tolist()
        first.append(tuple(greedy) == text.targets)
    assert editor.taken(llama, cases, nothing) == first
    assert editor.taken(llama, [tiny_opinion(0)], editor.edit(llama, [tiny_opinion(0)])) == [True]


@pytest.mark.slow
def test_a_second_round_is_the_edit_of_the_edited_model(llama: Backbone):
    editor, cases = tiny_editor(llama, log_step=-4.0), tiny_cases(6)
    words = ["Change this fact."] * len(cases)
    once = editor.edit(llama, cases, words)
    failed = [i for i, taken in enumerate(editor.taken(llama, cases, once)) if not taken]
    assert failed
    editor.config = replace(editor.config, rounds=2)
    twice = editor.edit(llama, cases, words)
    with torch.no_grad():
        again = editor.propose(
            llama, [cases[i] for i in failed], [words[0]] * len(failed), under=once[failed]
        )
    for site in once.a:
        expected = once.dense(site).index_add(0, torch.tensor(failed), again.dense(site))
        torch.testing.assert_close(twice.dense(site), expected, atol=1e-5, rtol=1e-4)


def test_no_case_is_no_edit(llama: Backbone) -> None:
    with pytest.raises(DataError, match="nothing to edit"):
        tiny_editor(llama).edit(llama, [])
