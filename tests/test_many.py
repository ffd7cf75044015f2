"""Many edits in one model: the joint solve, and batches that leave earlier keys alone."""

from typing import ClassVar

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.many import EditSequence, edit_many
from instructedit.errors import DataError
from test_gates import levelled
from test_subject_gates import made
from tiny_editors import distance, tiny_cases, tiny_editor, tiny_opinion

WORDS = ["Change it."] * 10


@pytest.mark.slow
def test_the_solve_of_one_edit_is_the_edit(backbone: Backbone) -> None:
    editor, cases = tiny_editor(backbone, others=2, own=1), tiny_cases(1)
    sequence = EditSequence(editor, backbone)
    sequence.add(cases, WORDS[:1])
    alone = editor.edit(backbone, cases, WORDS[:1])
    assert distance(alone.merge(), sequence.delta) < 1e-3
    assert distance(alone.merge(), edit_many(editor, backbone, cases, WORDS[:1])) < 1e-6


def test_the_order_within_a_batch_does_not_matter(llama: Backbone) -> None:
    editor, cases = tiny_editor(llama, others=2, own=1), tiny_cases(5)
    first = edit_many(editor, llama, cases, WORDS[:5])
    assert distance(first, edit_many(editor, llama, cases[::-1], WORDS[:5])) < 1e-3
    assert all(len(a) == 1 for a in first.a.values())


def test_a_later_batch_leaves_earlier_keys_alone(llama: Backbone) -> None:
    editor, cases = tiny_editor(llama), tiny_cases(6)
    sequence = EditSequence(editor, llama)
    sequence.add(cases[:3], WORDS[:3])
    before, first = sequence.delta, dict(sequence.updates)
    sequence.add(cases[3:], WORDS[3:6])
    assert sequence.count == 6
    forgetful = EditSequence(editor, llama, updates=first)  # the same updates, and no memory of their keys
    forgetful.add(cases[3:], WORDS[3:6])
    told = editor.observe(llama, cases[:3], WORDS[:3])
    for name, shape, index, rows in editor.hypernetwork.site_rows(*told):
        keys = (rows.keys.detach() * shape.statistics[index].spread).flatten(0, 1)  # in the layer's units
        kept, free = (
            float((keys @ (many.delta.dense(name) - before.dense(name))[0].mT).norm())
            for many in (sequence, forgetful)
        )
        assert kept < 0.8 * free


def test_memory_does_not_grow_with_the_edits(llama: Backbone) -> None:
    editor, cases = tiny_editor(llama, others=2, own=1), tiny_cases()
    sequence = EditSequence(editor, llama)
    sizes = []
    for start in range(0, 10, 5):
        sequence.add(cases[start : start + 5], WORDS[:5])
        sizes.append(sum(x.numel() for x in [*sequence.systems.values(), *sequence.updates.values()]))
    assert sizes[0] == sizes[1]
    assert all(torch.isfinite(x).all() for x in sequence.updates.values())


def test_an_editor_that_sums_sums_a_batch_and_reads_it_on_those_before(llama: Backbone) -> None:
    editor, cases = tiny_editor(llama, aggregation="sum"), tiny_cases(3)
    summed = editor.edit(llama, cases, WORDS[:3]).merge()
    assert distance(summed, edit_many(editor, llama, cases, WORDS[:3])) < 1e-6
    first = editor.edit(llama, cases[:2], WORDS[:2]).merge()
    with first.applied_to(llama.model):
        later = editor.edit(llama, cases[2:], WORDS[2:3]).merge()
    assert distance(first + later, edit_many(editor, llama, cases, WORDS[:3], size=2)) < 1e-4
    assert distance(summed, first + later) > 1e-3


def test_a_method_makes_batches_in_its_own_form(llama: Backbone) -> None:
    class Counting:
        name, made = "counting", ()

        def edit(self, backbone, cases, instructions=None):
            self.made = (*self.made, len(cases))
            site = backbone.sites[0]
            return LowRankDelta(
                {site.name: torch.ones(1, 1, site.d_in)}, {site.name: torch.ones(1, site.d_out, 1)}
            )

    class Sequence(Counting):
        memory: ClassVar[dict] = {}

    class Method(Counting):
        def in_sequence(self, backbone):
            self.begun = Sequence()
            return self.begun

    for size, parts in ((None, (5,)), (2, (2, 2, 1)), (9, (5,))):
        method = Method()
        delta = edit_many(method, llama, tiny_cases(5), size=size)
        assert (method.begun.made, method.made) == (parts, ())
        assert float(delta.dense(llama.sites[0].name).max()) == len(parts)
    method = Method()
    edit_many(method, llama, tiny_cases(1), size=2)
    assert method.made == (1,)


def test_no_edits_at_all_are_refused(llama: Backbone) -> None:
    with pytest.raises(DataError, match="nothing to edit"):
        edit_many(tiny_editor(llama), llama, [])


@pytest.mark.slow
def test_facts_beyond_the_room_are_refused_before_the_first_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone = levelled("llama")
    editor, cases = made(backbone, share=0.011), [*tiny_cases(3), tiny_opinion(0)]
    monkeypatch.setattr(EditSequence, "add", lambda *_: pytest.fail("a batch was made"))
    with pytest.raises(DataError, match=r"3 facts are .* for 2 more\. Make fewer"):
        edit_many(editor, backbone, cases, WORDS[:4], size=1)


def test_a_size_below_one_is_refused(llama: Backbone) -> None:
    with pytest.raises(DataError, match="at least 1"):
        edit_many(tiny_editor(llama), llama, tiny_cases(2), WORDS[:2], size=0)
