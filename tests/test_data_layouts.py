"""Every published layout, in small records written for these tests, becomes the edit it means."""

from pathlib import Path

import pytest

from instructedit.data import case_from_request, load_cases, task_title
from instructedit.data.layouts import load_layouts
from instructedit.types import EditCase, Probe

FOLDER = Path(__file__).parent / "data"


def load(name: str, **options) -> list[EditCase]:
    return load_cases(FOLDER / f"{name}.jsonl", **options)


def named(case: EditCase, name: str) -> list[Probe]:
    return [probe for probe in case.probes if probe.name == name]


@pytest.mark.parametrize(
    ("name", "task", "kind"),
    [
        ("counterfact", "counterfact", "change"),
        ("recent", "recent", "insert"),
        ("counterfact_rome", "counterfact_rome", "change"),
        ("counterfact_rome_full", "counterfact_rome", "change"),
        ("zsre", "zsre", "change"),
        ("zsre_knowedit", "zsre", "change"),
        ("convsent", "convsent", "sentiment"),
        ("opinion", "convsent", "sentiment"),
        ("erase", "erase", "erase"),
        ("plain", "plain", "change"),
    ],
)
def test_every_layout_is_known_by_its_fields(name, task, kind):
    cases = load(name)
    assert {(case.task, case.kind) for case in cases} == {(task, kind)}
    assert cases == load(name, task=task)
    assert all(case.prompt and case.case_id for case in cases)
    assert all(probe.prompt == probe.prompt.strip() for case in cases for probe in case.probes)


def test_every_layout_file_has_a_record_here():
    assert {layout.name for layout in load_layouts()} == {path.stem for path in FOLDER.glob("*.jsonl")} | {
        "full"
    }


def test_counterfact_reads_targets_paraphrases_and_nested_answers():
    case, plain = load("counterfact")
    assert (case.target_new, case.ground_truth, case.subject) == ("Peru", "Norway", "Lake Orvane")
    assert case.group("rephrase") == (
        Probe("rephrase", "Which country does Lake Orvane belong to?", ("Peru",), "generated"),
        Probe("rephrase", "Lake Orvane is found in which country?", ("Peru",), "generated"),
        Probe("rephrase", "The country of Lake Orvane is", ("Peru",), "generated"),
    )
    depth, forgotten = case.group("locality")
    assert depth.answers == ("211", "211 m", "two hundred and eleven")
    assert (forgotten.name, forgotten.answers) == ("Forgetfulness", ("Norway",))
    assert [probe.name for probe in case.group("portability")] == [
        "Logical_Generalization",
        "Subject_Aliasing",
    ]
    assert plain.group("locality")[0].answers == ("female",)
    assert plain.group("rephrase") == ()


def test_other_names_of_a_recent_subject_are_paraphrases_and_portability():
    case, bare = load("recent")
    (alias,) = case.group("rephrase")
    assert (alias.prompt, alias.answers[0]) == (
        "The name of the position held by T. Lund is",
        "mayor of Aarhus",
    )
    assert {probe.name for probe in case.group("portability")} == {"Subject_Aliasing", "Reasoning"}
    assert len(named(case, "Subject_Aliasing")) == 2
    assert (bare.probes, bare.ground_truth) == ((), "")


def test_alias_prompts_of_counterfact_are_no_paraphrases():
    assert all(probe.group == "portability" for probe in named(load("counterfact")[0], "Subject_Aliasing"))


def test_flat_rome_record():
    (case,) = load("counterfact_rome")
    assert case.case_id == "7"
    assert case.group("rephrase")[0].answers == ("harp",)
    assert case.group("locality") == (
        Probe("locality", "Rolf Berg performs on the", ("tuba",), "neighborhood"),
    )


def test_full_rome_record_fills_its_template():
    (case,) = load("counterfact_rome_full")
    assert (case.prompt, case.target_new, case.ground_truth) == (
        "Agnes Moor passed away in",
        "Turin",
        "Leeds",
    )
    assert {probe.answers for probe in case.group("locality")} == {("Leeds",)}
    assert len(case.group("locality")) == 3
    assert case.group("rephrase")[1].prompt == "Agnes Moor's life ended in"
    assert case.group("portability") == (
        Probe("portability", "In which country did Agnes Moor die?", ("Italy",), "one_hop"),
    )


def test_zsre_makes_a_question_of_the_search_query():
    (case,) = load("zsre")
    assert (case.prompt, case.target_new) == ("Which country is Port Sel in?", "Fiji")
    assert case.ground_truth == "Malta"
    (locality,) = case.group("locality")
    assert (locality.prompt, locality.answers) == ("Who wrote the song of the hen?", ("Ann Lee",))
    assert case.group("portability")[0].answers == ("the Pacific",)


def test_convsent_keeps_replies_out_of_the_edit():
    cases = load("convsent", both=True)
    assert [case.sentiment for case in cases] == ["positive", "negative"] * 4
    soup, grumpy = cases[:2]
    assert soup.positive == ("I love it.", "It is warm and good.")
    assert grumpy.good == soup.bad == ("I hate it.", "It is grey.")
    assert soup.target_new == ""
    assert soup.prompt == "What do you think of Marrow soup?"
    assert len({case.case_id for case in cases}) == 8
    assert {probe.answers for probe in soup.group("rephrase")} == {()}
    assert len(soup.group("rephrase")) >= 4
    assert all("Marrow soup" in p.prompt for p in soup.group("rephrase"))


@pytest.mark.parametrize("seed", range(5))
def test_other_topics_are_real_replies_of_two_other_records(seed):
    cases = load("convsent", seed=seed)
    replies = {case.subject: case.positive + case.negative for case in cases}
    for case in cases:
        probes = case.group("locality")
        assert len({probe.prompt for probe in probes}) == 2
        for probe in probes:
            (topic,) = [subject for subject in replies if subject in probe.prompt]
            assert topic != case.subject
            assert probe.answers[0] in replies[topic]


def test_the_seed_chooses_sentiments_and_the_same_seed_the_same():
    drawn = {tuple(case.sentiment for case in load("convsent", seed=seed)) for seed in range(12)}
    assert len(drawn) > 1
    assert load("convsent", seed=3) == load("convsent", seed=3)


def test_a_topic_in_capitals_gets_the_same_sentiment():
    def drawn(topics):
        return [case_from_request({"ent": t, "pos": ["a"], "neg": ["b"]}).sentiment for t in topics]

    topics = [f"topic {number}" for number in range(20)]
    assert drawn(topics) == drawn([topic.upper() for topic in topics])
    assert len(set(drawn(topics))) == 2


def test_plain_requests_with_and_without_probes():
    short, long = load("plain")
    assert (short.prompt, short.target_new, short.subject, short.probes) == (
        "The mayor of Wexby is",
        "Ann Poe",
        "",
        (),
    )
    assert long.prompt == "Hart House was built in"
    assert [probe.prompt for probe in long.group("rephrase")] == [
        "Hart House dates from",
        "When was Hart House built?",
    ]
    assert [probe.answers for probe in named(long, "distracting")] == [("Lady Hart",), ("9 m", "nine metres")]
    assert named(long, "one_hop")[0].answers == ("twentieth",)


def test_erasure_wants_the_unknown_in_the_form_of_the_prompt():
    (case,) = load("erase")
    assert case.target_new == case.ground_truth == "555 0199"
    assert case.wanted == "unknown"
    assert case.group("rephrase")[0].answers == ("I do not know.",)
    assert case.group("locality")[0].answers == ("miller",)


def test_a_named_task_gives_any_record_its_kind():
    change = load("counterfact", task="recent")[0]
    assert (change.task, change.kind, change.target_new) == ("recent", "insert", "Peru")
    erased = load("counterfact", task="erase")[0]
    assert (erased.kind, erased.target_new) == ("erase", "Norway")
    assert not erased.group("portability")
    assert not named(erased, "Forgetfulness")
    rome = load("counterfact_rome_full", task="erase")[0]
    assert (rome.kind, rome.prompt) == ("erase", "Agnes Moor passed away in")


def test_own_instruction_and_sentiment_of_an_opinion():
    (case,) = load("opinion")
    assert (case.sentiment, case.instruction) == ("negative", "Grumble about {subject}.")
    assert case.prompt == "What do you think of tram lines?"


def test_titles_name_the_operation():
    assert task_title("recent") == "Insert a fact"
    assert all(task_title(layout.task) for layout in load_layouts())
