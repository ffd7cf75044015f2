"""Template paraphrases: about the subject, in order, and only the same question."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructedit.data import make_rephrases
from instructedit.data.paraphrase import (
    asks_the_same,
    load_phrasebook,
    make_questions,
    make_varied_rephrases,
    names_its_answer,
    relation_forms,
)
from instructedit.types import EditCase

PROMPTS = [
    "The place of death of {s} is",
    "The name of the author of {s} is",
    "The names of the siblings of {s} are",
    "{s}, who has a citizenship from",
    "The name of the religion which {s} is associated with is",
    "What do you think of {s}?",
    "Where is {s}?",
    "{s} purrs at",
]


def case_of(prompt: str, subject: str = "Ida Brenn", **fields) -> EditCase:
    return EditCase(prompt.replace("{s}", subject), "x", subject=subject, **fields)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("The place of death of {s} is", {"Where did {s} die?", "{s} passed away in", "{s} died in"}),
        ("{s} succumbed at", {"Where did {s} die?", "The place of death of {s} is"}),
        (
            "The name of the author of {s} is",
            {"Who is the author of {s}?", "{s}'s author is", "The author of {s} is"},
        ),
        ("The name of the anthem of {s} is", {"What is the anthem of {s}?"}),
        (
            "The name of the sponsor of {s} is",
            {"What is the name of the sponsor of {s}?", "{s}'s sponsor is"},
        ),
        ("The names of the siblings of {s} are", {"Who are {s}'s siblings?"}),
        ("What is the capital of {s}?", {"The capital of {s} is"}),
        ("{s}, which was called after", {"{s} is named after"}),
    ],
)
def test_forms_of_a_relation(prompt, expected):
    forms = set(relation_forms(case_of(prompt)))
    assert {form.replace("{s}", "Ida Brenn") for form in expected} <= forms
    assert prompt.replace("{s}", "Ida Brenn") not in forms


def test_a_person_is_asked_for_with_who_and_a_thing_with_what():
    assert not any(
        form.startswith("Who") for form in relation_forms(case_of("The name of the sponsor of {s} is"))
    )
    assert not any(
        form.startswith("What is the father")
        for form in relation_forms(case_of("The name of the father of {s} is"))
    )


@pytest.mark.slow
@given(
    st.sampled_from(PROMPTS),
    st.text("abc XYZ'.", min_size=1, max_size=9),
    st.integers(0, 9),
    st.integers(0, 25),
)
def test_rephrases_differ_name_the_subject_and_grow_in_order(prompt, subject, seed, n):
    case = case_of(prompt, f"Q{subject}Q")
    rephrases = make_rephrases(case, seed, n)
    assert len(rephrases) == len(set(rephrases)) == n
    assert case.prompt not in rephrases
    assert all(case.subject in rephrase and "{" not in rephrase for rephrase in rephrases)
    assert make_rephrases(case, seed, n + 3)[:n] == rephrases


def test_seeds_differ():
    assert len({make_rephrases(case_of(PROMPTS[0]), seed, 4) for seed in range(5)}) > 1


def test_unknown_relations_keep_their_prompt_whole():
    case = case_of("{s} purrs at")
    assert relation_forms(case) == ()
    assert all(rephrase.endswith(case.prompt) for rephrase in make_rephrases(case, 0, 10))


def test_without_a_subject_there_are_still_rephrases():
    case = EditCase("The mayor of Wexby is", "Ann Poe")
    rephrases = make_rephrases(case, 0, 6)
    assert len(rephrases) == 6
    assert all("mayor of Wexby is" in rephrase for rephrase in rephrases)


def test_questions_get_question_frames_and_statements_lead_ins():
    asked = make_rephrases(EditCase("Which way is up?", "north"), 0, 30)
    assert any(rephrase.startswith("Question: Which way is up?") for rephrase in asked)
    stated = make_rephrases(EditCase("The way up is", "north"), 0, 30)
    assert any(", the way up is" in rephrase for rephrase in stated)
    assert not any("?" in rephrase for rephrase in stated)


@pytest.mark.parametrize("prompt", ["Where did {s} die?", "{s} died in"])
def test_an_erasure_keeps_the_form_that_its_answer_depends_on(prompt):
    case = case_of(prompt, kind="erase")
    rephrases = make_rephrases(case, 0, 12)
    assert rephrases
    assert {replace(case, prompt=rephrase).wanted for rephrase in rephrases} == {case.wanted}


def test_every_form_belongs_to_one_family_and_keeps_its_slots():
    book = load_phrasebook()
    for number, family in enumerate(book.families):
        for form in family.forms:
            assert form.count("{s}") == 1
            filled = form.replace("{r}", sorted(family.roles)[0] if family.roles else "goalkeeper coach")
            first = next(n for n, other in enumerate(book.families) if other.forms_of(filled))
            assert first == number, form
    assert len(book.contexts) >= 25


def test_varied_rewordings_ask_the_same_with_and_without_context() -> None:
    case = EditCase("Danielle Darrieux's mother tongue is", "English", "Danielle Darrieux")
    made = make_varied_rephrases(case, 0, 12, ["A sentence from elsewhere."])
    assert len(made) == len(set(made)) >= 8
    assert all(asks_the_same(case, prompt) for prompt in made if "Darrieux" in prompt[:40])
    contexts = [prompt for prompt in made if prompt.startswith("A sentence from elsewhere. ")]
    assert 0 < len(contexts) < len(made)
    assert made == make_varied_rephrases(case, 0, 12, ["A sentence from elsewhere."])


def test_a_text_that_only_goes_on_about_the_subject_is_no_paraphrase() -> None:
    case = EditCase("Laura Adani speaks", "Russian", "Laura Adani")
    assert not asks_the_same(case, "Laura Adani lives in")
    assert asks_the_same(case, "It rained. The language spoken by Laura Adani is")
    assert asks_the_same(case, "Laura de Adani speaks")  # the subject under another name: cannot be told
    assert asks_the_same(EditCase("Zork frobs the", "blip", "Zork"), "Zork is known for")


def test_questions_are_those_of_the_relation_then_plain_ones() -> None:
    case = EditCase("The place of birth of Ada Lovelace is", "Rome", "Ada Lovelace")
    found = make_questions(case, 0, 9)
    assert all(question.endswith("?") and "Ada Lovelace" in question for question in found)
    assert found[0] in relation_forms(case, clumsy=True)
    assert "Tell me, what is the place of birth of Ada Lovelace?" in found
    assert make_questions(case, 0, 2) == found[:2]
    assert make_questions(replace(case, kind="erase"), 0, 9) == ()
    assert make_questions(EditCase("Ada Lovelace lived in", "Rome", "Ada Lovelace"), 0, 9) == ()


@pytest.mark.parametrize(
    "prompt",
    [
        "the capital of {s} is",
        "The capital of {s} is:",
        "The  Capital of {s} is",
        "What's the capital of {s}?",
        "what is the capital of {s}",
    ],
)
def test_a_relation_is_known_in_any_spelling(prompt):
    forms = relation_forms(case_of(prompt), clumsy=True)
    assert prompt.replace("{s}", "Ida Brenn") not in forms
    assert len(forms) >= len(relation_forms(case_of("The capital of {s} is"))) - 2
    assert names_its_answer(case_of(prompt))


def test_roles_may_have_capitals():
    assert "Who is the CEO of Ida Brenn?" in relation_forms(case_of("The CEO of {s} is"))
