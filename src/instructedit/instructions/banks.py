"""The banks of descriptions: data in `banks/*.yaml`, with wordings for training and unseen ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from instructedit.data.layouts import load_layouts, named_layouts
from instructedit.errors import DataError, one_line
from instructedit.types import Kind, Scope, Sentiment

Split = Literal["train", "unseen"]
Wordings = dict[Split, tuple[str, ...]]
PARTS = ("scope.yaml",)  # of instructions: no operations
HELD_OUT = ("year", "zsre")  # tasks that no editor is trained on, nor told of in training


@dataclass(frozen=True)
class Bank:
    """Descriptions of one operation, for the tasks that ask for it.

    `scoped` operations take a sentence about their reach as well. `words` fill the slot ``{sentiment}``.
    """

    kind: Kind
    tasks: tuple[str, ...]
    scoped: bool
    wordings: Wordings
    words: dict[Sentiment, Wordings]

    @property
    def is_held_out(self) -> bool:
        """Whether all of its tasks are kept for tests: nothing may be learned from its wordings."""
        return set(self.tasks) <= set(HELD_OUT)


_in_use: ContextVar[tuple[Bank, ...]] = ContextVar("in_use", default=())


@cache
def load_banks() -> tuple[Bank, ...]:
    """All banks of operations, in the order of their files' names."""
    folder = files("instructedit.instructions").joinpath("banks")
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(".yaml"))
    return tuple(_parse_bank(_read_yaml(name)) for name in names if name not in PARTS)


def read_bank(path: Path) -> Bank:
    """A bank of one's own, written as those of the package are.

    Errors: `DataError` when the file cannot be read or lacks something.
    """
    try:
        bank = _parse_bank(yaml.safe_load(Path(path).read_text("utf-8")))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}. Expected a bank of instructions.") from error
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is no bank of instructions: {one_line(error)}. Expected YAML with kind, "
            "tasks, scoped, train and unseen."
        ) from error
    if bank.kind not in get_args(Kind) or not all(bank.wordings.values()):
        raise DataError(
            f"{path}: found kind {bank.kind!r} with {len(bank.wordings['train'])} wordings to train with and "
            f"{len(bank.wordings['unseen'])} unseen. Expected {', '.join(get_args(Kind))}, and some of both."
        )
    return bank


@contextmanager
def using_bank(bank: Bank) -> Iterator[None]:
    """Draw the instructions of the bank's tasks and kind from it for as long as the block lasts."""
    token = _in_use.set((bank, *_in_use.get()))
    try:
        yield
    finally:
        _in_use.reset(token)


@cache
def load_scopes() -> dict[Scope, Wordings]:
    """The wordings of ``wide`` and ``narrow``."""
    source = _read_yaml("scope.yaml")
    return {scope: _parse_wordings(source[scope]) for scope in get_args(Scope)}


@cache
def load_words() -> tuple[str, ...]:
    """Common English words without any bearing on edits, for the control ``random``."""
    return tuple(files("instructedit.instructions").joinpath("words.txt").read_text("utf-8").split())


def find_bank(task: str, kind: Kind) -> Bank:
    """The bank of a task where its kind is the edit's, else the first bank of that kind."""
    banks = [bank for bank in load_banks() if bank.kind == kind]
    own = [bank for bank in (*_in_use.get(), *banks) if bank.kind == kind and task in bank.tasks]
    return [*own, *banks][0]


def list_tasks() -> list[str]:
    """The names of all tasks, in alphabetical order."""
    return sorted({layout.task for layout in load_layouts()})


def count_instructions(task: str, split: Split = "train") -> int:
    """How many different instructions a task's bank can give, slots other than the topic counted.

    Raises UnknownNameError for an unknown task.
    """
    bank = find_bank(task, named_layouts(task)[0].kind)
    reaches = sum(len(scope[split]) for scope in load_scopes().values()) if bank.scoped else 1
    fillings = sum(len(words[split]) for words in bank.words.values()) if bank.words else 1
    return len(bank.wordings[split]) * reaches * fillings


def _read_yaml(name: str) -> dict[str, Any]:
    text = files("instructedit.instructions").joinpath("banks").joinpath(name).read_text("utf-8")
    return yaml.safe_load(text)


def _parse_wordings(source: dict[str, Any]) -> Wordings:
    return {"train": tuple(source["train"]), "unseen": tuple(source["unseen"])}


def _parse_bank(source: dict[str, Any]) -> Bank:
    words = {sentiment: _parse_wordings(lists) for sentiment, lists in source.get("words", {}).items()}
    return Bank(source["kind"], tuple(source["tasks"]), source["scoped"], _parse_wordings(source), words)
