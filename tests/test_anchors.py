"""Anchors: prompts made from the request alone, whose keys the ridge solution leaves alone."""

import math
from dataclasses import replace

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.data.anchors import (
    load_anchor_book,
    load_names,
    make_after_anchors,
    make_answered_prompts,
    make_other_anchors,
    make_own_anchors,
    make_own_prompts,
    make_tail_anchors,
)
from instructedit.data.subjects import guess_subject, subject_of
from instructedit.editors.instructed import EditorConfig, InstructedEditor
from instructedit.editors.neighbours import Neighbours
from instructedit.editors.requests import AFTER, ANSWER, OTHER, OWN
from instructedit.factors import Anchors, AnchorText, read_anchors
from instructedit.hypernetwork import ShapeTransform
from instructedit.site_rows import SiteRows
from instructedit.types import EditCase
from test_hypernetwork import D_IN, D_OUT, random, transform
from tiny_editors import TRANSFORM, tiny_case, tiny_cases, tiny_editor

PROMPTS = {
    "The capital of France is": "France",
    "What does Michel Denisot speak?": "Michel Denisot",
    "Who wrote Romeo and Juliet?": "Romeo and Juliet",
    "Paris is the capital of": "Paris",
    "Charles de Gaulle's wife is": "Charles de Gaulle",
    "the boiling point of water is": "",
    "Which is best?": "",
}


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_subject_is_guessed_from_capital_letters(prompt: str) -> None:
    assert guess_subject(prompt) == PROMPTS[prompt]


def test_a_records_own_subject_goes_before_the_guess() -> None:
    assert subject_of(EditCase("The capital of Old France is", "Rome", "France")) == "France"
    assert subject_of(EditCase("The capital of Old France is", "Rome", "Gaul")) == "Old France"


def test_other_anchors_ask_the_same_of_others_in_every_wording_by_turns() -> None:
    case = tiny_case(0)
    prompts = [case.prompt, f"{case.subject}'s capital is"]
    found = make_other_anchors(case, prompts, 4)
    assert len(found) == 4
    assert all(case.subject not in prompt for prompt in found)
    assert [prompt.startswith("The capital of ") for prompt in found] == [True, False, True, False]
    assert make_other_anchors(case, prompts, 4) == found


def test_own_anchors_ask_something_else_and_answer_with_other_words() -> None:
    case = EditCase("Ada Lovelace was born in", "New Haven", "Ada Lovelace")
    found = make_own_anchors(case, 99)
    prompts = [prompt for prompt, _ in found]
    assert len(found) > 10
    assert all("Ada Lovelace" in prompt for prompt in prompts)
    assert "The place of birth of Ada Lovelace is" not in prompts  # the edit's own relation
    assert not any("New" in answer.split() for _, answer in found)
    assert make_own_anchors(case, 3) == make_own_anchors(case, 3)


def test_a_prompt_without_a_subject_has_no_anchors() -> None:
    case = EditCase("the answer is", "yes")
    assert make_other_anchors(case, [case.prompt], 3) == ()
    assert make_own_anchors(case, 2) == ()


def test_a_subject_that_is_in_the_list_is_not_its_own_anchor() -> None:
    for name in ("Italy", "Marie Curie", "Hamlet"):
        case = EditCase(f"{name} is known as", "x", name)
        assert all(name not in prompt for prompt in make_other_anchors(case, [case.prompt], 4))


def test_heavy_anchors_are_mapped_to_nothing() -> None:
    shape: ShapeTransform = transform(0, 0.0, -1.0)
    keys, values = random(3, 1, 2, D_IN), random(4, 1, 2, D_OUT)
    fixed = random(5, 1, 2, D_IN)
    sizes = []
    for weight in (math.exp(-9.0), 1.0, math.exp(9.0)):
        with torch.no_grad():
            a, b = shape.aggregate(0, SiteRows(keys, values, fixed * weight))
        assert a.shape[1] == b.shape[2] == 2  # the rank is that of the edit's own rows
        raw = fixed * shape.statistics[0].spread
        sizes.append(float((raw @ (b @ a).mT).norm()))
    assert sizes[0] > sizes[1] > 100 * sizes[2]


@pytest.mark.slow
def test_keys_are_the_inputs_at_the_named_positions(backbone: Backbone) -> None:
    texts = [backbone.text("The capital of France is", "Paris"), backbone.text("Paris")]
    rows = [[AnchorText(texts[0], ((2, OWN), (1, ANSWER)))], [AnchorText(texts[1], ((0, OTHER),))]]
    together = read_anchors(backbone, rows)
    assert together is not None
    assert together.kind.tolist() == [[OWN, ANSWER], [OTHER, 0]]
    for edit, (anchor,) in enumerate(rows):
        for slot, (position, kind) in enumerate(anchor.rows):
            alone = read_anchors(backbone, [[AnchorText(anchor.text, ((position, kind),))]])
            assert alone is not None
            for site, keys in alone.keys.items():
                torch.testing.assert_close(together.keys[site][edit, slot], keys[0, 0], rtol=1e-3, atol=1e-5)
    assert all(not keys[1, 1].any() for keys in together.keys.values())
    assert read_anchors(backbone, [[], []]) is None


def anchored(backbone: Backbone) -> InstructedEditor:
    return tiny_editor(backbone, others=2, own=1)


def test_an_edit_is_anchored_by_others_its_subject_and_its_own_end(llama: Backbone) -> None:
    cases = [*tiny_cases(1), EditCase("the answer is", "Rome")]
    rows = anchored(llama).texts.anchors(llama, cases)
    kinds = [[kind for anchor in row for _, kind in anchor.rows] for row in rows]
    words = kinds[0].count(ANSWER)
    assert kinds[0] == [OTHER, OTHER, OWN, *[ANSWER] * words, AFTER]
    assert kinds[1] == [AFTER]  # no subject
    found = read_anchors(llama, rows)
    assert isinstance(found, Anchors)
    assert found.kind.shape == (2, len(kinds[0]))
    for keys in found.keys.values():
        assert keys[0].abs().sum(-1).min() > 0
        assert not keys[1, 1:].any()


def test_a_sentiment_has_no_end_of_an_answer(llama: Backbone) -> None:
    config = EditorConfig(distil=["sentiment"], transform=replace(TRANSFORM, others=1))
    editor = InstructedEditor(config, llama.sites, llama.width)
    case = EditCase("What do you think of Rome?", "", "Rome", kind="sentiment", sentiment="positive")
    (row,) = editor.texts.anchors(llama, [case])
    assert [kind for anchor in row for _, kind in anchor.rows] == [OTHER]


def test_anchors_change_the_delta_and_their_weights_learn(llama: Backbone) -> None:
    editor, cases = anchored(llama), tiny_cases(2)
    delta = editor.propose(llama, cases, ["Change it.", ""])
    site = next(iter(delta.a))
    plain = tiny_editor(llama).propose(llama, cases, ["Change it.", ""])
    assert delta.a[site].shape == plain.a[site].shape  # anchors add no rank
    assert not torch.allclose(delta.dense(site), plain.dense(site), rtol=0.01)
    sum(delta.dense(name).square().sum() for name in delta.a).backward()
    for shape in editor.hypernetwork.shapes:
        assert shape.log_anchor.grad.abs().max(0).values.min() > 0  # every kind
        assert shape.anchor_code.grad.abs().max() > 0


def test_neighbours_are_names_like_the_subject(llama: Backbone) -> None:
    neighbours = Neighbours()
    found = neighbours.of(llama, "Henri Berger", 5)
    assert len(set(found)) == 5
    assert set(found) <= set(load_names())
    assert neighbours.of(llama, "Berlin", len(load_names()))[-1] != "Berlin"
    for own in ("Berlin", "berlin", "BERLIN"):
        assert "Berlin" not in neighbours.of(llama, own, len(load_names()))
    assert neighbours.of(llama, "", 5) == neighbours.of(llama, "Berlin", 0) == []


def test_the_nearest_name_has_the_most_similar_state(llama: Backbone) -> None:
    names = ["Vienna", "Sydney"]
    states = [row[-1] for row in llama.encode([llama.text(name) for name in load_names()])]
    known = torch.stack(states).float()
    known = torch.nn.functional.normalize((known - known.mean(0)) / known.std(0), dim=-1)
    for name in names:
        place = load_names().index(name)
        likeness = (known @ known[place]).tolist()
        allowed = [i for i, other in enumerate(load_names()) if other not in name and name not in other]
        best = max(allowed, key=lambda i: likeness[i])
        found = load_names().index(Neighbours().of(llama, name, 1)[0])
        assert likeness[found] == pytest.approx(likeness[best], abs=1e-4)


def test_near_names_come_before_the_well_known() -> None:
    case = tiny_case(0)
    found = make_other_anchors(case, [case.prompt], 3, ["Vienna", "Sydney"])
    assert found[:2] == ("The capital of Vienna is", "The capital of Sydney is")
    assert len(found) == 3
    assert make_other_anchors(case, [case.prompt], 1, ["Vienna", "Sydney"]) == found[:1]


def test_tails_end_as_the_prompts_do_and_name_no_subject() -> None:
    case = EditCase("Ada Lovelace was born in", "Rome", "Ada Lovelace")
    found = make_tail_anchors(case, [case.prompt, "Where was Ada Lovelace born?", "Who is Ada Lovelace?"], 6)
    assert len(set(found)) == 6
    assert all(text.endswith((" in", " born?")) for text in found)
    assert {" born in" in text for text in found} == {True, False}
    assert not any("Ada" in text or "Lovelace" in text for text in found)
    assert make_tail_anchors(case, ["Who is Ada Lovelace?"], 3) == ()
    assert make_tail_anchors(case, ['Who is "Ada Lovelace"?', "Where was (Lovelace)?"], 3) == ()
    owned = make_tail_anchors(case, ["What is Ada Lovelace's job?"], 6)
    assert {text.split(" ", 1)[1].endswith(" job?") for text in owned} == {True}
    assert not any("Lovelace" in text for text in owned)
    assert (
        make_tail_anchors(
            EditCase("フランスの偉大なる共和国の最も大きな首都の名前は", "x"),
            ["フランスの偉大なる共和国の最も大きな首都の名前は"],
            3,
        )
        == ()
    )


def test_beside_a_question_other_questions_stay_as_they_are() -> None:
    case = EditCase("Who is Ada Lovelace?", "Rome", "Ada Lovelace")
    prompts, questions = [case.prompt, "Where was Ada Lovelace born?"], load_anchor_book()["questions"]
    for asked, lent in ((prompts, 3), (prompts[:1], 0)):
        found = make_tail_anchors(case, asked, 6)
        assert len(set(found)) == 6
        assert sum(text.endswith(" born?") for text in found) == lent
        assert sum(text in questions for text in found) == 6 - lent
    assert make_tail_anchors(case, prompts, 0) == ()
    assert make_tail_anchors(EditCase("Ada Lovelace", "Rome", "Ada Lovelace"), ["Ada Lovelace"], 3) == ()


def test_an_editor_asks_for_near_names_and_tails(llama: Backbone) -> None:
    editor = anchored(llama)
    editor.adjust(near=5, tails=3)
    for whole, count in ((True, 5 + 3), (False, 2)):
        (row,) = editor.texts.anchors(llama, tiny_cases(1), whole=whole)
        assert [kind for anchor in row for _, kind in anchor.rows].count(OTHER) == count


def test_own_prompts_are_followed_by_answers_of_any_sort() -> None:
    case = EditCase("Ada Lovelace was born in", "New Haven", "Ada Lovelace")
    found = make_own_prompts(case, 99)
    assert len(found) > 10
    assert all("Ada Lovelace" in prompt for prompt, _ in found)
    assert "The place of birth of Ada Lovelace is" not in [prompt for prompt, _ in found]
    assert not any("New" in answer.split() for _, answer in found)
    assert {answer for _, answer in found} - {answer for _, answer in make_own_anchors(case, 99)}
    assert len(make_own_prompts(case, 3)) == 3
    assert make_own_prompts(EditCase("the answer is", "yes"), 3) == ()


def test_the_first_own_prompt_asks_for_another_answer_than_the_new_one() -> None:
    case = EditCase("The gender of Ada Lovelace is", "male", "Ada Lovelace")
    (first, answer), *others = make_own_prompts(case, 9)
    assert first == "The gender of Ada Lovelace, which is not male, is"
    assert "male" not in answer.split()
    assert len(others) == 8
    assert not any("which is not" in prompt for prompt, _ in others)


def test_behind_the_new_answer_the_text_goes_on() -> None:
    found = make_after_anchors(EditCase("The capital of France is", "Lyon"))
    assert [prompt for prompt, _ in found] == [
        f"The capital of France is Lyon{mark}" for mark in ("", ",", ".")
    ]
    assert all("Lyon" not in rest for _, rest in found)


def test_a_subjects_neighbours_are_looked_for_once(llama: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    neighbours = Neighbours()
    first = neighbours.of(llama, "Paris", 4)
    monkeypatch.setattr(Backbone, "encode", lambda *_args: pytest.fail("the model is read again"))
    assert neighbours.of(llama, "Paris", 4) == first
    monkeypatch.undo()
    assert neighbours.of(llama, "Paris", 2) == first[:2]


def test_two_answers_of_the_kind_stand_behind_what_else_is_asked() -> None:
    case = EditCase("The place of birth of Ada Lovelace is", "Rome", "Ada Lovelace")
    pairs = make_answered_prompts(case, 30)
    assert len(set(pairs)) == len(pairs) == 30
    assert pairs == make_answered_prompts(case, 30)
    assert case.prompt not in {prompt for prompt, _ in pairs}
    assert all("Ada Lovelace" in prompt and ", " in answer for prompt, answer in pairs)
    assert not any("Rome" in answer.split() for _, answer in pairs)
    assert make_answered_prompts(replace(case, prompt="it is", subject=""), 3) == ()
