"""How far an edit reaches: read off its instruction, practised under other names and through the answer."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from instructedit.backbone import Backbone
from instructedit.data.anchors import make_indirect_prompts
from instructedit.data.other_names import make_other_names
from instructedit.editors.editor_file import load_editor, read_header, save_editor
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.polish import Practice
from instructedit.editors.reading import Reader
from instructedit.errors import DataError
from instructedit.training.scope import SIGNS, ScopeConfig, draw_scopes, learn_scope, teach_scope
from instructedit.types import EditCase, Scope
from tiny_editors import tiny_case, tiny_editor

SMALL = ScopeConfig(instructions=40, unseen=12)
WIDE, NARROW = "Update the capital and whatever follows.", "Only this one sentence and nothing else changes."


@given(st.lists(st.text("abcdéÜ'-", min_size=1, max_size=6), min_size=0, max_size=5), st.integers(0, 20))
def test_other_names_are_new_and_always_the_same(words: list[str], count: int) -> None:
    subject = " ".join(words)
    names = make_other_names(subject, count)
    assert len(names) == len(set(names)) <= count
    assert subject not in names
    assert "" not in names
    assert names == make_other_names(subject, count)
    assert bool(names) == bool(subject and count)


def test_a_name_is_shortened_lengthened_and_spelt_otherwise() -> None:
    names = make_other_names("Gabriel García Márquez", 20)
    assert {"G. García Márquez", "Gabriel Márquez", "García Márquez", "Gabriel Garcia Marquez"} < set(names)
    assert any(len(name.split()) > 3 for name in names)
    assert "Beatles" in make_other_names("The Beatles", 20)


@pytest.mark.parametrize("prompt", ["The capital of France is", "What is the capital of France?"])
def test_prompts_go_through_the_answer_whatever_form_the_request_has(prompt: str) -> None:
    found = make_indirect_prompts(EditCase(prompt, "Rome", "France"), 6)
    assert len(found) == 6
    assert all("the capital of France" in indirect for indirect, _ in found)
    assert make_indirect_prompts(EditCase("It was so", "Rome"), 6) == ()


def practice(editor: InstructedEditor, backbone: Backbone, scope: Scope | None) -> Practice:
    found = editor.texts.practice(backbone, tiny_case(0), "Change it.", scope)
    assert found
    return found


def test_narrow_edits_leave_other_names_alone_and_what_goes_through_the_answer(llama: Backbone) -> None:
    editor, case = tiny_editor(llama), tiny_case(0)
    unread, wide, narrow = (practice(editor, llama, scope) for scope in (None, "wide", "narrow"))
    assert wide == unread
    assert narrow.fit == unread.fit
    added = set(narrow.keep) - set(unread.keep)
    names = make_other_names(case.subject, 4)
    renamed = {llama.text(case.prompt.replace(case.subject, name), case.wanted) for name in names}
    assert renamed < added
    assert added - renamed == {llama.text(*pair) for pair in make_indirect_prompts(case, 8)}


def test_the_instruction_says_how_far_an_edit_reaches(llama: Backbone) -> None:
    editor, cases = tiny_editor(llama), [tiny_case(0), tiny_case(1), tiny_case(2)]
    words = [WIDE, NARROW, ""]
    assert editor.scopes(llama, cases, words) == [None, None, None]
    editor.scope = Reader(llama.width)
    editor.scope.learn(editor.read(llama, words)[0], torch.tensor([1.0, -1.0, 1.0]), ridge=1.0)
    assert editor.scopes(llama, cases, words) == ["wide", "narrow", "wide"]
    erased = EditCase(cases[1].prompt, "Rome", cases[1].subject, kind="erase")
    assert editor.scopes(llama, [erased], [NARROW]) == [None]


def test_an_edit_is_another_one_in_each_scope(llama: Backbone) -> None:
    editor, case = tiny_editor(llama), tiny_case(0)
    editor.adjust(polish=type(editor.config.polish)(steps=3))
    editor.scope = Reader(llama.width)
    editor.scope.learn(editor.read(llama, [WIDE, NARROW])[0], torch.tensor([1.0, -1.0]), ridge=1.0)
    start = editor.edit(llama, [case], [WIDE])
    delta = {words: editor.polish(llama, [case], [words], start) for words in (WIDE, NARROW, "")}
    name = next(iter(start.a))
    assert not torch.allclose(delta[WIDE].dense(name), delta[NARROW].dense(name))
    torch.testing.assert_close(delta[WIDE].dense(name), delta[""].dense(name))


def test_half_of_the_instructions_are_narrow_and_some_say_nothing_of_it() -> None:
    told = draw_scopes(40, "train", seed=1)
    assert [scope for _, scope in told].count("narrow") == 20
    assert {scope for _, scope in told} == set(SIGNS)
    assert len({words for words, _ in told}) > 30
    assert not {words for words, _ in told} & {words for words, _ in draw_scopes(40, "unseen", seed=1)}
    assert told == draw_scopes(40, "train", seed=1)


def test_what_is_learned_is_what_the_banks_say(llama: Backbone) -> None:
    editor = tiny_editor(llama)
    readings = learn_scope(editor, llama, ScopeConfig(instructions=40, unseen=12, ridge=1e-3), seed=0)
    assert set(readings) == set(SIGNS)
    assert editor.config.scope
    told = draw_scopes(40, "train", seed=0)
    found = editor.scopes(llama, [tiny_case(0)] * len(told), [words for words, _ in told])
    right = [(SIGNS[scope] < 0) == (side == "narrow") for (_, scope), side in zip(told, found, strict=True)]
    assert sum(right) > 0.85 * len(right)


def test_scopes_are_taught_to_a_file_once(llama: Backbone, tmp_path: Path) -> None:
    path, target = tmp_path / "first.safetensors", tmp_path / "editor.safetensors"
    save_editor(tiny_editor(llama), path, llama, {"seed": 3})
    readings = teach_scope(path, target, llama, SMALL)
    header, editor = read_header(target), load_editor(target, llama)
    assert header["seed"] == 3
    assert header["scope"]["validation"] == readings
    assert editor.scope is not None
    assert editor.scope.slope.any()
    kept = load_editor(path).state_dict()
    assert all(torch.equal(kept[name], x) for name, x in editor.state_dict().items() if name in kept)
    before = target.stat().st_mtime_ns
    assert teach_scope(target, target, llama, SMALL) == readings
    assert target.stat().st_mtime_ns == before
    assert (
        teach_scope(target, target, llama, ScopeConfig(instructions=20, unseen=12)).keys() == readings.keys()
    )
    assert read_header(target)["scope"]["config"]["instructions"] == 20


def test_an_editor_that_reads_no_instructions_is_refused(llama: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "deaf.safetensors"
    save_editor(tiny_editor(llama, code=0), path, llama, {})
    with pytest.raises(DataError, match="reads instructions"):
        teach_scope(path, path, llama, SMALL)
    with pytest.raises(DataError, match="0 or more"):
        ScopeConfig(instructions=-1)
