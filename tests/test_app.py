"""What stands behind the page: sessions, edits seen before and after, undo, the chat and the picture."""

import math
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

import pytest

from app_desk import FRANCE, tiny_functions
from instructedit.app import directions
from instructedit.app.functions import Functions
from instructedit.app.pair import Pair
from instructedit.app.session import Desk
from instructedit.errors import DataError, UnknownNameError
from instructedit.ledger.store import create_store
from instructedit.types import EditCase, Kind

pytestmark = pytest.mark.slow

# Edits


def test_an_edit_is_seen_before_and_after_token_by_token(functions: Functions, token: str) -> None:
    heard: list[str] = []
    found = functions.edit(token, FRANCE, tell=lambda _share, what: heard.append(what))
    (edit,) = found["edits"]
    groups = [question["group"] for question in edit["questions"]]
    assert groups[:2] == ["prompt", "instructed"]
    assert {"rephrase", "neighbour"} <= set(groups)
    assert "Reading edit 1 of 1" in heard
    for question in edit["questions"]:
        for side in ("before", "after"):
            product = math.prod(part["p"] for part in question[f"wanted_{side}"])
            assert product == pytest.approx(question[f"probability_{side}"], rel=1e-3)
            assert "".join(part["token"] for part in question[f"wanted_{side}"]).strip() == "Rome"
    prompt = edit["questions"][0]
    assert prompt["probability_after"] > prompt["probability_before"]


def test_undo_leaves_no_trace_and_redo_brings_it_back(functions: Functions, token: str) -> None:
    def ask() -> tuple[float, float]:
        found = functions.ask(token, FRANCE.prompt, FRANCE.target)
        return found["probability_before"], found["probability_after"]

    before, same = ask()
    assert before == same
    functions.edit(token, FRANCE)
    edited = ask()
    assert edited[1] != before
    assert functions.undo(token, ["1"]) == ["0001"]
    assert ask() == (before, before)
    assert functions.redo(token, ["1"])
    assert ask() == pytest.approx(edited)
    assert [edit["now"] for edit in functions.edits(token)] == ["in force"]


def test_the_questions_of_an_edit_are_asked_again(functions: Functions, token: str) -> None:
    (made,) = functions.edit(token, FRANCE)["edits"]
    (edit,) = functions.look(token, ["1"])
    assert (edit["id"], edit["holds"]) == ("0001", made["took"])
    assert [question["prompt"] for question in edit["questions"]] == [q["prompt"] for q in made["questions"]]
    assert edit["questions"][0]["probability_after"] > edit["questions"][0]["probability_before"]
    functions.undo(token, ["1"])
    (gone,) = functions.look(token, ["1"])
    assert gone["now"] == "undone"
    for question in gone["questions"]:
        assert question["probability_after"] == pytest.approx(question["probability_before"])
        assert question["tokens_after"] == question["tokens_before"]


def test_an_instruction_is_heard(
    functions: Functions, token: str, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(_backbone: object, cases: list[EditCase], words: list[str]) -> list[EditCase]:
        return [
            replace(case, kind="erase") if "Forget" in said else case
            for case, said in zip(cases, words, strict=True)
        ]

    monkeypatch.setattr(pair.editor, "told", told, raising=False)
    functions.edit(token, replace(FRANCE, instruction="Forget this."))
    functions.edit(token, replace(FRANCE, prompt="The capital of Spain is", instruction="Change this."))
    assert [edit["kind"] for edit in functions.edits(token)] == ["erase", "change"]


def test_two_people_see_their_own_edits_only(functions: Functions, token: str) -> None:
    other = functions.desk.open()
    functions.edit(token, FRANCE)
    assert functions.edits(other) == []
    found = functions.ask(other, FRANCE.prompt, FRANCE.target)
    assert found["probability_after"] == found["probability_before"]
    assert functions.facts(other)["in_force"] == 0


def test_those_who_share_a_store_see_all_edits(pair: Pair, tmp_path: Path) -> None:
    store = tmp_path / "store"
    create_store(store, {"name": "m", "checksum": ""}, {"name": "e", "checksum": ""})
    functions = tiny_functions(pair, store)
    first, second = functions.desk.open(), functions.desk.open()
    functions.edit(first, FRANCE, by="the desk")
    assert [edit["by"] for edit in functions.edits(second)] == ["the desk"]
    assert functions.undo(second, ["0001"]) == ["0001"]
    functions.desk.close()
    assert (store / "log.jsonl").is_file()


def test_a_contradiction_is_refused_or_replaces(functions: Functions, token: str) -> None:
    functions.edit(token, FRANCE)
    assert functions.edit(token, FRANCE)["repeated"] == ["'The capital of France is' -> 'Rome'"]
    with pytest.raises(DataError, match="contradicts edit 0001"):
        functions.edit(token, replace(FRANCE, target="London"))
    (edit,) = functions.edit(token, replace(FRANCE, target="London"), replace=True)["edits"]
    assert edit["replaces"] == ["0001"]


def test_editors_are_chosen_and_keep_their_edits_apart(pair: Pair) -> None:
    loaded: list[str] = []

    def load(name: str) -> Pair:
        loaded.append(name)
        return replace(pair, name=name)

    functions = Functions(Desk(load, ["one", "two"]))
    token = functions.desk.open()
    functions.edit(token, FRANCE)
    assert loaded == ["one"]
    assert functions.choose(token, "two")["in_force"] == 0
    assert functions.choose(token, "one")["in_force"] == 1
    assert loaded == ["one", "two"]
    with pytest.raises(UnknownNameError, match="unknown editor"):
        functions.choose(token, "../three")
    functions.desk.close()


def test_an_edit_of_another_editor_is_not_taken_back(pair: Pair) -> None:
    functions = Functions(Desk(lambda name: replace(pair, name=name), ["one", "two"]))
    token = functions.desk.open()
    functions.edit(token, FRANCE)
    functions.choose(token, "two")
    assert functions.edit(token, replace(FRANCE, target="London"))["editor"] == "two"
    with pytest.raises(DataError, match="made under the editor one, and two is chosen now"):
        functions.undo(token, ["0001"], editor="one")
    assert [edit["now"] for edit in functions.edits(token)] == ["in force"]
    assert functions.undo(token, ["0001"], editor="two") == ["0001"]
    functions.desk.close()


def test_of_several_edits_all_come_back_or_none(functions: Functions, token: str) -> None:
    spain = replace(FRANCE, prompt="The capital of Spain is")
    for form in (FRANCE, spain):
        functions.edit(token, form)
    functions.undo(token, ["1", "2"])
    functions.edit(token, replace(spain, target="London"))
    with pytest.raises(DataError, match="contradicts edit 0003"):
        functions.redo(token, ["1", "2"])
    assert [edit["now"] for edit in functions.edits(token)] == ["undone", "undone", "in force"]
    assert functions.redo(token, ["1", "2", "1"], replace=True) == ["0001", "0002"]
    assert [edit["now"] for edit in functions.edits(token)] == ["in force", "in force", "replaced"]
    assert functions.redo(token, ["1"]) == []


def test_an_edit_whose_questions_cannot_be_shown_is_not_made(
    functions: Functions, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise DataError("the text is too long")

    monkeypatch.setattr("instructedit.app.book.explain_readings", fail)
    with pytest.raises(DataError, match="too long"):
        functions.edit(token, FRANCE)
    assert functions.edits(token) == []


# Chat and picture


def test_without_edits_both_say_the_same_and_with_one_they_need_not(functions: Functions, token: str) -> None:
    said = functions.chat(token, FRANCE.prompt, tokens=6)
    assert said["base"] == said["edited"]
    functions.edit(token, FRANCE)
    changed = functions.chat(token, FRANCE.prompt, tokens=6)
    assert changed["base"] == said["base"]
    assert changed["edited"] != said["edited"]
    with pytest.raises(DataError, match="form of a conversation"):
        functions.chat(token, "What is", style="chat")
    with pytest.raises(DataError, match="0 tokens"):
        functions.chat(token, "What is", tokens=0)


def test_the_picture_has_every_edit_and_this_one(
    functions: Functions, token: str, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directions, "reference_cases", few_references)
    functions.edit(token, FRANCE)
    heard: list[str] = []
    svg = functions.picture(token, "1", tell=lambda _share, what: heard.append(what))
    circles = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}circle")
    titles = [title.text for circle in circles for title in circle]
    assert titles.count(directions.THIS) == len(directions.SHOWN)
    assert len(titles) == len(directions.SHOWN) * (len(few_references()) + 1)
    assert any(what.startswith("Looking") for what in heard)
    heard.clear()
    assert functions.picture(token, "1", tell=lambda _share, what: heard.append(what)) == svg
    assert not any("of every kind" in what for what in heard)  # the others are kept
    pair.directions.clear()


references = cache(directions.reference_cases)  # bound before any test puts another in its place


def few_references() -> list[EditCase]:
    return references()[::8]


def test_the_references_are_of_every_kind() -> None:
    counts = Counter(case.kind for case in references())
    assert set(counts) == set(get_args(Kind))
    assert min(counts.values()) >= 5
