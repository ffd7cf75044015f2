"""What gates are fitted on: more wordings, kin words, other names, and what the model says next by itself."""

from dataclasses import replace

import pytest

from instructedit.backbone import Backbone, Text
from instructedit.backbone.generation import continue_texts
from instructedit.data.paraphrase import load_phrasebook, make_signed_rephrases, names_its_answer
from instructedit.editors import practice
from instructedit.editors.onward import go_onward
from instructedit.types import EditCase
from test_gates import CONFIG, levelled, made
from tiny_editors import tiny_cases


@pytest.fixture(scope="module")
def llama() -> Backbone:
    return levelled("llama")


@pytest.mark.slow
def test_practice_for_gates_is_wider_on_both_sides(llama: Backbone) -> None:
    editor, case = made(llama), tiny_cases(1)[0]
    narrow = editor.texts.practice(llama, case, "Change it.", editor.config.polish)
    assert narrow
    wide = editor.texts.wide_practice(llama, case, "Change it.")
    assert wide.fit[: len(narrow.fit)] == narrow.fit
    assert len(set(wide.fit)) == len(wide.fit) > len(narrow.fit)
    assert wide.keep[: len(narrow.keep)] == narrow.keep
    fresh = wide.keep[len(narrow.keep) :]
    assert len(fresh) == CONFIG.own + CONFIG.others
    assert all(text.positions for text in fresh[: CONFIG.own])
    said = [llama.tokenizer.decode(text.ids[1:]) for text in fresh[CONFIG.own :]]
    assert len(set(said)) == CONFIG.others
    assert not any("France" in text for text in said)
    editor.adjust(gate=replace(CONFIG, own=0, others=0))
    assert editor.texts.wide_practice(llama, case, "Change it.").keep == narrow.keep


@pytest.mark.slow
def test_what_the_model_goes_on_with_is_left_alone(llama: Backbone) -> None:
    editor, case = made(llama), tiny_cases(1)[0]
    plain = editor.texts.wide_practice(llama, case, "Change it.")
    editor.adjust(gate=replace(CONFIG, onward=4))
    wide = editor.texts.wide_practice(llama, case, "Change it.")
    assert wide.fit == plain.fit
    fresh = wide.keep[len(plain.keep) - CONFIG.others :]
    assert wide.keep[: len(plain.keep) - CONFIG.others] == plain.keep[: -CONFIG.others]
    answered, about = fresh[: -CONFIG.others], fresh[-CONFIG.others :]
    assert answered[0].ids[: answered[0].answer_start] == wide.fit[0].ids
    assert all(text.ids[: text.answer_start] in {told.ids for told in wide.fit} for text in answered)
    assert [text.ids[: text.answer_start] for text in about] == [t.ids for t in plain.keep[-CONFIG.others :]]
    for text in fresh:
        head = Text(text.ids[: text.answer_start], text.answer_start)
        (said,) = continue_texts(llama, [head], 4, first_line=False)
        assert text.targets == said.ids[: len(text.targets)]
        assert len(text.targets) == len(said.ids) or "France" in llama.tokenizer.decode(said.ids)


def test_what_goes_on_ends_where_the_subject_is_named(llama: Backbone) -> None:
    text = llama.text("The capital of Spain is")
    (whole,) = go_onward(llama, [text], 6, "a name that is not said")
    assert len(whole.targets) == 6
    assert whole.ids[: len(text.ids)] == text.ids
    third = llama.tokenizer.decode(whole.targets[2:3])
    (cut,) = go_onward(llama, [text], 6, third)
    assert cut.targets == whole.targets[: len(cut.targets)]
    assert len(cut.targets) <= 2
    assert third not in llama.tokenizer.decode(cut.targets)
    assert go_onward(llama, [text], 6, "") == [whole]  # where no subject is known, nothing ends it


def test_a_relation_with_kin_is_practised_in_its_words_and_so_are_other_names(
    llama: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = EditCase("France was created in", "Rome", "France")
    editor = made(llama)
    plain = editor.texts.wide_practice(llama, case, "Change it.")
    editor.adjust(gate=replace(CONFIG, pieces=2))
    wide = editor.texts.wide_practice(llama, case, "Change it.")
    for form in ("France originates from", "France is native to", "France, created in"):
        told = llama.text(form, "Rome")
        assert told in wide.fit
        end = told.ids[-5:]
        behind = [text for text in wide.fit if text.ids[-5:] == end and len(text.ids) > len(told.ids) + 2]
        assert len(behind) >= 2  # scraps of ordinary text stand in front
    others = wide.keep[-2 * CONFIG.others :]
    words = llama.text("France originates from").ids[-2:]
    assert any(text.ids[-2:] == words for text in others)
    assert not any(text.ids[-2:] == words for text in plain.keep)
    assert len(wide.keep) == len(plain.keep) + CONFIG.others
    other = tiny_cases(1)[0]  # of a relation without kin
    editor.adjust(gate=CONFIG)
    before = editor.texts.wide_practice(llama, other, "Change it.")
    editor.adjust(gate=replace(CONFIG, pieces=2))
    monkeypatch.delattr(practice, "kind_of")  # of such a one the model is not asked what the answer is
    assert editor.texts.wide_practice(llama, other, "Change it.") == before


def test_wordings_with_signs_and_behind_pieces_are_answered(llama: Backbone) -> None:
    editor, case = made(llama), tiny_cases(1)[0]
    known = {text.ids for text in editor.texts.wide_practice(llama, case, "Change it.").fit}
    editor.adjust(gate=replace(CONFIG, signed=5, behind=3))
    wide = editor.texts.wide_practice(llama, case, "Change it.")
    fresh = [text for text in wide.fit if text.ids not in known]
    assert {text.targets for text in fresh} == {wide.fit[0].targets}
    asked = [llama.tokenizer.decode(text.ids[1 : text.answer_start]) for text in fresh]
    assert len(asked) == 8
    assert all(prompt.endswith(load_phrasebook().signs) for prompt in asked[:5])
    assert all(case.subject in prompt.partition(". ")[2] for prompt in asked[5:])


def test_signs_stand_behind_prompts_that_say_what_is_asked_for() -> None:
    case = EditCase("The capital of France is", "Lyon", "France")
    signed = make_signed_rephrases(case, 0, 6)
    assert len(signed) == 6
    assert signed[0].removeprefix(case.prompt) in load_phrasebook().signs
    assert all(prompt.endswith(load_phrasebook().signs) for prompt in signed)
    assert signed == make_signed_rephrases(case, 0, 6)
    assert make_signed_rephrases(EditCase("Ada plays the", "piano", "Ada"), 0, 6) == ()
    assert make_signed_rephrases(case, 0, 0) == ()


def test_a_prompt_names_its_answer_or_does_not() -> None:
    told = ("The capital of France is", "Where is Lyon?")
    assert all(names_its_answer(EditCase(prompt, "x", "France")) for prompt in told)
    assert not names_its_answer(EditCase("Lyon is located in", "x", "Lyon"))
