"""From scored descriptions to a bank: the best ones, some of them kept unseen, as the package's own YAML."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from instructedit.errors import DataError
from instructedit.instructions.banks import Bank, find_bank
from instructedit.making.rules import nearly_same
from instructedit.making.trace import Score
from instructedit.storage import write_atomic
from instructedit.types import Kind

UNSEEN_SHARE = 5  # one wording in so many is kept unseen; the paper keeps one of ten


def make_bank(task: str, kind: Kind, scores: Mapping[str, Score], keep: int) -> Bank:
    """The bank of the `keep` best descriptions: every fifth by rank is kept unseen, so both parts are alike.

    A wording to train with that is nearly the same as an unseen one is left out. Reach and words of sentiment
    are those of the task's bank in the package. Errors: `DataError` when both parts cannot be filled.
    """
    ranked = rank(scores)[:keep]
    step = min(UNSEEN_SHARE, max(2, len(ranked)))
    unseen = ranked[step - 1 :: step]
    train = [text for text in ranked if not any(nearly_same(text, other) for other in unseen)]
    if not train or not unseen:
        raise DataError(
            f"{len(scores)} usable description(s) of {task} do not make a bank with wordings to train "
            "with and unseen ones. Expected two that differ: ask for more (--candidates, --rounds)."
        )
    return one_task_bank(task, kind, tuple(train), tuple(unseen))


def one_task_bank(task: str, kind: Kind, train: tuple[str, ...], unseen: tuple[str, ...] = ()) -> Bank:
    """A bank of one task; without `unseen` the same wordings stand for both."""
    own = find_bank(task, kind)
    return Bank(kind, (task,), own.scoped, {"train": train, "unseen": unseen or train}, own.words)


def rank(scores: Mapping[str, Score]) -> list[str]:
    """The descriptions, the best first; ties keep their order."""
    return sorted(scores, key=lambda text: (-scores[text].value, -scores[text].finer))


def write_bank(path: Path, bank: Bank, remark: str) -> None:
    """Write a bank so that `read_bank` reads it, with a remark on top, atomically. Errors: `OutputError`."""
    source: dict[str, Any] = {"kind": bank.kind, "tasks": list(bank.tasks), "scoped": bank.scoped}
    source |= {split: list(texts) for split, texts in bank.wordings.items()}
    if bank.words:
        source["words"] = {
            sentiment: {split: list(texts) for split, texts in words.items()}
            for sentiment, words in bank.words.items()
        }
    text = yaml.safe_dump(source, sort_keys=False, allow_unicode=True, width=110)
    write_atomic(path, f"# {' '.join(remark.split())}\n{text}")
