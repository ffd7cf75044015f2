"""Ordinary text as probes: what an edit has nothing to do with."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from instructedit.cli.data_files import find_files
from instructedit.errors import DataError
from instructedit.types import Probe

PROMPT_WORDS, ANSWER_WORDS = 20, 8  # of a passage


def read_ordinary(paths: Sequence[Path], limit: int | None = None) -> list[Probe]:
    """Probes from passages (``.txt``, one a line, short lines left out) and from questions (``.jsonl``).

    A question's record has ``question`` and ``answer``, a text or a list of texts. `limit` counts per file.
    Errors: `DataError` when a file cannot be read.
    """
    return [probe for path in (find_files(paths) if paths else []) for probe in list(_read(path))[:limit]]


def _read(path: Path) -> Iterator[Probe]:
    try:
        whole = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the text {path}: {error}. Expected a text file in UTF-8.") from error
    records = path.suffix == ".jsonl"  # whose texts may hold other ends of lines
    for number, line in enumerate(whole.split("\n") if records else whole.splitlines(), 1):
        if records and line.strip():
            yield _question(path, number, line)
        elif not records and len(words := line.split()) >= PROMPT_WORDS + ANSWER_WORDS:
            end = PROMPT_WORDS + ANSWER_WORDS
            yield _probe(" ".join(words[:PROMPT_WORDS]), " ".join(words[PROMPT_WORDS:end]))


def _question(path: Path, number: int, line: str) -> Probe:
    try:
        record = json.loads(line)
        answers = record["answer"] if isinstance(record["answer"], list) else [record["answer"]]
        question = record["question"].strip().rstrip("?")
        return _probe(f"{question[:1].upper()}{question[1:]}?", *answers)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}, line {number}: {error!r}. Expected JSON with question and answer; the name of "
            "plain text has to end in .txt."
        ) from error


def _probe(prompt: str, *answers: str) -> Probe:
    return Probe("locality", prompt, answers, "ordinary")
