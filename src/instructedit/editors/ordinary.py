"""Ordinary text: passages of a file, or the package's own."""

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from instructedit.backbone import Backbone, Text
from instructedit.data.plain import plain_facts
from instructedit.errors import DataError

TEXTS = 4000  # at most so many passages, spread evenly over the text
SHORTEST, LONGEST = 3, 14  # words of a piece
WORDS, LEAST = 32, 5  # a passage's words, and the fewest that make one


def ordinary_texts(backbone: Backbone, text: str = "") -> list[Text]:
    """Passages of a file, or the package's own where none is named, tokenised.

    The package's are what the default model says by itself (``ordinary.txt``) and its plain facts.
    Errors: `DataError` when the file cannot be read or holds no passage.
    """
    passages = _read(Path(text)) if text else [*plain_passages(), *plain_sentences()]
    if not passages:
        raise DataError(f"{text} holds no passage. Expected lines of at least {LEAST} words.")
    count = min(TEXTS, len(passages))
    return [backbone.text(passages[place * len(passages) // count]) for place in range(count)]


@cache
def plain_passages() -> tuple[str, ...]:
    """What the default model says by itself; ``scripts/make_ordinary.py`` wrote it."""
    lines = (files("instructedit.data") / "ordinary.txt").read_text(encoding="utf-8").splitlines()
    return tuple(passage for line in lines for passage in _cut(line.split()))


@cache
def plain_sentences() -> tuple[str, ...]:
    """True sentences: what each plain fact says before its edit, and its neighbours."""
    cases = plain_facts("train")
    told = [f"{case.prompt} {case.ground_truth}" for case in cases if case.ground_truth]
    near = [" ".join([p.prompt, *p.answers[:1]]) for case in cases for p in case.group("locality")]
    return tuple(dict.fromkeys(told + near))


def make_piece(rng: random.Random) -> str:
    """A few words out of one of the package's passages, as a sentence of its own: what may stand before."""
    words = rng.choice(plain_passages()).split()
    start = rng.randrange(max(1, len(words) - SHORTEST))
    return " ".join(words[start : start + rng.randint(SHORTEST, LONGEST)]).rstrip(".,;:") + "."


def plain_digest() -> str:
    """The SHA-256 of the package's ordinary text."""
    return hashlib.sha256("\n".join([*plain_passages(), *plain_sentences()]).encode()).hexdigest()


def _read(path: Path) -> list[str]:
    try:
        whole = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"cannot read {path}: {error}. Expected a text or JSON-lines file in UTF-8."
        ) from error
    if path.suffix == ".jsonl":  # its texts may hold other ends of lines
        numbered = [pair for pair in enumerate(whole.split("\n"), 1) if pair[1].strip()]
        lines = [_record(path, number, line) for number, line in numbered]
    else:
        lines = whole.splitlines()
    return [passage for line in lines for passage in _cut(line.split())]


def _record(path: Path, number: int, line: str) -> str:
    """A record's ``text``, or its ``question`` with the first ``answer``."""
    try:
        record = json.loads(line)
        if "text" in record:
            return str(record["text"])
        answer = record["answer"]
        return f"{record['question']} {answer if isinstance(answer, str) else answer[0]}"
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"{path}, line {number}: {error!r}. Expected JSON with text, or with question and answer."
        ) from error


def _cut(words: Sequence[str]) -> Iterator[str]:
    for start in range(0, len(words), WORDS):
        if len(part := words[start : start + WORDS]) >= LEAST:
            yield " ".join(part)
