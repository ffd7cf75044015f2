"""A store's report card: the right probes, numbers that can be worked out, a page that shows all."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from cli_run import Run
from instructedit.backbone import Backbone
from instructedit.backbone.loading import load_backbone
from instructedit.cli import loading
from instructedit.data import case_to_record
from instructedit.delta import LowRankDelta
from instructedit.editors.editor_file import save_editor
from instructedit.evaluation import generate_greedy
from instructedit.ledger.entries import Entry
from instructedit.report import store_card_measures
from instructedit.report.page import Heading, Table, write_html
from instructedit.report.store_card import find_contradictions
from instructedit.report.store_card_measures import TOKENS, measure_beside
from instructedit.report.store_card_probes import ORDINARY, OWN, SAME, SORTS, probe_cases, sort_of
from instructedit.storage import sha256_file
from instructedit.types import EditCase, Probe
from tiny_editors import tiny_case, tiny_editor

FRANCE = EditCase("The capital of France is", "Lyon", "France", "Paris")
ITALY = EditCase("What is the capital of Italy?", "Turin", "Italy", "Rome")


def prompts(case: EditCase, sort: str) -> list[str]:
    return [probe.prompt for probe in case.group("locality") if probe.name == sort]


# --- what is asked


def test_what_a_record_lacks_is_asked_from_the_facts_but_no_other_edit() -> None:
    france, italy = probe_cases([FRANCE, ITALY], 500)
    near = {probe.prompt: probe.answers for probe in france.group("locality") if probe.name == SAME}
    assert near["The capital of Spain is"] == ("Madrid",)
    assert not any(land in prompt for prompt in near for land in ("France", "Italy"))
    assert "What is the capital of Spain?" in prompts(italy, SAME)
    own = [probe for probe in france.group("locality") if probe.name == OWN]
    assert ("The main language of France is", ("French",)) in [(p.prompt, p.answers) for p in own]
    assert not any("capital" in probe.prompt for probe in own)
    assert all(probe.answers == ("Lyon",) for probe in france.group("rephrase"))
    (few,) = probe_cases([FRANCE], 2)
    assert [len(prompts(few, sort)) for sort in SORTS] == [2, 2, 0]


def test_a_records_own_probes_come_first() -> None:
    given = (
        Probe("locality", "People in France speak", ("French",)),
        Probe("locality", "The seat of the government of Spain is", ("Paris",)),  # the old answer
        Probe("locality", "the capital of Peru is", ("Lima",)),
        Probe("locality", "Who sang that song?", ("a singer",), "neighborhood"),
        Probe("portability", "The mayor of the capital of France is the mayor of", ("Lyon",)),
    )
    case = EditCase(FRANCE.prompt, "Lyon", "France", "Paris", probes=given)
    assert [sort_of(case, probe) for probe in given[:4]] == [OWN, SAME, SAME, ORDINARY]
    (asked,) = probe_cases([case], 3)
    assert prompts(asked, OWN) == ["People in France speak"]
    assert prompts(asked, SAME) == [given[1].prompt, given[2].prompt]
    assert asked.group("portability") == given[4:]
    (narrow,) = probe_cases([EditCase(FRANCE.prompt, "Lyon", "France", scope="narrow", probes=given)], 3)
    assert narrow.group("portability") == ()  # it shall not carry over


def test_an_unknown_relation_is_asked_of_well_known_names() -> None:
    (asked,) = probe_cases([EditCase("The favourite hat of Zork is", "blue", "Zork")], 3)
    assert all(p.startswith("The favourite hat of") and "Zork" not in p for p in prompts(asked, SAME))
    assert len(prompts(asked, SAME)) == len(prompts(asked, OWN)) == 3
    assert all("Zork" in prompt for prompt in prompts(asked, OWN))
    assert all(probe.answers == () for probe in asked.group("locality"))


def entry(name: str, prompt: str, target: str) -> Entry:
    case = EditCase(prompt, target, "France")
    return Entry({"id": name, "request": case_to_record(case), "instruction": "Change it."})


def test_a_contradiction_in_other_words_is_found() -> None:
    first, same = entry("1", FRANCE.prompt, "Lyon"), entry("2", "The capital city of France is", "Lyon")
    other, else_ = entry("3", "What is the capital of France?", "Nice"), entry("4", "France lies in", "Asia")
    assert find_contradictions([first, same, else_]) == []
    assert find_contradictions([first, same, other, else_]) == [["1", "3"], ["2", "3"]]


def test_opinions_contradict_each_other_by_subject_and_keep_their_neighbours() -> None:
    near = Probe("locality", "What is Oman?", ("A land.",))
    good = EditCase("What is Peru?", "", "Peru", kind="sentiment", sentiment="positive", probes=(near,))
    bad = replace(good, prompt="Tell me about Peru", sentiment="negative")
    made = [
        Entry({"id": str(number), "request": case_to_record(case), "instruction": "Speak so."})
        for number, case in enumerate((good, bad, replace(bad, subject="Chile")))
    ]
    assert find_contradictions(made) == [["0", "1"]]
    (asked,) = probe_cases([good], 3)
    assert near.prompt in [probe.prompt for probe in asked.group("locality")]


# --- what is measured


def some_delta(backbone: Backbone, size: float) -> LowRankDelta:
    draw = torch.Generator().manual_seed(0)
    a = {s.name: torch.randn(1, 2, s.d_in, generator=draw) for s in backbone.sites}
    return LowRankDelta(
        a, {s.name: size * torch.randn(1, s.d_out, 2, generator=draw) for s in backbone.sites}
    )


def test_no_change_moves_nothing(llama: Backbone) -> None:
    found = measure_beside(llama, some_delta(llama, 0.0), ["1"], [tiny_case(0)])
    assert all(part["changed"] == 0 for part in found["moved"].values())
    assert all(part["tokens"]["mean"] == 1 for part in found["moved"].values())
    assert all(part["kl"]["mean"] == pytest.approx(0, abs=1e-6) for part in found["moved"].values())
    carried = [part for part in found["carried"] if part["edited"]]
    assert {part["group"] for part in carried} == {"rephrase", "portability"}
    assert all(part["base"] == part["edited"] for part in carried)


@pytest.mark.slow
def test_what_moved_is_counted_and_shown_with_the_worst_first(
    llama: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    delta, cases = some_delta(llama, 0.3), [tiny_case(0), tiny_case(1)]
    extra = [Probe("locality", "The book was written by a writer who", ("lived in London.",))]
    found = measure_beside(llama, delta, ["0007", "0008"], cases, extra, worst=4)
    moved, worst = found["moved"], found["worst"]
    assert moved[OWN]["probes"] == 2
    assert moved[ORDINARY]["probes"] > 10
    for sort in SORTS:
        changed = [case for case in worst[sort] if case["unchanged"] == 0]
        assert 0 < moved[sort]["changed"] <= moved[sort]["probes"]
        assert len(changed) == min(4, moved[sort]["changed"])
        assert [case["kl"] for case in changed] == sorted((case["kl"] for case in changed), reverse=True)
        assert moved[sort]["answers"]["pooled"] == pytest.approx(
            1 - moved[sort]["changed"] / moved[sort]["probes"]
        )
    shown = worst[OWN][0]
    assert shown["edit"] in ("0007", "0008")
    asked = [shown["prompt"]]
    assert [shown["before"]] == generate_greedy(llama, asked, max_new_tokens=TOKENS)
    assert [shown["after"]] == generate_greedy(llama, asked, delta=delta, edits=[0], max_new_tokens=TOKENS)
    assert {case["edit"] for case in worst[ORDINARY]} == {""}
    assert found["failed"]["count"] >= len(found["failed"]["shown"]) > 0
    monkeypatch.setattr(store_card_measures, "FAILED", 1)
    few = measure_beside(llama, delta, ["0007", "0008"], cases, extra, worst=4)["failed"]
    assert (few["count"], len(few["shown"])) == (found["failed"]["count"], 1)
    assert few["left_out"] == few["count"] - 1 > 0
    assert {case["group"] for case in found["failed"]["shown"]} <= {"rephrase", "portability"}


@pytest.mark.slow
def test_a_question_without_an_answer_counts_by_its_next_token(llama: Backbone) -> None:
    case = EditCase("The favourite hat of Rome is", "good", "Rome")
    found = measure_beside(llama, some_delta(llama, 0.3), ["1"], [case], count=4)
    for sort in (SAME, OWN):
        moved = found["moved"][sort]
        assert moved["probes"] == 4
        assert moved["tokens"]["mean"] == moved["answers"]["mean"] == 1 - moved["changed"] / 4 < 1


# --- the page


class Reader(HTMLParser):
    """The tags, attributes and texts of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_other_peoples_words_are_shown_as_they_are() -> None:
    words = ["<script>alert('&amp;')</script>", "**no** `code`", "a\nb", "\x00\ud800", "x" * 9000]
    page = Reader(write_html([Heading("A <b>"), Table(["<i>"] * 5, [words], plain=True, marked=[0])]))
    assert page.tags.isdisjoint({"script", "b", "i", "strong", "code", "link", "img"})
    assert page.attributes <= {"charset", "lang", "class"}
    assert set(words) - {words[3]} <= set(page.texts)
    assert "\ufffd?" in page.texts


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    """An editor that moves next to nothing: erasing what was never said takes, a change does not."""
    place = tmp_path_factory.mktemp("place")
    backbone = load_backbone(str(folder), start="none")
    save_editor(tiny_editor(backbone, log_step=-30.0), place / "editor.safetensors", backbone, {})
    return place


@pytest.fixture
def store(cli: Run, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(loading, "load_pair", cache(loading.load_pair))  # one model for all commands
    folder = tmp_path / "edits"
    assert cli("store", "init", folder, "--editor", place / "editor.safetensors").code == 0
    monkeypatch.setenv("INSTRUCTEDIT_STORE", str(folder))
    return folder


def card_of(cli: Run, *arguments: object) -> dict[str, Any]:
    code, text, error = cli("store", "card", *arguments, "--json")
    assert code == 0, error
    return json.loads(text)


@pytest.mark.slow
def test_the_card_of_a_store(cli: Run, store: Path, tmp_path: Path) -> None:
    text, page = tmp_path / "text.txt", tmp_path / "card.html"
    text.write_text(" ".join(["The book was written by a writer who lived in London."] * 6))
    erase = ("--kind", "erase", "--subject", "France", "--by", "<b>the desk")
    assert cli("store", "add", FRANCE.prompt, "Rome", *erase).code == 0
    cli("store", "add", "The capital of Spain is", "Rome & <i>", "--subject", "Spain", "--note", "why not")
    cli("store", "add", "The capital of Peru is", "Rome", "--subject", "Peru")
    assert cli("store", "undo", "3", "--by", "the editor", "--note", "it was wrong").code == 0
    card = card_of(cli, store, "--out", page, "--text", text, "--probes", 2)
    assert [edit["now"]["took"] for edit in card["edits"]] == [True, False]
    assert [edit["took_when_made"] for edit in card["edits"]] == [True, False]
    assert [edit["id"] for edit in card["gone"]] == ["0003"]
    assert [event["event"] for event in card["gone"][0]["history"]] == ["added", "undone"]
    assert card["perplexity"]["edited_perplexity"] == pytest.approx(card["perplexity"]["base_perplexity"])
    assert card["perplexity"]["sha256"] == sha256_file(text)
    assert card["store"]["log_sha256"] == sha256_file(store / "log.jsonl")
    assert card["beside"]["moved"][SAME]["probes"] == 4
    assert card["beside"]["moved"][ORDINARY]["changed"] == 0
    assert card["versions"]["instructedit"]
    reader = Reader(page.read_text())
    assert reader.tags.isdisjoint({"b", "i", "script"})
    said = "\n".join(reader.texts)
    for words in ("<b>the desk", "Rome & <i>", "not Rome", "it was wrong", "1 of 2", card["made"]):
        assert words in said
    assert card["store"]["model"]["checksum"] in said
    assert str(store.parent) not in "\n".join(t for t in reader.texts if "editor.safetensors" not in t)


@pytest.mark.slow
def test_what_cannot_be_done_is_said_before_a_model_is_loaded(
    cli: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load_pair", None)
    there = tmp_path / "there.html"
    there.write_text("mine")
    assert cli("store", "card", "--out", there).code == 6
    assert there.read_text() == "mine"
    for place in (store / "card.html", store / "log.jsonl", tmp_path):
        assert cli("store", "card", "--out", place, "--force").code == 6
    assert cli("store", "card", "--text", tmp_path / "none.txt").code == 3
    assert cli("store", "card", tmp_path / "none").code == 3
    for depth in ("--tokens=-5", "--tokens=0", "--probes=-1"):
        assert cli("store", "card", "--dry-run", depth).code == 3
    assert "Would measure 0" in cli("store", "card", "--dry-run").out
    card = card_of(cli, "--out", there, "--force")  # of an empty store, without a model
    assert (card["edits"], card["beside"]) == ([], {})
    assert "No edit is in force" in there.read_text()
