"""The records that a plan names, read once, and the instructions that it brings along."""

import hashlib
import random
import re
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from instructedit.data import load_cases, plain_facts
from instructedit.data.years import YEAR, year_corrections
from instructedit.errors import DataError
from instructedit.experiment.specs import Condition, DataSpec, Plan
from instructedit.types import EditCase, Probe

FORMS = ("question", "statement")


@dataclass(frozen=True)
class Finder:
    """Where files lie, which is the caller's matter: from named paths to files, and to ordinary text."""

    files: Callable[[Sequence[Path]], list[Path]] = list
    text: Callable[[Sequence[Path]], list[Probe]] = lambda _paths: []


@dataclass(frozen=True)
class Records:
    """Edits, ordinary text with them, and the digest of both."""

    cases: tuple[EditCase, ...]
    text: tuple[Probe, ...] = ()

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of every case and text, in order."""
        state = hashlib.sha256()
        for value in (*self.cases, *self.text):
            state.update(repr(value).encode())
        return state.hexdigest()

    def draw(self, limit: int | None, seed: int) -> "Records":
        """At most `limit` cases in their old order; a smaller draw of one seed lies within a larger."""
        order = list(range(len(self.cases)))
        random.Random(seed).shuffle(order)
        return Records(tuple(self.cases[i] for i in sorted(order[:limit])), self.text)


class Sources:
    """A plan's records by name: `data` to be edited, `training` to be learned from. Each is read once.

    Ordinary text that asks what any of the `data` ask is no training text: `left_out` counts it by name.
    """

    def __init__(self, plan: Plan, finder: Finder) -> None:
        self.plan, self.finder = plan, finder
        self._read: dict[tuple[str, str], Records] = {}
        self._drawn: dict[tuple[str, int | None], Records] = {}
        self._taught: dict[str, Records] = {}  # with their digests, which take longer than the reading
        self._files: dict[tuple[Path, str, bool], list[EditCase]] = {}  # sets of a plan share their files
        self._own: dict[tuple[str, str], list[EditCase]] = {}  # and the project's facts
        self.left_out: dict[str, int] = {}

    def data(self, name: str, condition: Condition) -> Records:
        """The records that a condition is asked on, drawn by the plan's seed where there is a limit.

        Errors: as `load_cases`; `DataError` when nothing is left.
        """
        limits = [x for x in (self.plan.limit, condition.limit) if x is not None]
        limit = min(limits) if limits else None
        if (name, limit) not in self._drawn:
            self._drawn[name, limit] = self._find("data", name).draw(limit, self.plan.sample)
        return self._drawn[name, limit]

    def training(self, name: str) -> Records:
        """The records that an editor is trained on; errors as `data`, of each of the plan's."""
        if name not in self._taught:
            records = self._find("training", name)
            if records.text:
                kept = unasked(records.text, self._asked)
                self.left_out[name] = len(records.text) - len(kept)
                records = replace(records, text=kept)
            self._taught[name] = records
        return self._taught[name]

    @cached_property
    def _asked(self) -> set[str]:
        """What the plan's data ask, prompts and probes, whether they are drawn or not."""
        return asked_by(case for name in self.plan.data for case in self._find("data", name).cases)

    def _find(self, section: str, name: str) -> Records:
        if (section, name) not in self._read:
            self._read[section, name] = self._load(section, name, getattr(self.plan, section)[name])
        return self._read[section, name]

    def _load(self, section: str, name: str, spec: DataSpec) -> Records:
        place = f"{section}.{name}"
        if spec.form not in ("", *FORMS):
            raise DataError(f"{place}: form is {spec.form!r}. Expected question or statement.")
        files = self.finder.files([Path(file) for file in spec.files]) if spec.files else []
        cases = [case for path in files for case in self._records(path, spec)]
        if spec.own:
            part = "train" if spec.own is True else str(spec.own)
            if (section, part) not in self._own:
                self._own[section, part] = own_facts(part, place)
            cases += self._own[section, part]
        kept = tuple(case for case in cases if _fits(case, spec))
        if not kept:
            raise DataError(f"{place} holds no record. Expected files or own, and a choice that leaves some.")
        text = self.finder.text([Path(path) for path in spec.text]) if spec.text else []
        return Records(kept, tuple(text))

    def _records(self, path: Path, spec: DataSpec) -> list[EditCase]:
        place = (path, spec.task, spec.both)
        if place not in self._files:
            self._files[place] = load_cases(path, spec.task, both=spec.both)
        return self._files[place]


def asked_by(cases: Iterable[EditCase]) -> set[str]:
    """Everything that cases ask, prompts and probes, as `unasked` compares it."""
    return {_plain(asked.prompt) for case in cases for asked in (case, *case.probes)}


def unasked(text: Sequence[Probe], asked: Container[str]) -> tuple[Probe, ...]:
    """Ordinary text without what is `asked` already."""
    return tuple(probe for probe in text if _plain(probe.prompt) not in asked)


def _plain(text: str) -> str:
    """A text without case, signs and spaces."""
    return re.sub(r"\W+", "", text.casefold())


def own_facts(part: str, place: str) -> list[EditCase]:
    """One part of the project's own facts: train, test, or the kind of edit that nobody is trained on.

    `place` names the entry of the plan that asks. Errors: `DataError` for another part, and where training
    data shall hold that kind.
    """
    if part == YEAR:
        if place.startswith("training"):
            raise DataError(f"{place} is training data and names {YEAR}, which no editor learns from.")
        return year_corrections()
    if part in ("train", "test"):
        return plain_facts(part)
    raise DataError(f"{place}: own is {part!r}. Expected train, test or {YEAR}.")


def _fits(case: EditCase, spec: DataSpec) -> bool:
    names = {case.task, case.kind}
    if (spec.keep and not names & set(spec.keep)) or names & set(spec.drop):
        return False
    return not spec.form or case.is_question == (spec.form == "question")


def reword(cases: Sequence[EditCase], wordings: dict[str, list[str]], seed: int) -> list[EditCase]:
    """The same requests with instructions of a plan's own, one drawn for each case by `seed`.

    Wordings stand by kind, for a sentiment by ``positive`` and ``negative`` where those are named; they may
    hold the slots ``{subject}`` and ``{sentiment}``. Errors: `DataError` for a kind without wordings.
    """
    told = []
    for case in cases:
        lists = [wordings[name] for name in (case.sentiment, case.kind) if name and name in wordings]
        if not lists:
            raise DataError(
                f"the plan's wordings name {', '.join(wordings)} and a case is of the kind {case.kind}. "
                "Expected a list for each kind of the data."
            )
        drawn = random.Random(f"{seed}|{case.prompt}|{case.case_id}").choice(lists[0])
        told.append(replace(case, instruction=drawn))
    return told
