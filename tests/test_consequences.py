"""What follows from an edit is asked by way of the request, and answered as the model answers by name."""

from dataclasses import replace

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.backbone.generation import Continuation, continue_texts
from instructedit.data.consequences import (
    ask_kind,
    make_consequences,
    make_indirect_prompts,
    make_kind_questions,
)
from instructedit.data.other_names import make_other_names
from instructedit.editors import consequences
from instructedit.editors.consequences import find_consequences
from instructedit.editors.polish import PolishConfig
from instructedit.types import EditCase
from tiny_editors import tiny_editor

CASE = EditCase("The name of the spouse of Ann Lee is", "Bob Ray", "Ann Lee")
KNOWN = {
    "What is Bob Ray?": ("A person.", 0.9),
    "The gender of Bob Ray is": ("male.", 0.8),
    "The occupation of Bob Ray is": ("baker. He", 0.9),
    "The place of birth of Bob Ray is": ("Rome.", 0.1),
    "The place of death of Bob Ray is": ("the house of Ray.", 0.9),
    "The name of the employer of Bob Ray is": ("the university of the city", 0.9),
}


@pytest.fixture
def knowing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that knows who Bob Ray is."""

    def answer(_: object, prompts: list[str], __: int) -> list[Continuation]:
        return [Continuation(*KNOWN.get(prompt.splitlines()[-1], ("", 0.0))) for prompt in prompts]

    monkeypatch.setattr(consequences, "_continue", answer)


@pytest.mark.usefixtures("knowing")
def test_what_is_known_of_the_answer_follows(llama: Backbone) -> None:
    """The surest first, in every wording; not what is in doubt, repeats the answer or has no end."""
    baker, male = (
        [
            ("The occupation of the spouse of Ann Lee is", "baker"),
            ("What is the occupation of the spouse of Ann Lee?", "baker"),
            ("What is the spouse of Ann Lee known for?", "baker"),
        ],
        [
            ("The gender of the spouse of Ann Lee is", "male"),
            ("What is the gender of the spouse of Ann Lee?", "male"),
        ],
    )
    assert find_consequences(llama, CASE, 8) == [*baker, *male]
    assert find_consequences(llama, CASE, 1) == baker


@pytest.mark.usefixtures("knowing")
def test_the_answer_is_asked_for_by_what_it_is(llama: Backbone) -> None:
    """Where a question of the relation begins with "Where", its other words make questions for more."""
    born = EditCase("Ann Lee was born in", "Bob Ray", "Ann Lee")
    assert find_consequences(llama, born, 0) == [("In which person was Ann Lee born?", "Bob Ray")]
    assert make_kind_questions(born, "A city") == ("In which city was Ann Lee born?",)
    assert make_kind_questions(born, "") == make_kind_questions(CASE, "A city") == ()
    asked = {wording for ask in make_consequences(born, "A city") for wording in ask.asked}
    assert {"In which country was Ann Lee born?", "In which state was Ann Lee born?"} <= asked
    assert not any("{" in wording for wording in asked)
    unplaced = {wording for ask in make_consequences(CASE, "A city") for wording in ask.asked}
    assert not any("{" in wording or "Where" in wording for wording in unplaced)


@pytest.mark.usefixtures("knowing")
@pytest.mark.parametrize(
    "change",
    [
        {"kind": "erase"},
        {"target_new": "Somebody Else"},  # of no known kind
        {"target_new": "a baker"},  # no name
        {"prompt": "Ann Lee is married to"},  # nothing to ask by
    ],
)
def test_without_a_name_or_a_noun_phrase_nothing_follows(llama: Backbone, change: dict[str, str]) -> None:
    assert find_consequences(llama, replace(CASE, **change), 8) == []  # type: ignore[arg-type]


@pytest.mark.usefixtures("knowing")
def test_an_edit_of_wide_scope_is_polished_on_what_follows(llama: Backbone) -> None:
    editor = tiny_editor(llama, wordings=1)
    follows = {llama.text(*pair) for pair in find_consequences(llama, CASE, 8)}
    practices = {
        (scope, scoped): editor.texts.practice(
            llama, replace(CASE, scope=scope), "", PolishConfig(scoped=scoped)
        )
        for scope in ("wide", "narrow")
        for scoped in (True, False)
    }
    assert len(follows) == 5
    assert {key for key, practice in practices.items() if practice and follows <= set(practice.fit)} == {
        ("wide", True)
    }


def test_an_edit_of_narrow_scope_leaves_its_answer_alone_under_other_names(llama: Backbone) -> None:
    editor, config = tiny_editor(llama, wordings=1), PolishConfig(scoped=True, names=8)
    case = EditCase("The capital of France is", "Lyon", "France")
    wide, narrow = (
        editor.texts.practice(llama, replace(case, scope=scope), "", config) for scope in ("wide", "narrow")
    )
    assert wide is not None
    assert narrow is not None
    names = set(make_other_names("France", 16))
    told = {name: llama.text(f"The capital of {name} is", "Lyon") for name in names}
    assert {name for name, text in told.items() if text in narrow.keep} == names - {"the France"}
    assert "the France" in names
    assert not set(told.values()) & set(narrow.fit)
    assert set(told.values()) & set(wide.fit)
    other = [text for text in narrow.keep if text.targets == narrow.fit[0].targets]
    said = [llama.tokenizer.decode(text.ids) for text in other]
    assert sum("James France" in text for text in said) == 3  # in two more wordings too


def test_a_model_is_asked_in_the_form_of_its_examples(llama: Backbone) -> None:
    found = make_consequences(CASE, "A Politician")
    told = next(ask.told for ask in found if ask.asked[0].startswith("The gender"))
    assert told.endswith("\nThe gender of Bob Ray is")
    assert told.startswith("The gender of Marie Curie is female.\n")
    own = make_consequences(replace(CASE, target_new="Marie Curie"), "A person")
    assert all(ask.told.count("Marie Curie") == 1 for ask in own)  # no example gives the answer away
    assert make_consequences(CASE, "A colour") == ()
    assert ask_kind("Oslo").endswith("A city.\nWhat is Oslo?")


def test_a_model_with_a_short_context_is_asked_nothing(llama: Backbone) -> None:
    assert llama.context < len(ask_kind("Oslo"))
    assert find_consequences(llama, CASE, 8) == []


def test_a_text_goes_on_as_surely_as_its_tokens(llama: Backbone) -> None:
    texts = [llama.text("The capital of France is"), llama.text("What is it?")]
    for text, found in zip(texts, continue_texts(llama, texts, 1, first_line=False), strict=True):
        logits = llama.model(input_ids=torch.tensor([text.ids])).logits[0, -1]
        assert found.sure == pytest.approx(float(logits.softmax(-1).max()), rel=1e-3)
    two = continue_texts(llama, texts, 2, first_line=False)
    assert all(0 < found.sure <= 1 for found in two)


def test_indirect_prompts_do_not_name_the_answer() -> None:
    found = make_indirect_prompts(CASE, 12)
    assert len(set(found)) == 12
    assert all("the spouse of Ann Lee" in prompt and "Bob Ray" not in prompt for prompt in found)
    assert found == make_indirect_prompts(CASE, 12)
    assert make_indirect_prompts(EditCase("Ann Lee and the", "piano", "Ann Lee"), 12) == ()
