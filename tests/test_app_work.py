"""Long work: told of, waited for, cancelled; who works or loads a model keeps nobody else."""

import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Lock
from typing import Any

import pytest

from app_desk import FRANCE, tiny_functions
from instructedit.app.book import change_nothing
from instructedit.app.functions import Functions
from instructedit.app.pair import SOLVED, Pair
from instructedit.app.request import Form
from instructedit.app.session import Desk
from instructedit.app.work import Tell, WorkCancelledError
from instructedit.backbone import Backbone
from instructedit.errors import DataError
from instructedit.ledger.entries import Entry
from instructedit.ledger.store import Store, create_store
from instructedit.ledger.writer import open_writer

LONG = 30  # seconds after which a test fails that waits for another thread


def cancel_at(functions: Functions, token: str, word: str):
    def tell(_share: float, what: str) -> None:
        if what.startswith(word):
            functions.desk.cancel(token)

    return tell


@pytest.mark.slow
@pytest.mark.parametrize("word", ["Reading", "Putting", "Asking"])
def test_cancelled_work_changes_nothing(functions: Functions, token: str, word: str) -> None:
    with pytest.raises(WorkCancelledError):
        functions.edit(token, FRANCE, tell=cancel_at(functions, token, word))
    assert functions.edits(token) == []
    assert functions.edit(token, FRANCE)["added"] == 1  # and the session, the model and the store are free


def test_who_waits_for_the_model_can_give_up(functions: Functions, token: str, pair: Pair) -> None:
    with pair.lock, pytest.raises(WorkCancelledError):
        functions.ask(token, "What is", tell=cancel_at(functions, token, "Waiting"))
    assert not functions.desk.cancel(token)


def test_work_is_stopped_when_the_page_ends(functions: Functions, token: str) -> None:
    begun, go_on = Event(), Event()

    def tell(_share: float, _what: str) -> None:
        begun.set()
        go_on.wait(LONG)

    with ThreadPoolExecutor(2) as threads:
        edit = threads.submit(functions.edit, token, FRANCE, tell=tell)
        assert begun.wait(LONG)
        work = functions.desk.find(token).work
        end = threads.submit(functions.desk.close)
        assert work is not None
        assert work.stop.wait(LONG)
        go_on.set()
        end.result(LONG)
        with pytest.raises(WorkCancelledError):
            edit.result(LONG)
    assert not functions.desk.root.exists()


def test_a_session_does_one_thing_at_a_time(functions: Functions, token: str) -> None:
    refused: list[str] = []

    def meddle(_share: float, _what: str) -> None:
        try:
            functions.undo(token, ["1"])
        except DataError as error:
            refused.append(str(error))

    functions.edit(token, FRANCE, tell=meddle)
    assert refused
    assert all("still at work" in text for text in refused)


# Inside a pass


@contextmanager
def cancelled_in_a_pass(functions: Functions, token: str, pair: Pair) -> Iterator[list[int]]:
    """The session's work is cancelled by the first pass of the model; how many passes there were."""
    passes: list[int] = []

    def cancel(*_: Any) -> None:
        passes.append(len(passes))
        functions.desk.cancel(token)

    hook = pair.backbone.model.base_model.register_forward_hook(cancel)
    try:
        yield passes
    finally:
        hook.remove()


WORKS: dict[str, Callable[[Functions, str], Any]] = {
    "ask": lambda functions, token: functions.ask(token, "The capital of Spain is", "Rome"),
    "chat": lambda functions, token: functions.chat(token, "The capital of Spain is", tokens=4),
    "edit": lambda functions, token: functions.edit(token, FRANCE),
}


@pytest.mark.parametrize("name", WORKS)
def test_cancelled_work_makes_no_further_pass(
    functions: Functions, token: str, pair: Pair, name: str
) -> None:
    with cancelled_in_a_pass(functions, token, pair) as passes, pytest.raises(WorkCancelledError):
        WORKS[name](functions, token)
    assert len(passes) == 1
    assert functions.edits(token) == []
    assert functions.ask(token, "The capital of Spain is")["prompt"]  # the model is free again


# What others do meanwhile


@pytest.fixture
def shared(pair: Pair, tmp_path: Path) -> Iterator[tuple[Functions, Path]]:
    store = tmp_path / "store"
    create_store(store, {"name": "m", "checksum": ""}, {"name": "e", "checksum": ""})
    functions = tiny_functions(replace(pair, lock=Lock(), solved=OrderedDict()), store)
    yield functions, store
    functions.desk.close()


def undo_while_waiting(functions: Functions, store: Path) -> Tell:
    """Take the model away; whoever waits for it gets it when edit 1 is undone by somebody else."""
    lock = functions.desk.pair("tiny").lock
    lock.acquire()

    def tell(_share: float, what: str) -> None:
        if what.startswith("Waiting"):
            with open_writer(store) as writer:
                writer.undo(["1"])
            lock.release()

    return tell


@pytest.mark.slow
def test_a_shared_store_is_read_when_the_model_is_free(shared: tuple[Functions, Path]) -> None:
    functions, store = shared
    token = functions.desk.open()
    functions.edit(token, FRANCE)
    (edit,) = functions.look(token, ["1"], undo_while_waiting(functions, store))
    assert edit["now"] == "undone"
    functions.redo(token, ["1"])
    with pytest.raises(DataError, match="no edit is in force"):
        functions.adapter(token, undo_while_waiting(functions, store))


@pytest.mark.slow
def test_a_store_restored_from_a_copy_is_answered_as_it_is(
    shared: tuple[Functions, Path], tmp_path: Path
) -> None:
    functions, store = shared
    token, copy = functions.desk.open(), tmp_path / "copy"
    shutil.copytree(store, copy)

    def ask() -> float:
        return functions.ask(token, FRANCE.prompt, FRANCE.target)["probability_after"]

    functions.edit(token, FRANCE)
    edited = ask()
    shutil.rmtree(store)
    copy.rename(store)
    functions.edit(token, Form("The capital of Spain is", "Paris"))
    assert ask() != edited
    functions.desk.pair("tiny").solved.clear()
    assert ask() != edited


def test_few_updates_are_kept_and_large_ones_fewer(
    shared: tuple[Functions, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    functions, folder = shared
    pair, store = functions.desk.pair("tiny"), Store(folder)

    def keep(name: str) -> None:
        store.entries = {name: Entry({"id": name, "rows": {"sha256": name}})}
        pair.keep(store, change_nothing(pair.backbone))

    for number in range(SOLVED + 2):
        keep(str(number))
    assert [key for (key,) in pair.solved] == [str(number) for number in range(2, SOLVED + 2)]
    monkeypatch.setattr("instructedit.app.pair.SOLVED_BYTES", 1)
    keep("large")
    assert list(pair.solved) == [("large",)]


def test_texts_that_were_asked_for_are_kept_within_bounds(
    llama: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = Backbone(llama.model, llama.tokenizer, llama.sites, llama.start_ids)
    monkeypatch.setattr("instructedit.backbone.backbone.KEPT_TOKENS", 100)
    for number in range(200):
        assert backbone.text(f"Prompt {number} is", "Rome") == llama.text(f"Prompt {number} is", "Rome")
    assert 0 < sum(len(text.ids) for text in backbone._texts.values()) <= 100


# Loading


class SlowLoad:
    """Loads the first editor at once, and others when it is told to go on."""

    def __init__(self, pair: Pair) -> None:
        self.pair, self.begun, self.go_on = pair, Event(), Event()

    def __call__(self, name: str) -> Pair:
        if name != "one":
            self.begun.set()
            assert self.go_on.wait(LONG)
        return replace(self.pair, name=name)


@pytest.fixture
def slow(pair: Pair) -> Iterator[tuple[Functions, SlowLoad]]:
    load = SlowLoad(pair)
    functions = Functions(Desk(load, ["one", "two", "three"]))
    functions.desk.pair("one")
    yield functions, load
    load.go_on.set()
    functions.desk.close()


def test_who_has_a_model_does_not_wait_while_another_is_loaded(slow: tuple[Functions, SlowLoad]) -> None:
    functions, load = slow
    first, second = functions.desk.open(), functions.desk.open()
    heard: list[str] = []

    def give_up(_share: float, what: str) -> None:
        heard.append(what)
        functions.desk.cancel(second)

    with ThreadPoolExecutor(2) as threads:
        choice = threads.submit(functions.choose, first, "two")
        assert load.begun.wait(LONG)
        facts = threads.submit(functions.facts, second)
        try:
            assert facts.result(LONG / 3)["editor"] == "one"
            with pytest.raises(WorkCancelledError):
                functions.choose(second, "three", give_up)
            assert heard == ["Waiting until another model is loaded"]
        finally:
            load.go_on.set()
        assert choice.result(LONG)["editor"] == "two"


def test_a_choice_that_is_cancelled_while_its_model_is_loaded_is_none(
    slow: tuple[Functions, SlowLoad],
) -> None:
    functions, load = slow
    token = functions.desk.open()
    with ThreadPoolExecutor(1) as threads:
        choice = threads.submit(functions.choose, token, "two")
        assert load.begun.wait(LONG)
        assert functions.desk.cancel(token)
        load.go_on.set()
        with pytest.raises(WorkCancelledError):
            choice.result(LONG)
    assert functions.facts(token)["editor"] == "one"


def test_a_visitor_who_comes_while_all_others_work_is_kept(
    functions: Functions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instructedit.app.session.MOST", 1)
    first = functions.desk.open()
    with functions.desk.working(first):
        second = functions.desk.open()
        assert functions.desk.knows(second)
    third = functions.desk.open()
    assert [functions.desk.knows(name) for name in (first, second, third)] == [False, False, True]
