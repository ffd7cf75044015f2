"""The trace of a making: what was asked, answered, refused and scored, a round a line of JSON."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from instructedit.errors import DataError, OutputError
from instructedit.making.prompt import Message
from instructedit.making.rules import Refusal
from instructedit.storage import write_atomic

TRACE = "trace.jsonl"


@dataclass(frozen=True)
class Score:
    """What an editor reached with one description, as shares from 0 to 1 (None: no such question).

    `value` is the mean of `reliability` and `rephrase`; `finer` tells apart what ties in it (log-probability
    in nats a token, or the sentiment's score).
    """

    value: float
    reliability: float
    rephrase: float | None = None
    finer: float = 0.0


@dataclass(frozen=True)
class Attempt:
    """One request to the writer: its seed, its messages, the raw answer, and what could not be used of it."""

    seed: int
    messages: list[Message]
    answer: str
    refused: list[Refusal] = field(default_factory=list)


@dataclass
class Round:
    """The attempts of one round, the usable descriptions of the last one, and their scores as they come."""

    number: int
    attempts: list[Attempt] = field(default_factory=list)
    candidates: list[str] = field(default_factory=list)
    scores: dict[str, Score] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return bool(self.candidates) and len(self.scores) == len(self.candidates)

    @property
    def best(self) -> float:
        """The best value of the round; below every score where there is none."""
        return max((score.value for score in self.scores.values()), default=-1.0)


@dataclass
class Trace:
    """The rounds of a making in `folder`, whose file is written whole after every answer and every score."""

    folder: Path
    settings: Mapping[str, Any]
    rounds: list[Round] = field(default_factory=list)

    @property
    def scores(self) -> dict[str, Score]:
        """The score of every description of all rounds."""
        return {text: score for part in self.rounds for text, score in part.scores.items()}

    @property
    def stale(self) -> int:
        """The finished rounds since the one that has the best value."""
        best = [part.best for part in self.rounds if part.finished]
        return len(best) - 1 - best.index(max(best)) if best else 0

    def save(self) -> None:
        """Write the file. Errors: `OutputError`."""
        head = {"run": digest(self.settings), "settings": dict(self.settings)}
        lines = [head, *map(asdict, self.rounds)]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_atomic(self.folder / TRACE, text.encode("utf-8", "replace"))


def open_trace(folder: Path, settings: Mapping[str, Any]) -> Trace:
    """The trace in `folder`, to be continued, or a new one.

    Errors: `OutputError` when the folder holds something else; `DataError` when the trace is broken or that
    of a making with other settings.
    """
    path, trace = folder / TRACE, Trace(folder, settings)
    if not path.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(f"{folder} exists already and holds no trace. Choose another folder.")
        return trace
    try:
        head, *lines = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
        trace.rounds = [_read_round(line) for line in lines]
        same = head["run"] == digest(settings)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"cannot read {path}: {error}. Expected what this command wrote; remove it to begin again."
        ) from error
    if not same:
        told = sorted(key for key in settings if head.get("settings", {}).get(key) != settings[key])
        raise DataError(
            f"{folder} holds a making with other settings ({', '.join(told)}). Expected the same to continue "
            "it; choose another folder, or remove this one."
        )
    return trace


def digest(settings: Mapping[str, Any]) -> str:
    """A digest of all that decides what the rounds hold."""
    text = json.dumps(dict(settings), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _read_round(line: dict[str, Any]) -> Round:
    told: list[dict[str, Any]] = [
        {**part, "refused": [Refusal(**refusal) for refusal in part["refused"]]} for part in line["attempts"]
    ]
    attempts = [Attempt(**part) for part in told]
    scores = {text: Score(**score) for text, score in line["scores"].items()}
    return Round(line["number"], attempts, list(line["candidates"]), scores)
