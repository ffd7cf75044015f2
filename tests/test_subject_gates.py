"""Facts that share a model by neurons of their own: open at their subjects, shut elsewhere, never shared."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors import subject_gates
from instructedit.editors.course import Company, Course
from instructedit.editors.heard import Heard, hear_subjects, read_ends
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.many import EditSequence
from instructedit.editors.neuron_config import NeuronConfig
from instructedit.editors.requests import EditorConfig
from instructedit.editors.subject_gates import ENOUGH, GateWriter, start_writer
from instructedit.editors.together import FactWriter
from instructedit.editors.writing import read_keys
from instructedit.errors import DataError
from instructedit.evaluation.curve_edits import SolvedEdits, load_edits, save_edits
from instructedit.evaluation.curve_folder import digest_cases
from instructedit.factors import answer_nll
from instructedit.types import EditCase
from test_gates import levelled
from test_together import STEPS, WORDS
from tiny_editors import tiny_cases, tiny_editor

pytestmark = pytest.mark.slow

NEURONS = NeuronConfig(
    each=2, steps=10, weight=0.1, margin=0.0, rate=1.0, depth=0.0, sites=2, rounds=1, asked=0, ordinary=200
)
CONFIG = EditorConfig(neurons=NEURONS, together=STEPS)


@pytest.fixture(scope="module")
def llama() -> Backbone:
    return levelled("llama")


def made(backbone: Backbone, **changes: object) -> InstructedEditor:
    editor = tiny_editor(backbone, others=2, own=1)
    editor.adjust(neurons=replace(NEURONS, **changes), together=STEPS, distil=("sentiment",), near=2)
    return editor


def writer_of(sequence: EditSequence) -> GateWriter:
    assert isinstance(sequence.writer, GateWriter)
    return sequence.writer


@torch.no_grad()
def read(backbone: Backbone, prompt: str, delta: LowRankDelta) -> torch.Tensor:
    with delta.applied_to(backbone.model):
        return backbone.model(input_ids=torch.tensor([backbone.text(prompt).ids])).logits[0]


@torch.no_grad()
def test_a_batch_makes_its_answers_likelier(llama: Backbone) -> None:
    editor, cases = made(llama), tiny_cases(2)
    asked = [llama.text(case.prompt, case.wanted) for case in cases]
    sequence = EditSequence(editor, llama)
    wide = sequence.backbone
    before = answer_nll(wide, wide.top(wide.prefix(asked)), asked)
    sequence.add(cases, WORDS[:2])
    with sequence.delta.applied_to(llama.model):
        after = answer_nll(wide, wide.top(wide.prefix(asked)), asked)
    assert float((after - before).max()) < -0.02


def hear(writer: GateWriter, cases: Sequence[EditCase], under: LowRankDelta) -> Heard:
    return hear_subjects(writer.backbone, writer._names, cases, [()] * len(cases), under)


def test_rows_at_which_subjects_end_are_the_means_over_contexts(llama: Backbone) -> None:
    writer, cases = writer_of(EditSequence(made(llama), llama)), tiny_cases(3)
    nothing = LowRankDelta({}, {})
    found = read_ends(writer.backbone, writer._names, cases, nothing)
    for place, case in enumerate(cases):
        known = read_keys(writer.backbone, writer._names, case, (), nothing).subject
        for name, rows in found.items():
            torch.testing.assert_close(rows[place], known[name].mean(0), rtol=1e-3, atol=1e-4)
    assert read_ends(writer.backbone, writer._names, [], nothing) == {}


def test_facts_about_one_subject_open_at_the_same_rows(llama: Backbone) -> None:
    editor, case = made(llama), tiny_cases(1)[0]
    other = replace(case, prompt=f"People in {case.subject} speak", target_new="Greek")
    writer = writer_of(EditSequence(editor, llama))
    nothing = LowRankDelta({}, {})
    heard = hear(writer, [case, other], nothing)
    assert heard.subjects == [0, 0]
    bends = writer.fit(writer.grounds[0], heard).bends
    open_at = (heard.rows[writer.grounds[0].neurons.gate] @ bends.mT > 0).float()
    assert (open_at[heard.owner == 0].mean(0) > 0.8).all()
    assert (open_at[heard.owner < 0] == 0).all()


def test_ordinary_text_that_names_the_subject_is_where_its_neuron_may_open(llama: Backbone) -> None:
    case, nothing = tiny_cases(1)[0], LowRankDelta({}, {})
    writer = writer_of(EditSequence(made(llama), llama))
    heard, ground = hear(writer, [case], nothing), writer.grounds[0]
    own = heard.rows[ground.neurons.gate][heard.owner == 0]
    form = torch.tensor(heard.forms[0][0])
    passage = torch.cat([torch.cat([ground.rows[: len(form) - 1], row[None]]) for row in own])
    rows, ids = torch.cat([passage, ground.rows]), torch.cat([form.repeat(len(own)), ground.ids])
    margins = [
        float(writer.fit(replace(ground, rows=rows, ids=known), heard).margins)
        for known in (ids, torch.full_like(ids, -1))
    ]
    assert margins[0] > 1.0
    assert margins[1] < 0.1


def test_facts_are_practised_beside_earlier_ones_about_their_subjects(
    llama: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = tiny_cases(2)
    later = replace(first, prompt=f"People in {first.subject} speak", target_new="Greek")
    seen: list[set[str]] = []
    plan = subject_gates.plan_course

    def spied(practices: object, company: Company, *rest: object) -> Course:
        seen.append({llama.tokenizer.decode(text.ids) for text in company.earlier})
        return plan(practices, company, *rest)

    monkeypatch.setattr(subject_gates, "plan_course", spied)
    sequence = EditSequence(made(llama, replay=2), llama)
    for case in (first, other, later):
        sequence.add([case], WORDS[:1])
    assert seen[:2] == [set(), set()]
    assert any(text.endswith(f"{first.prompt} {first.target_new}") for text in seen[2])
    assert not any(other.subject in text for text in seen[2])


def test_each_fact_takes_neurons_of_its_own_in_different_blocks(llama: Backbone) -> None:
    editor, cases = made(llama), tiny_cases(3)
    sequence = EditSequence(editor, llama)
    writer = writer_of(sequence)
    sequence.add(cases[:2], WORDS[:2])
    assert writer.taken == [2, 2]
    first = {name: update.clone() for name, update in sequence.updates.items()}
    sequence.add(cases[2:], WORDS[:1])
    assert writer.taken == [3, 3]
    for ground in writer.grounds:
        names = ground.neurons
        moved = (sequence.updates[names.gate] - first[names.gate]).abs().sum(1) > 1e-6
        assert moved.nonzero().flatten().tolist() == [int(ground.spare[2])]
        moved = (sequence.updates[names.down] - first[names.down]).abs().sum(0) > 1e-6
        assert moved.nonzero().flatten().tolist() == [int(ground.spare[2])]
        assert len(writer.past[names.gate]) == 3


def test_shut_neurons_cost_no_more_than_those_whose_places_they_take(llama: Backbone) -> None:
    """What does not name the subject is as it is in a model without the neurons that were taken."""
    editor, cases = made(llama), tiny_cases(1)
    sequence = EditSequence(editor, llama)
    sequence.add(cases, WORDS[:1])
    silent = {}
    for ground in writer_of(sequence).grounds:
        one = torch.nn.functional.one_hot(ground.spare[:1], ground.inner).float()
        silent[ground.neurons.down] = (one[None], -ground.writes[:1].mT[None])
    without = LowRankDelta({n: a for n, (a, _) in silent.items()}, {n: b for n, (_, b) in silent.items()})
    prompt = "The book was written by a writer who"
    nothing = LowRankDelta({}, {})
    torch.testing.assert_close(
        read(llama, prompt, sequence.delta), read(llama, prompt, without), rtol=0.05, atol=0.05
    )
    told = read(llama, cases[0].prompt, sequence.delta) - read(llama, cases[0].prompt, without)
    assert float(told.abs().max()) > 0.2
    assert float((read(llama, prompt, without) - read(llama, prompt, nothing)).abs().max()) > 0


@pytest.mark.parametrize(("share", "room"), [(0.25, 48), (0.5, 96)])
def test_a_model_without_room_says_so_and_keeps_its_edits(llama: Backbone, share: float, room: int) -> None:
    editor, cases = made(llama, share=share), tiny_cases(2)
    sequence = EditSequence(editor, llama)
    writer = writer_of(sequence)
    writer.taken = [len(ground.spare) - 1 for ground in writer.grounds]
    sequence.add(cases[:1], WORDS[:1])
    before = {name: update.clone() for name, update in sequence.updates.items()}
    with pytest.raises(DataError, match=rf"no neurons are left .* {2 * room} are in use"):
        sequence.add(cases[1:], WORDS[:1])
    assert writer.taken == [room, room]
    assert sequence.count == 1
    assert all(torch.equal(sequence.updates[name], update) for name, update in before.items())


def test_what_has_not_taken_gets_no_more_neurons_than_there_are(
    llama: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor, cases = made(llama, rounds=2), tiny_cases(3)
    monkeypatch.setattr(editor, "taken", lambda _backbone, asked, _delta: [False] * len(asked))
    sequence = EditSequence(editor, llama)
    writer = writer_of(sequence)
    writer.taken = [len(ground.spare) - 3 for ground in writer.grounds]
    assert writer.room == 3
    sequence.add(cases[:2], WORDS[:2])  # and one of them once more, for which there is room
    assert writer.room == 0
    assert sequence.count == 2
    with pytest.raises(DataError, match="no neurons are left"):
        sequence.add(cases[2:], WORDS[:1])


def test_a_sequence_goes_on_from_its_state_as_if_it_had_not_stopped(llama: Backbone, tmp_path: Path) -> None:
    editor, cases = made(llama), tiny_cases(3)
    whole, first, again = (SolvedEdits(editor, llama) for _ in range(3))
    for edits in (whole, first):
        edits.add(cases[:2], WORDS[:2])
    path = tmp_path / "state.safetensors"
    save_edits(first, path, {"seconds": 1.0, "records": digest_cases(cases[:2])})
    assert load_edits(again, path, cases, WORDS[:3]) == 1.0
    for edits in (whole, again):
        edits.add(cases[2:], WORDS[:1])
    assert writer_of(again).taken == writer_of(whole).taken
    for name, update in whole.updates.items():
        torch.testing.assert_close(again.updates[name], update, rtol=1e-4, atol=1e-6)


def test_a_sequence_goes_on_with_its_own_neurons_where_others_are_spare(llama: Backbone) -> None:
    editor, cases = made(llama), tiny_cases(3)
    first, again = EditSequence(editor, llama), EditSequence(editor, llama)
    first.add(cases[:2], WORDS[:2])
    writer, other = writer_of(first), writer_of(again)
    kept = {name: x.clone() for name, x in writer.memory.items()}
    for ground in writer.grounds:  # as another machine might have ordered them, one of them not spare there
        order = kept[f"{subject_gates.SPARE}{ground.neurons.gate}"]
        alien = next(n for n in range(ground.inner) if n not in ground.spare.tolist())
        order.copy_(torch.cat([order[3:4], torch.tensor([alien]), order[:3], order[4:-1]]))
    other.memory = kept
    assert other.taken == [1, 1]
    for ground, own in zip(other.grounds, writer.grounds, strict=True):
        assert ground.spare[:3].tolist() == [int(own.spare[3]), *own.spare[:2].tolist()]
        torch.testing.assert_close(ground.writes[0], own.writes[3])
    again.add(cases[2:], WORDS[:1])
    for ground, own in zip(other.grounds, writer.grounds, strict=True):
        moved = again.updates[ground.neurons.down].abs().sum(0) > 1e-6
        assert moved.nonzero().flatten().tolist() == [int(own.spare[0])]


def test_an_earlier_fact_of_the_same_subject_is_no_stranger(llama: Backbone) -> None:
    editor, case = made(llama), tiny_cases(1)[0]
    sequence = EditSequence(editor, llama)
    sequence.add([case], WORDS[:1])
    heard = hear(writer_of(sequence), [case], sequence.delta)
    for ground in writer_of(sequence).grounds:
        name = ground.neurons.gate
        own = writer_of(sequence).past[name]
        both = torch.cat([own, own + 100])
        assert subject_gates._among(both, heard.rows[name], heard.owner).tolist() == [True, False]


def test_where_mlps_are_built_otherwise_facts_share_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    llama = levelled("llama")
    assert start_writer(llama, EditorConfig(together=replace(STEPS, steps=0))) is None
    assert isinstance(start_writer(llama, CONFIG), GateWriter)
    assert isinstance(start_writer(llama, EditorConfig(together=STEPS)), FactWriter)
    monkeypatch.setattr(subject_gates, "find_neurons", lambda *_: None)
    assert isinstance(start_writer(levelled("llama"), CONFIG), FactWriter)


@pytest.mark.parametrize(("loud", "heard"), [(1.0, 1.0), (3.0, 1.5), (5.0, 0.0)])
def test_what_is_read_much_louder_than_the_subject_is_not_heard_so(
    llama: Backbone, loud: float, heard: float
) -> None:
    writer = writer_of(EditSequence(made(llama, fade=0.25), llama))
    ground, place = writer.grounds[0], torch.tensor([0])
    assert ground.neurons.up
    bends = loud * writer.passed * ground.one[None]  # what every row is about 1 along
    new = writer.take(ground, place, bends)
    read_up = ground.reads[ground.neurons.up][:1] + new.a[ground.neurons.up][0]
    unit = ground.one / ground.one.square().sum()
    assert float(loud * read_up[0] @ unit) == pytest.approx(heard, abs=1e-4)


def test_a_fact_takes_a_neuron_where_its_subject_stands_out(llama: Backbone) -> None:
    writer, cases = writer_of(EditSequence(made(llama, each=1), llama)), tiny_cases(5)
    clear, faint = 2 * ENOUGH, ENOUGH / 2
    margins = torch.tensor([[clear, faint, clear, faint, 0.0], [clear, clear, clear, 0.0, faint]])
    assert writer._assign(cases, margins.__getitem__) == {0: [0, 2, 3], 1: [1, 4]}
    writer.taken = [len(writer.grounds[0].spare), 0]
    assert writer._assign(cases, margins.__getitem__) == {1: [0, 1, 2, 3, 4]}


def test_a_subject_that_hardly_stands_out_is_read_in_no_smaller_unit_than_the_spread(llama: Backbone) -> None:
    """So nothing that lies within a few standard deviations is read many times as loud as the subject."""
    writer, case = writer_of(EditSequence(made(llama), llama)), tiny_cases(1)[0]
    ground, nothing = writer.grounds[0], LowRankDelta({}, {})
    heard = hear(writer, [case], nothing)
    gate = ground.neurons.gate
    alike = heard.rows[gate][heard.owner == 0]  # once more, as somebody else's
    rows = {gate: torch.cat([heard.rows[gate], alike])}
    mixed = replace(heard, rows=rows, owner=torch.cat([heard.owner, heard.owner.new_full((len(alike),), -1)]))
    fit = writer.fit(ground, mixed)
    assert float(fit.margins) < 1 < float(writer.fit(ground, heard).margins)
    every = torch.cat([mixed.rows[gate], ground.rows])
    assert float((every @ fit.bends[0]).std()) <= 1.01 * NEURONS.steep
