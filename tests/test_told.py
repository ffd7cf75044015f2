"""Whether an edit erases, and how far it reaches, is read from its instruction."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from instructedit.backbone import Backbone, Text
from instructedit.backbone.sites import find_sites
from instructedit.data.consequences import make_indirect_prompts
from instructedit.editors import told as reading
from instructedit.editors.editor_file import load_editor, read_header, save_editor
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.many import EditSequence
from instructedit.editors.polish import PolishConfig
from instructedit.editors.told import SENTENCES, are_erasures, kind_states, scope_states
from instructedit.errors import DataError
from instructedit.instructions import instruction_for
from instructedit.instructions.banks import Split, load_banks, load_words
from instructedit.instructions.compose import join
from instructedit.training.asked import kinds_to_read, load_asked, scopes_to_read
from instructedit.training.told import teach_told, teach_told_file
from instructedit.types import EditCase, Probe, Scope
from tiny_editors import distance, tiny_case, tiny_cases, tiny_editor, tiny_opinion
from tiny_models import tiny_model, tiny_tokenizer

CASE = EditCase("The name of the spouse of Ann Lee is", "Rome", "Ann Lee")
POLISH = PolishConfig(steps=2, fit=2, keep=3, names=4, breadth=2, scoped=True)


def scoped_editor(backbone: Backbone, told: float) -> InstructedEditor:
    """An editor that reads every instruction as being on one side."""
    editor = tiny_editor(backbone, wordings=1, behind=True)
    editor.adjust(polish=POLISH)
    editor.scope = lambda state, absent: torch.where(absent, 0.0, told)  # type: ignore[assignment]
    return editor


def erasing_editor(backbone: Backbone) -> InstructedEditor:
    """An editor that takes every instruction for one to erase."""
    editor = tiny_editor(backbone, wordings=1, behind=True)
    editor.adjust(polish=POLISH)
    editor.kind = lambda state, absent: torch.where(absent, 0.0, 1.0)  # type: ignore[assignment]
    return editor


def prompts(texts: Sequence[Text]) -> set[tuple[int, ...]]:
    """What some texts ask, without what follows."""
    return {text.ids[: text.answer_start] for text in texts}


@pytest.mark.slow
def test_an_instruction_decides_what_is_left_alone(llama: Backbone) -> None:
    wide, narrow = (
        scoped_editor(llama, side).told(llama, [CASE, CASE], ["Change it.", ""]) for side in (1.0, -1.0)
    )
    assert [case.scope for case in wide] == ["wide", "wide"]
    assert [case.scope for case in narrow] == ["narrow", "wide"]  # nothing said: wide
    editor = scoped_editor(llama, 0.0)
    far, near, unread = (
        editor.texts.practice(llama, case, "Change it.", config)
        for case, config in (
            (wide[0], POLISH),
            (narrow[0], POLISH),
            (narrow[0], replace(POLISH, scoped=False)),
        )
    )
    assert far
    assert near
    assert unread == far
    asked, fit, kept, others = map(prompts, (far.fit, near.fit, near.keep, far.keep))
    names = asked - fit
    assert len(names) == POLISH.names
    assert names <= kept  # other names: asked in the one, left alone in the other
    follows = {llama.text(prompt).ids for prompt in make_indirect_prompts(CASE, 16)}
    assert len(follows) == 16
    assert follows <= kept
    assert not follows & others


@pytest.mark.slow
def test_the_two_scopes_of_a_request_are_two_edits(llama: Backbone) -> None:
    far, near = (scoped_editor(llama, side).edit(llama, [CASE], ["Change it."]) for side in (1.0, -1.0))
    assert any((far.dense(name) - near.dense(name)).norm() > 1e-3 for name in far.a)


def test_scopes_are_worded_with_and_without_an_operation() -> None:
    train, unseen = (scopes_to_read(split, 2) for split in ("train", "unseen"))
    assert {"wide", "narrow"} == set(train.values()) == set(unseen.values())
    assert not set(train) & set(unseen)
    alone = [
        words
        for bank in load_banks()
        if bank.scoped and not bank.is_held_out
        for words in bank.wordings["train"]
    ]
    assert all(train[words] == "wide" for words in alone)
    assert scopes_to_read("train", 2) == train
    assert scopes_to_read("train", 2, seed=1) != train


def test_an_instruction_can_make_an_erasure_of_a_request(llama: Backbone) -> None:
    reworded, near = Probe("rephrase", "Ann Lee's spouse is", ("Rome",)), Probe("locality", "Bob is", ("a",))
    cases = [replace(CASE, probes=(reworded, near)), CASE, tiny_opinion(0)]
    erased, untold, opinion = erasing_editor(llama).told(llama, cases, ["Forget it.", "", "Forget it."])
    assert (erased.kind, erased.wanted) == ("erase", "unknown")
    assert erased.probes == (replace(reworded, answers=()), near)
    assert untold == CASE
    assert opinion == tiny_opinion(0)


def test_the_loudest_sentence_is_heard_unless_the_whole_denies_it(
    llama: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {
        "Erase it. Ripples are wanted.": 0.1, "Erase it.": 0.9, "Ripples are wanted.": -0.9,
        "Forget the old one. Learn this.": -0.7, "Forget the old one.": 1.0, "Learn this.": -1.0,
        "Change it": -0.3, "Scrub it": 0.7, "": 0.9,
    }  # fmt: skip
    whole = ["Erase it. Ripples are wanted.", "Forget the old one. Learn this.", "Change it", "Scrub it", ""]

    def see(_: Backbone, words: Sequence[str]) -> torch.Tensor:
        return torch.tensor([said[part] for part in words])

    def read(sides: torch.Tensor, absent: torch.Tensor) -> torch.Tensor:
        return torch.where(absent, 0.0, sides)

    monkeypatch.setattr(reading, "kind_states", see)
    assert are_erasures(read, llama, whole).tolist() == [True, False, False, True, False]


def test_instructions_are_cut_behind_signs_alone() -> None:
    words = "Set it to 1,000. Change e.g. this; nothing else, please"
    assert SENTENCES.split(words) == ["Set it to 1,000.", "Change e.g.", "this;", "nothing else, please"]


def test_what_a_request_says_by_itself_stays(llama: Backbone) -> None:
    asked = replace(CASE, kind="erase", scope="narrow")
    editor = scoped_editor(llama, 1.0)
    editor.kind = lambda state, absent: -torch.ones(len(absent))  # type: ignore[assignment]
    assert editor.told(llama, [asked], ["Change it."]) == [asked]


def test_an_editor_that_is_not_to_read_reads_nothing(llama: Backbone) -> None:
    editor = erasing_editor(llama)
    editor.adjust(polish=replace(POLISH, scoped=False))
    assert editor.told(llama, [CASE], ["Forget it."]) == [CASE]


@pytest.mark.slow
def test_the_words_alone_decide_what_an_edit_is_made_of(llama: Backbone) -> None:
    editor, plain = erasing_editor(llama), tiny_editor(llama, wordings=1, behind=True)
    for each in (editor, plain):
        each.adjust(polish=POLISH)
    told = editor.edit(llama, [CASE], ["Forget it."])
    erased = plain.edit(llama, [replace(CASE, kind="erase")], ["Forget it."])
    change = plain.edit(llama, [CASE], ["Forget it."])
    assert distance(told, erased) < 1e-6
    assert distance(told, change) > 1e-3


def test_edits_that_share_a_model_are_told_too(llama: Backbone) -> None:
    sequence = EditSequence(erasing_editor(llama), llama)
    sequence.add([CASE], ["Forget it."])
    sequence.keep([tiny_case(1), tiny_case(2)], ["Forget it.", ""])
    kinds = [case.kind for case, _ in sequence.past.values()]
    assert kinds == ["erase", "erase", "change"]
    assert sequence.count == 3


def test_kinds_are_worded_on_both_sides() -> None:
    train, unseen = (kinds_to_read(split, 1) for split in ("train", "unseen"))
    assert not set(train) & set(unseen)
    for told in (train, unseen):
        assert 0.2 < sum(told.values()) / len(told) < 0.5
    assert train["Forget it."]
    assert not train["Forget the old one, here is the new one."]
    assert kinds_to_read("train", 1) == train


def test_nothing_is_learned_from_what_is_held_out() -> None:
    held = [bank for bank in load_banks() if set(bank.tasks) & {"zsre", "year"}]
    assert len(held) == 2
    assert all(bank.is_held_out == (bank in held) for bank in load_banks())
    kinds, scopes = kinds_to_read("train", 6), scopes_to_read("train", 6)
    for wording in [words.rstrip(".") for bank in held for words in bank.wordings["train"]]:
        assert not any(told.startswith(wording) for told in (*kinds, *scopes))


@pytest.mark.parametrize("split", ["train", "unseen"])
def test_what_people_write_is_read_too(split: Split) -> None:
    asked, scopes, kinds = load_asked(), scopes_to_read(split, 2), kinds_to_read(split, 2)
    assert {"plain", "wide", "narrow", "erase", "keep"} == set(asked)
    every = [wording for lists in asked.values() for part in lists.values() for wording in part]
    assert len(set(every)) == len(every)  # no unseen one is met in training
    assert all(scopes[wording] == scope for scope in get_args(Scope) for wording in asked[scope][split])
    assert all(scopes[wording] == "wide" for name in ("plain", "keep") for wording in asked[name][split])
    assert all(kinds[wording] == (name == "erase") for name in asked for wording in asked[name][split])


def test_a_wording_is_put_behind_a_request() -> None:
    assert join("Change it.", "only this") == "Change it, only this."
    assert join("fix it", "only this") == "fix it, only this"
    assert join("Change it.", "Only this.") == "Change it. Only this."
    assert join("Correction:", "only this") == "Correction: only this"


def test_random_words_of_the_control_are_not_those_of_the_lessons() -> None:
    known = set(load_words())
    noise = {w for told in kinds_to_read("train", 1) if set(told.split()) <= known for w in told.split()}
    drawn = [instruction_for(CASE, control="random", seed=seed).split() for seed in range(40)]
    assert len(noise) > 100
    assert {word for words in drawn for word in words} <= known - noise


@pytest.mark.slow
def test_kind_and_scope_are_taught_and_kept_in_the_editors_file(llama: Backbone, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    save_editor(tiny_editor(llama, wordings=1), first, llama, {"data": {"a": "b"}})
    assert load_editor(first, llama).scope is None
    right = teach_told_file(first, second, llama)
    assert set(right) == {"narrow", "wide", "erase", "keep"}
    editor, header = load_editor(second, llama), read_header(second)
    assert header["told"]["validation"] == right
    assert header["data"] == {"a": "b"}
    assert editor.config.polish.scoped
    assert editor.scope is not None
    assert editor.kind is not None
    scopes, kinds = scopes_to_read("train", 4), kinds_to_read("train", 2)
    found = editor.told(llama, [CASE] * len(scopes), list(scopes))
    assert sum(a.scope == b for a, b in zip(found, scopes.values(), strict=True)) > 0.6 * len(scopes)
    assert any(case.scope == "narrow" for case in found)
    sides = editor.kind(kind_states(llama, list(kinds)), torch.zeros(len(kinds), dtype=torch.bool))
    erases = torch.tensor(list(kinds.values()))
    assert sides[erases].mean() > sides[~erases].mean() + 0.03
    assert not any(case.kind == "erase" for case in editor.told(llama, [CASE] * 9, list(kinds)[:9]))


def test_instructions_are_read_at_their_depth_wherever_the_sites_are(llama: Backbone) -> None:
    last = len(llama.blocks) - 1
    high = Backbone(llama.model, llama.tokenizer, find_sites(llama.model, f"blocks={last}"), llama.start_ids)
    words = ["Forget it.", "Change this fact, and nothing else."]
    for see in (kind_states, scope_states):
        assert torch.equal(see(high, words), see(llama, words))
    model = tiny_model("llama", num_hidden_layers=8)  # where the depths are two blocks
    tall = Backbone(model, tiny_tokenizer(), find_sites(model, "blocks=7"), llama.start_ids)
    early, deep = kind_states(tall, words).chunk(2, dim=1)
    assert not torch.allclose(early, deep)


def test_an_editor_that_reads_nothing_cannot_be_told(llama: Backbone) -> None:
    editor = tiny_editor(llama, code=0)
    with pytest.raises(DataError, match="reads no instructions"):
        teach_told(editor, llama)
    assert editor.scope is editor.kind is None
    assert editor.told(llama, tiny_cases(2), ["", ""]) == tiny_cases(2)
