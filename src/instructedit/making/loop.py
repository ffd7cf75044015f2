"""The paper's loop: a writer describes a task, an editor is scored, the scores go back, and again."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from instructedit.data import split_by_subject
from instructedit.errors import DataError, ModelError
from instructedit.instructions.banks import Bank
from instructedit.making.choosing import make_bank, one_task_bank, rank
from instructedit.making.parsing import parse_answer
from instructedit.making.prompt import Brief, Message
from instructedit.making.rules import Rules, sift
from instructedit.making.trace import Attempt, Round, Score, Trace
from instructedit.making.trial import Examiner, TrialEditor
from instructedit.types import EditCase, Kind

SEED_STEP = 1_000_003  # keeps the seeds of different runs apart


@runtime_checkable
class Writer(Protocol):
    """A language model that answers a conversation."""

    @property
    def name(self) -> str: ...

    def reply(self, messages: Sequence[Message], seed: int) -> str:
        """The raw answer. Errors: `ModelError` when there is none."""
        ...


@dataclass(frozen=True)
class MakingConfig:
    """How much is written, tried and kept."""

    candidates: int = 10  # descriptions asked for in a round
    shown: int = 5  # records that the writer sees
    cases: int = 48  # records that a description is scored with, and as many that check the result
    history: int = 12  # scored descriptions that go back into the prompt: the best ones
    attempts: int = 3  # at an answer with something usable in it, before a round is given up
    rounds: int = 8
    patience: int = 2  # rounds without a better score before it stops
    keep: int = 20  # descriptions in the finished bank
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = [name for name, value in vars(self).items() if name != "seed" and value < 1]
        if wrong:
            raise DataError(f"{wrong[0]} is {getattr(self, wrong[0])}. Expected 1 or more.")
        if self.keep < 2:
            raise DataError(
                "keep is 1. Expected 2 or more: a bank has wordings to train with and unseen ones."
            )

    def lasting(self) -> dict[str, int]:
        """The settings that decide what a round holds; the others may change when a run is continued."""
        free = ("rounds", "patience", "keep")
        return {name: value for name, value in vars(self).items() if name not in free}


@dataclass(frozen=True)
class Records:
    """A task's records in three parts without a common subject, and the few that the writer sees."""

    rest: list[EditCase]  # to be trained with
    validation: list[EditCase]
    check: list[EditCase]
    shown: list[EditCase]


def prepare_cases(cases: Sequence[EditCase], task: str, kind: Kind) -> list[EditCase]:
    """The edits of a kind as edits of the task, without instructions of their own: these win over a bank.

    Errors: `DataError` when there is none.
    """
    found = [replace(case, task=task, instruction="") for case in cases if case.kind == kind]
    if not found:
        raise DataError(
            f"none of the {len(cases)} record(s) asks for an edit of the kind {kind!r}, which {task} needs. "
            "Expected --data with such records."
        )
    return found


def split_records(cases: Sequence[EditCase], config: MakingConfig) -> Records:
    """Up to `config.cases` records each for scoring and for the check, not more than half of all together.

    The writer is shown none whose new answer is the old one, where there are others.
    Errors: `DataError` when there are too few subjects.
    """
    share = min(0.5, 2 * config.cases / max(1, len(cases)))
    rest, held = split_by_subject(cases, share, config.seed)
    check, validation = split_by_subject(held, 0.5, config.seed)
    if not (rest and validation and check):
        raise DataError(
            f"{len(cases)} record(s) cannot be shared out among writing, scoring and checking. Expected "
            "records about four subjects at the least, better a hundred."
        )
    draw = random.Random(config.seed)
    parts = [draw.sample(part, min(config.cases, len(part))) for part in (validation, check)]
    telling = [case for case in rest if case.target_new != case.ground_truth] or rest
    return Records(rest, *parts, shown=draw.sample(telling, min(config.shown, len(telling))))


@dataclass(frozen=True)
class Making:
    """A making of instructions for one task: who writes, who is tried, on what, and the trace of it."""

    task: str
    kind: Kind
    config: MakingConfig
    records: Records
    writer: Writer
    examiner: Examiner
    trial: TrialEditor
    trace: Trace

    def finish(self) -> Bank:
        """Run the rounds that are left, until the best score has not risen for `patience` rounds.

        Every answer and every score is written down before the next step, so an interrupted making goes on
        where it was. Errors: `ModelError` when the writer cannot be reached or writes nothing usable;
        `DataError` when too little is usable for a bank.
        """
        while (part := self.next_round()) is not None:
            if not part.candidates:
                self._write(part)
            self._score(part)
        return make_bank(self.task, self.kind, self.trace.scores, self.config.keep)

    def next_round(self) -> Round | None:
        """The round to work on: the unfinished one, a new one, or None where it is time to stop."""
        rounds = self.trace.rounds
        unfinished = [part for part in rounds if not part.finished]
        enough = len(rounds) - len(unfinished) >= self.config.rounds
        if enough or self.trace.stale >= self.config.patience:
            return None
        if unfinished:
            return unfinished[0]
        rounds.append(Round(len(rounds) + 1))
        return rounds[-1]

    def brief(self) -> Brief:
        """What the writer is told in every round."""
        shown, rules = self.records.shown, Rules.for_cases(self.kind, self.records.shown)
        return Brief(self.kind, shown, rules, self.config.candidates)

    def _write(self, part: Round) -> None:
        """Ask until an answer holds something usable; what was used before is refused as a duplicate."""
        brief, scores, refused = self.brief(), self.trace.scores, []
        best = rank(scores)[: self.config.history]
        for _ in range(self.config.attempts):
            seed = (self.config.seed * SEED_STEP + 100 * part.number + len(part.attempts)) % 2**31
            messages = brief.ask({text: scores[text].value for text in best}, refused)
            answer = self.writer.reply(messages, seed)
            parsed = parse_answer(answer)
            part.candidates, losses = sift(parsed, brief.rules, scores, self.config.candidates)
            part.attempts.append(Attempt(seed, messages, answer, losses))
            self.trace.save()
            if part.candidates:
                return
            refused = list(dict.fromkeys(loss.reason for loss in losses))[:3] or ["it was empty"]
        raise ModelError(
            f"{self.writer.name} wrote nothing usable in {self.config.attempts} attempts of round "
            f"{part.number}: {'; '.join(refused)}. See {self.trace.folder}; choose another --writer, or end "
            f"with --rounds {part.number - 1} where that is above 0."
        )

    def _score(self, part: Round) -> None:
        editor = self.trial(part.number, one_task_bank(self.task, self.kind, tuple(part.candidates)))
        todo = [text for text in part.candidates if text not in part.scores]
        for text in todo:
            part.scores[text] = self.examiner.score(editor, one_task_bank(self.task, self.kind, (text,)))
            self.trace.save()

    def check(self, bank: Bank, own: Bank) -> Mapping[str, Score]:
        """What the finished bank is worth on records that chose nothing, beside `own` and no instruction.

        `own` is the package's bank; the editor is that of the best round.
        """
        best = max(self.trace.rounds, key=lambda part: part.best)
        editor = self.trial(best.number, one_task_bank(self.task, self.kind, tuple(best.candidates)))
        examiner = replace(self.examiner, cases=self.records.check)
        asked: dict[str, Any] = {
            "made, train": {"bank": bank},
            "made, unseen": {"bank": bank, "split": "unseen"},
            "package, train": {"bank": own},
            "package, unseen": {"bank": own, "split": "unseen"},
            "none": {"bank": own, "control": "none"},
        }
        return {name: examiner.score(editor, **options) for name, options in asked.items()}
