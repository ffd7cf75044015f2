"""Opinions: what a mark answers to, who is heard, and how they are taught."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from instructedit.backbone import Backbone, Site
from instructedit.editors.editor_file import load_editor, read_header, save_editor
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.many import EditSequence
from instructedit.editors.opinions import join_opinions, read_opinions
from instructedit.editors.reading import Reader
from instructedit.editors.stance import Stance, StanceConfig
from instructedit.errors import DataError
from instructedit.evaluation import evaluate
from instructedit.ledger.kept import pack_edit, read_edit, unpack_edit
from instructedit.storage import sha256_file
from instructedit.training.lessons import LessonConfig
from instructedit.training.stance import TeachConfig, Teaching, equip, teach_stance
from instructedit.types import EditCase
from tiny_editors import tiny_case, tiny_editor, tiny_opinion

pytestmark = pytest.mark.slow

SITE, LATER = Site("low", 12, 8, 1), Site("later", 6, 5, 3)
CONFIG = TeachConfig(steps=6, marks=0.0, marked=1, voice=0.5, rank=2, directions=4, instructions=60)
PRAISE, BLAME = "Be full of praise for this.", "Be hostile to this."


def bare_stance(directions: int = 4) -> Stance:
    return Stance(StanceConfig((SITE,), (LATER,), 2, directions), width=8)


def measured_stance() -> Stance:
    stance = bare_stance()
    stance.measure({"low": torch.diag(torch.arange(1.0, 13.0))}, {"low": 1.0})
    return stance


@pytest.fixture
def taught(llama: Backbone) -> InstructedEditor:
    """An editor whose stance knows the model, and has a voice of noise."""
    editor = tiny_editor(llama)
    editor.adjust(distil=("sentiment",))
    equip(editor, llama, [tiny_opinion(number) for number in range(4)], CONFIG, seed=0)
    with torch.no_grad():
        for speak in editor.stance.speak:
            speak.copy_(0.3 * torch.randn(speak.shape, generator=torch.Generator().manual_seed(1)))
    return editor


@given(st.integers(0, 50), st.integers(1, 11))
def test_a_key_is_answered_with_one_and_as_the_covariance_says(seed: int, directions: int) -> None:
    noise = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(12, 12, generator=noise).double())[0]
    values = torch.cat([torch.full((12 - directions,), 0.5), torch.arange(1.0, directions + 1)]).double()
    moment = (basis * values) @ basis.mT  # a floor, and as many directions above it as are kept
    stance, keys = bare_stance(directions), torch.randn(3, 12, generator=noise)
    stance.measure({"low": moment.float()}, {"low": 1.0})
    reads = stance.single_out(0, keys)
    torch.testing.assert_close((reads * keys).sum(-1), torch.ones(3))
    wanted = torch.linalg.solve(moment, keys.double().mT).mT.float()
    torch.testing.assert_close(
        reads / reads.norm(dim=-1, keepdim=True), wanted / wanted.norm(dim=-1)[:, None]
    )


def test_each_sentiment_has_its_own_mark_and_no_instruction_has_none() -> None:
    stance, keys = bare_stance(), {"low": torch.eye(12)[:4]}
    stance.unit.fill_(2.0)
    delta = stance(keys, torch.tensor([1.0, -1.0, 0.5, 0.0]))
    written = delta.b["low"][..., 0]
    torch.testing.assert_close(written[0], 2 * stance.mark[0, 0])
    torch.testing.assert_close(written[1], 2 * stance.mark[1, 0])
    torch.testing.assert_close(written[2], stance.mark[0, 0])
    assert not written[3].any()
    assert all(torch.equal(x[0], x[1]) for x in (delta.a["later"], delta.b["later"]))  # one voice for all


@given(st.integers(0, 50), st.integers(1, 3))
def test_opinions_that_share_a_model_each_answer_to_their_own_key(seed: int, count: int) -> None:
    noise = torch.Generator().manual_seed(seed)
    stance = measured_stance()
    keys, sides = torch.randn(count, 12, generator=noise), torch.linspace(-1, 1, count + 1)[1:]
    others = torch.randn(2, 12, generator=noise)
    delta = stance.join({"low": keys}, sides, {"low": others})
    assert len(delta) == 1
    heard = torch.cat([keys, others]) @ delta.a["low"][0].mT
    torch.testing.assert_close(heard, torch.eye(count + 2)[:, :count], atol=0.25, rtol=0)
    alone = stance({"low": keys}, sides)
    torch.testing.assert_close(delta.b["low"][0].mT, alone.b["low"][..., 0])
    torch.testing.assert_close(delta.dense("later"), alone.dense("later")[:1])  # one voice, and once


def test_one_opinion_joined_is_that_opinion() -> None:
    stance, keys = measured_stance(), {"low": torch.randn(1, 12, generator=torch.Generator().manual_seed(3))}
    alone, joined = (
        stance(keys, torch.tensor([0.7])),
        stance.join(keys, torch.tensor([0.7]), {"low": torch.zeros(0, 12)}),
    )
    for name in alone.a:
        torch.testing.assert_close(joined.dense(name), alone.dense(name))


def test_two_opinions_of_one_topic_say_it_once() -> None:
    stance, key = measured_stance(), torch.randn(1, 12, generator=torch.Generator().manual_seed(4))
    twice = stance.join({"low": key.repeat(2, 1)}, torch.tensor([1.0, 1.0]), {"low": torch.zeros(0, 12)})
    said = (key @ twice.a["low"][0].mT) @ twice.b["low"][0].mT
    torch.testing.assert_close(said[0], stance.mark[0, 0].detach(), rtol=0.02, atol=1e-4)


@torch.no_grad()
def test_opinions_share_a_sequence_with_facts_and_one_another(
    llama: Backbone, taught: InstructedEditor
) -> None:
    sequence = EditSequence(taught, llama)
    sequence.add([tiny_opinion(0), tiny_case(1)], [PRAISE, "Change this fact."])
    sequence.add([tiny_opinion(2)], [BLAME])
    assert list(sequence.opinions) == [tiny_opinion(0).prompt, tiny_opinion(2).prompt]
    assert set(taught.stance.names) <= set(sequence.backbone.modules)
    found = read_opinions(taught, llama, [tiny_opinion(0), tiny_opinion(2)], [PRAISE, BLAME])
    joined, whole = join_opinions(taught.stance, llama, found), sequence.delta
    for name in set(joined.a) - set(sequence.updates):
        torch.testing.assert_close(whole.dense(name), joined.dense(name), atol=1e-6, rtol=1e-4)
    again = EditSequence(taught, llama)
    again.add([replace(tiny_opinion(0), sentiment="negative")], [BLAME])
    again.keep([tiny_opinion(0)], [PRAISE])
    assert len(again.opinions) == 1  # the later one of the two


@torch.no_grad()
def test_a_store_keeps_opinions_and_joins_them_in_any_order(
    llama: Backbone, taught: InstructedEditor
) -> None:
    pairs = [(tiny_opinion(0), PRAISE), (tiny_opinion(1), BLAME), (tiny_opinion(2), PRAISE)]
    read = [read_edit(taught, llama, *pair) for pair in pairs]
    kept = [unpack_edit(pack_edit(one, "float32")) for one in read]
    assert all(one.opinion and not one.rounds and not one.patches for one in kept)
    one, other = (
        join_opinions(taught.stance, llama, [kept[place].opinion for place in order])
        for order in ([0, 1, 2], [2, 0, 1])
    )
    assert one.a
    assert not any(x.requires_grad for side in (one.a, one.b) for x in side.values())
    for name in one.a:
        torch.testing.assert_close(one.dense(name), other.dense(name), atol=1e-5, rtol=1e-4)


def test_a_side_is_read_from_states() -> None:
    noise, reader = torch.Generator().manual_seed(0), Reader(8)
    signs = torch.tensor([1.0, -1.0]).repeat(40)
    states = torch.randn(80, 8, generator=noise) + signs[:, None] * torch.eye(8)[2] * 3
    reader.learn(states, signs, ridge=1.0)
    read = reader(states, torch.zeros(80, dtype=torch.bool))
    assert ((read > 0) == (signs > 0)).float().mean() > 0.95
    assert read.abs().max() <= 1
    assert not reader(states, torch.ones(80, dtype=torch.bool)).any()


def test_facts_and_opinions_of_one_call_keep_their_places(llama: Backbone, taught: InstructedEditor) -> None:
    cases = [tiny_opinion(0), tiny_case(1), tiny_opinion(2)]
    words = [PRAISE, "Change this fact.", BLAME]
    both = taught.edit(llama, cases, words)
    assert len(both) == 3
    for place, case in enumerate(cases):
        alone = taught.edit(llama, [case], [words[place]])
        for name in both.a:
            there = both.dense(name)[place]
            wanted = alone.dense(name)[0] if name in alone.a else torch.zeros_like(there)
            torch.testing.assert_close(there, wanted, atol=1e-5, rtol=1e-4)


def test_an_opinion_below_the_sites_is_measured_as_the_whole_model_has_it(
    llama: Backbone, taught: InstructedEditor
) -> None:
    case = tiny_opinion(0)
    delta = taught.edit(llama, [case], [PRAISE])
    assert set(taught.stance.names) - set(
        llama.modules
    )  # below the editor's own: no cached prefix may hide it
    rows = evaluate(llama, taught, [replace(case, instruction=PRAISE)], instructed=False, resamples=0).rows
    asked = next(row for row in rows if row["group"] == "reliability")
    text = llama.text(case.prompt, case.positive[0])
    with delta.applied_to(llama.model):
        logits = llama.model(input_ids=torch.tensor([text.ids])).logits[0].log_softmax(-1)
    places = range(text.answer_start, len(text.ids))
    mean = torch.stack([logits[place - 1, text.ids[place]] for place in places]).mean()
    others = [llama.text(case.prompt, reply) for reply in case.positive[1:]]
    assert len(others) == 1
    with delta.applied_to(llama.model):
        logits = llama.model(input_ids=torch.tensor([others[0].ids])).logits[0].log_softmax(-1)
    places = range(others[0].answer_start, len(others[0].ids))
    second = torch.stack([logits[place - 1, others[0].ids[place]] for place in places]).mean()
    assert asked["edited_good_log_prob"] == pytest.approx(float(mean + second) / 2, abs=1e-4)


def test_a_stance_is_kept_in_the_editors_file(
    llama: Backbone, taught: InstructedEditor, tmp_path: Path
) -> None:
    save_editor(taught, tmp_path / "editor.safetensors", llama, {})
    again = load_editor(tmp_path / "editor.safetensors", llama)
    assert again.config.stance == taught.config.stance
    case = tiny_opinion(3)
    first, second = (editor.edit(llama, [case], [BLAME]) for editor in (taught, again))
    for name in first.a:
        torch.testing.assert_close(first.dense(name), second.dense(name), atol=1e-3, rtol=1e-2)


def opinions() -> list[EditCase]:
    return [tiny_opinion(number) for number in range(8)]


@pytest.fixture
def path(llama: Backbone, tmp_path: Path) -> Path:
    """An editor that makes opinions by its pass."""
    save_editor(tiny_editor(llama), tmp_path / "editor.safetensors", llama, {"tasks": {"plain": 3}})
    return tmp_path / "editor.safetensors"


def test_teaching_changes_what_is_said_and_leaves_the_rest(llama: Backbone, path: Path) -> None:
    before, target = load_editor(path, llama), path.parent / "taught.safetensors"
    readings = teach_stance(path, target, llama, [*opinions(), tiny_case(0)], [], CONFIG, path.parent)
    assert 0 <= readings["win"] <= 1
    header = read_header(target)
    assert header["tasks"] == {"plain": 3}
    assert header["stance"]["validation"] == readings
    after = load_editor(target, llama)
    kept = dict(before.named_parameters())
    assert all(torch.equal(kept[n], x) for n, x in after.named_parameters() if not n.startswith("stance"))
    assert any(speak.any() for speak in after.stance.speak)
    lines = (path.parent / "stance.jsonl").read_text().splitlines()
    assert len(lines) == CONFIG.steps


def test_steps_make_good_replies_win(llama: Backbone) -> None:
    replies = LessonConfig(replies=1, own=0, others=0)
    editor, config = (
        tiny_editor(llama),
        replace(CONFIG, steps=40, lr_voice=0.05, lr_marks=0.5, lessons=replies),
    )
    equip(editor, llama, opinions(), config, seed=0)
    teaching = Teaching(editor, llama, opinions(), [], config, seed=0)
    before = teaching.validate(opinions())["win"]
    losses = [teaching.one_step(step)["loss"] for step in range(config.steps)]
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert before < 0.8 < teaching.validate(opinions())["win"]


def test_an_interrupted_teaching_goes_on_to_the_bit(
    llama: Backbone, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, checkpoint_every=2)
    whole, broken = path.parent / "whole", path.parent / "broken"
    teach_stance(path, whole / "editor.safetensors", llama, opinions(), [], config, whole)
    step = Teaching.one_step

    def strike(self: Teaching, number: int) -> dict[str, float]:
        if number == 3:
            raise KeyboardInterrupt
        return step(self, number)

    monkeypatch.setattr(Teaching, "one_step", strike)
    with pytest.raises(KeyboardInterrupt):
        teach_stance(path, broken / "editor.safetensors", llama, opinions(), [], config, broken)
    monkeypatch.setattr(Teaching, "one_step", step)
    teach_stance(path, broken / "editor.safetensors", llama, opinions(), [], config, broken)
    for name in ("editor.safetensors", "stance.jsonl"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()


def test_what_was_taught_is_not_taught_again(
    llama: Backbone, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = teach_stance(path, path, llama, opinions(), [], CONFIG, path.parent)
    monkeypatch.setattr(Teaching, "run", lambda *_: pytest.fail("taught again"))
    assert teach_stance(path, path, llama, opinions(), [], CONFIG, path.parent) == first


def test_a_finished_file_does_not_stand_for_that_of_another_editor(llama: Backbone, path: Path) -> None:
    target, other = path.parent / "taught.safetensors", path.parent / "other.safetensors"
    again = tiny_editor(llama, seed=1)
    again.adjust(distil=("sentiment",))
    save_editor(again, other, llama, {})
    for begin in (path, other):
        teach_stance(begin, target, llama, opinions(), [], CONFIG, path.parent / begin.stem)
        assert read_header(target)["stance"]["first"] == sha256_file(begin)


def test_without_topics_or_instructions_nothing_can_be_taught(llama: Backbone, path: Path) -> None:
    with pytest.raises(DataError, match="found 0 topics"):
        teach_stance(path, path, llama, [tiny_case(0)], [], CONFIG, path.parent)
    deaf = path.parent / "deaf.safetensors"
    save_editor(tiny_editor(llama, code=0), deaf, llama, {})
    with pytest.raises(DataError, match="code of 0"):
        teach_stance(deaf, deaf, llama, opinions(), [], CONFIG, path.parent)
