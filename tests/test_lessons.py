"""What a lesson asks: roles by scope and kind, both sides of a pair, wordings that keep the answer."""

import random
from collections import Counter
from dataclasses import replace

from instructedit.data.paraphrase import make_loose_rephrases
from instructedit.training.lessons import Lesson, LessonConfig, LessonMaker
from instructedit.types import EditCase, Probe
from tiny_editors import tiny_case, tiny_cases, tiny_opinion

ALWAYS = LessonConfig(null=0.0, instructed=1.0, erase=0.0)


def maker(config: LessonConfig = ALWAYS) -> LessonMaker:
    return LessonMaker(
        [*tiny_cases(), tiny_opinion(0)], [Probe("locality", "Who wrote it?", ("a writer",))], config
    )


def roles(lesson: Lesson, slot: str) -> set[str]:
    return {item.role for item in lesson.items if item.slot.startswith(slot)}


def test_what_follows_is_fitted_when_wide_and_kept_when_narrow():
    wide, narrow = maker().make_pair(tiny_case(0), random.Random(1))
    assert (wide.case.scope, narrow.case.scope) == ("wide", "narrow")
    assert roles(wide, "portability") == {"fit"}
    assert roles(narrow, "portability") == {"keep"}
    assert wide.instruction != narrow.instruction


def test_another_name_of_the_subject_belongs_to_a_wide_edit_only():
    alias = Probe("portability", "The capital of the French Republic is", ("Rome",), "Subject_Aliasing")
    case = replace(tiny_case(0), probes=(alias, replace(alias, group="rephrase")))
    for lesson, role in zip(maker().make_pair(case, random.Random(1)), ("fit", "keep"), strict=True):
        asked = {item.role for item in lesson.items if item.prompt == alias.prompt}
        assert asked == {role}


def test_probes_without_answers_are_no_part_of_a_lesson():
    for case in (tiny_case(0), tiny_opinion(0)):
        bare = replace(case, probes=tuple(replace(probe, answers=()) for probe in case.probes))
        asked = {item.prompt for lesson in maker().make_pair(bare, random.Random(1)) for item in lesson.items}
        assert not asked & {probe.prompt for probe in bare.probes if probe.group != "rephrase"}


def test_the_two_sides_of_a_pair_ask_the_same_texts():
    for case in (tiny_case(3), tiny_opinion(0)):
        first, second = maker().make_pair(case, random.Random(5))
        plain = [
            Counter(item.prompt for item in x.items if item.slot != "instructed") for x in (first, second)
        ]
        assert plain[0] == plain[1]


def test_a_pair_of_opinions_swaps_good_and_bad():
    positive, negative = maker().make_pair(tiny_opinion(0), random.Random(2))
    good = [{i.answer for i in x.items if i.role == "good"} for x in (positive, negative)]
    bad = [{i.answer for i in x.items if i.role == "bad"} for x in (positive, negative)]
    assert good == bad[::-1]
    assert good[0]
    assert not good[0] & good[1]


def test_replies_never_enter_the_edit():
    case = tiny_opinion(0)
    assert not any(reply in case.prompt + case.carrier for reply in case.positive + case.negative)
    assert case.carrier == tiny_opinion(0).carrier


def test_an_erasure_wants_the_unknown_reply_and_keeps_no_probe_of_the_old_answer():
    config = LessonConfig(erase=1.0, null=0.0)
    probes = (Probe("locality", "The capital of France, which is not Rome, is", ("Madrid",)),)
    case = EditCase("The capital of France is", "Rome", "France", "Madrid", probes=probes)
    lesson = maker(config).make(case, random.Random(0))
    assert lesson.case.kind == "erase"
    assert lesson.case.target_new == "Madrid"
    assert {item.answer for item in lesson.items if item.role == "fit"} == {"unknown"}
    assert "own" not in {item.slot for item in lesson.items}


def test_only_plain_facts_are_taught_without_an_instruction():
    silent = maker(LessonConfig(null=1.0, narrow=0.0, erase=0.0))
    assert silent.make(tiny_case(0), random.Random(0)).instruction == ""
    assert silent.make(tiny_opinion(0), random.Random(0)).instruction


def test_loose_wordings_name_what_is_asked_and_never_the_answer():
    case = EditCase("The name of the spouse of Ada is", "Carol", "Ada")
    wordings = make_loose_rephrases(case, seed=0, n=8)
    assert len(wordings) >= 4
    assert all("Ada" in wording and "Carol" not in wording for wording in wordings)
    assert case.prompt not in wordings
    assert wordings == make_loose_rephrases(case, seed=0, n=8)


def test_other_prompts_and_erasures_have_no_loose_wordings():
    assert make_loose_rephrases(EditCase("Ada plays the", "piano", "Ada"), 0, 4) == ()
    erasure = EditCase("The spouse of Ada is", "Carol", "Ada", kind="erase")
    assert make_loose_rephrases(erasure, 0, 4) == ()


def test_what_comes_after_the_answer_is_kept():
    lesson = maker(replace(ALWAYS, after=1.0)).make(tiny_case(0), random.Random(0))
    (after,) = [item for item in lesson.items if item.slot == "after"]
    assert after.role == "keep"
    assert after.prompt == f"{tiny_case(0).prompt} {tiny_case(0).target_new}"
    assert not roles(maker(replace(ALWAYS, after=0.0)).make(tiny_case(0), random.Random(0)), "after")


def test_the_context_of_a_rewording_is_a_passages_first_words():
    passage = Probe(
        "locality", "One two three four five six seven eight nine ten eleven twelve thirteen", ("x",)
    )
    contexts = LessonMaker(tiny_cases(), [passage, Probe("locality", "Too short?", ("x",))], ALWAYS).contexts
    assert contexts == ["One two three four five six seven eight nine."]
