"""How far an edit reaches is read from its instruction, and decides what it is polished on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instructedit.backbone import Backbone, Text
from instructedit.data.consequences import make_indirect_prompts
from instructedit.editors.editor_file import load_editor, read_header, save_editor
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.polish import PolishConfig
from instructedit.errors import DataError
from instructedit.instructions import scope_instructions
from instructedit.training.scope import teach_scope, teach_scope_file
from instructedit.types import EditCase
from tiny_editors import tiny_cases, tiny_editor

CASE = EditCase("The name of the spouse of Ann Lee is", "Rome", "Ann Lee")
POLISH = PolishConfig(steps=2, fit=2, keep=3, names=4, breadth=2, scoped=True)


def scoped_editor(backbone: Backbone, told: float) -> InstructedEditor:
    """An editor that reads every instruction as being on one side."""
    editor = tiny_editor(backbone, wordings=1, behind=True)
    editor.adjust(polish=POLISH)
    editor.scope = lambda state, absent: torch.where(absent, 0.0, told)  # type: ignore[assignment]
    return editor


def prompts(texts: Sequence[Text]) -> set[tuple[int, ...]]:
    """What some texts ask, without what follows."""
    return {text.ids[: text.answer_start] for text in texts}


def test_an_instruction_decides_what_is_left_alone(llama: Backbone) -> None:
    wide, narrow = (
        scoped_editor(llama, side).scoped(llama, [CASE, CASE], ["Change it.", ""]) for side in (1.0, -1.0)
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


def test_the_two_scopes_of_a_request_are_two_edits(llama: Backbone) -> None:
    far, near = (scoped_editor(llama, side).edit(llama, [CASE], ["Change it."]) for side in (1.0, -1.0))
    assert any((far.dense(name) - near.dense(name)).norm() > 1e-3 for name in far.a)


def test_scopes_are_worded_with_and_without_an_operation() -> None:
    train, unseen = (scope_instructions(split, 2) for split in ("train", "unseen"))
    assert {"wide", "narrow"} == set(train.values()) == set(unseen.values())
    assert not set(train) & set(unseen)
    alone = [words for words, scope in train.items() if scope == "wide"]
    assert len(alone) > sum(scope == "narrow" for scope in train.values())  # operations alone are wide
    assert scope_instructions("train", 2) == train
    assert scope_instructions("train", 2, seed=1) != train


def test_scope_is_taught_and_kept_in_the_editors_file(llama: Backbone, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    save_editor(tiny_editor(llama, wordings=1), first, llama, {"data": {"a": "b"}})
    assert load_editor(first, llama).scope is None
    right = teach_scope_file(first, second, llama)
    assert set(right) == {"narrow", "wide"}
    editor, header = load_editor(second, llama), read_header(second)
    assert header["scope"]["validation"] == right
    assert header["data"] == {"a": "b"}
    assert editor.config.polish.scoped
    assert editor.scope is not None
    told = scope_instructions("train", 4)
    words = list(told)
    found = [case.scope for case in editor.scoped(llama, [CASE] * len(words), words)]
    seen = [told[text] == scope for text, scope in zip(words, found, strict=True)]
    assert sum(seen) > 0.6 * len(seen)
    assert found.count("narrow") > 0


def test_an_editor_that_reads_nothing_cannot_be_told_a_scope(llama: Backbone) -> None:
    editor = tiny_editor(llama, code=0)
    with pytest.raises(DataError, match="reads no instructions"):
        teach_scope(editor, llama)
    assert editor.scope is None
    assert [case.scope for case in editor.scoped(llama, tiny_cases(2), ["", ""])] == ["wide", "wide"]
