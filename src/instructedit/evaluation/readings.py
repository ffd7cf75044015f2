"""What the model answers before and after an edit, and how likely the wanted answer is."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.data import make_rephrases
from instructedit.delta import LowRankDelta
from instructedit.evaluation.generation import generate_greedy
from instructedit.evaluation.scoring import score_texts
from instructedit.instructions import render
from instructedit.metrics import generation_matches, win_rate
from instructedit.types import YOURS, EditCase, Probe

FULL_READINGS = 5  # with more edits than this, each is asked its bare prompt only
NEW_TOKENS = 8  # of an answer that is shown
PROBES = 3  # of each sort that are shown, where a person does not name more
GOOD = ("I like it very much.", "It is wonderful.", "It is one of the best things there are.")
BAD = ("I do not like it at all.", "It is terrible.", "It is one of the worst things there are.")


@dataclass(frozen=True, slots=True)
class Asked:
    """One question: its edit, what it tests, the prompt, what the model reads, and the answer looked for."""

    edit: int
    group: str
    prompt: str
    reads: str
    target: str


@dataclass(frozen=True, slots=True)
class Reading:
    """A question with the greedy answer and the target's probability, before and after.

    For an edit of sentiment the probability is the share of pairs (wanted reply, unwanted reply) in
    which the wanted one is the likelier. `exact`: the target is the greedy answer after the edit.
    """

    asked: Asked
    before: str
    after: str
    probability_before: float
    probability_after: float
    exact: bool

    def as_record(self) -> dict[str, Any]:
        """The reading as one flat JSON object."""
        record = asdict(self)
        return record.pop("asked") | record


def list_questions(
    cases: Sequence[EditCase], instructions: Sequence[str], *, brief: bool = False
) -> list[Asked]:
    """The questions that show an edit: bare, with its instruction, reworded, and its neighbours.

    Wordings are the case's own, else made by templates. `brief` asks the bare prompt only.
    """
    asked = []
    for index, (case, words) in enumerate(zip(cases, instructions, strict=True)):
        target = case.wanted
        asked.append(Asked(index, "prompt", case.prompt, case.prompt, target))
        if brief:
            continue
        if words:
            asked.append(
                Asked(index, "instructed", case.prompt, render(words, case.prompt, case.task), target)
            )
        wordings = _shown(case.group("rephrase")) or make_rephrases(case, 0, PROBES)
        asked += [Asked(index, "rephrase", text, text, target) for text in wordings]
        asked += [Asked(index, "neighbour", text, text, target) for text in _shown(case.group("locality"))]
    return asked


def _shown(probes: Sequence[Probe]) -> list[str]:
    """The prompts of the probes that a person names, all of them, and the first few of a record."""
    named = [probe.prompt for probe in probes if probe.name == YOURS]
    others = [probe.prompt for probe in probes if probe.name != YOURS]
    return [*named, *others[: max(0, PROBES - len(named))]]


def take_readings(
    backbone: Backbone, delta: LowRankDelta, cases: Sequence[EditCase], questions: Sequence[Asked]
) -> list[Reading]:
    """Ask every question before and after; `delta` holds one update a case, or one for all."""
    rows = [question.edit if len(delta) > 1 else 0 for question in questions]
    reads = [question.reads for question in questions]
    tokens = _enough(backbone, cases)
    before = generate_greedy(backbone, reads, max_new_tokens=tokens)
    after = generate_greedy(backbone, reads, delta=delta, edits=rows, max_new_tokens=tokens)
    scores = _score(backbone, delta, [cases[question.edit] for question in questions], questions, rows)
    each = zip(questions, before, after, scores, strict=True)
    return [Reading(question, old, new, *score) for question, old, new, score in each]


def _enough(backbone: Backbone, cases: Sequence[EditCase]) -> int:
    """Tokens in which the longest answer that shall be gone could still be given whole."""
    erased = [case for case in cases if case.kind == "erase"]
    lengths = [len(backbone.text(case.prompt, case.target_new).targets) for case in erased]
    return max([NEW_TOKENS, *lengths])


def edit_took(case: EditCase, reading: Reading) -> bool:
    """Whether an edit did what it should on its bare prompt.

    insert, change: the target is the greedy answer. erase: the answer given no longer begins with the old
    one. sentiment: the wanted replies are likelier than the unwanted ones.
    """
    if case.kind == "sentiment":
        return reading.probability_after > 0.5
    if case.kind == "erase":
        return reading.exact or not generation_matches(reading.after, (case.target_new,))
    return reading.exact


def measure_edits(
    backbone: Backbone, delta: LowRankDelta, cases: Sequence[EditCase], words: Sequence[str]
) -> list[dict[str, Any]]:
    """Whether each edit holds under a delta, and what was asked before and after.

    `delta` holds one update a case, or one for all, and may reach sites beside the backbone's own.
    """
    questions = list_questions(cases, words, brief=len(cases) > FULL_READINGS)
    own: list[list[Reading]] = [[] for _ in cases]
    for reading in take_readings(backbone.reaching(delta.a), delta, cases, questions):
        own[reading.asked.edit].append(reading)
    return [
        {"took": edit_took(case, asked[0]), "readings": [_flat(reading) for reading in asked]}
        for case, asked in zip(cases, own, strict=True)
    ]


def _flat(reading: Reading) -> dict[str, Any]:
    return {name: value for name, value in reading.as_record().items() if name != "edit"}


def _score(
    backbone: Backbone,
    delta: LowRankDelta,
    cases: Sequence[EditCase],
    questions: Sequence[Asked],
    rows: Sequence[int],
) -> list[tuple[float, float, bool]]:
    """Before, after and exactness of every question (`cases[i]` is the case of question i), in one pass."""
    sides = [_replies(case) for case in cases]
    counts = [len(good) + len(bad) for good, bad in sides]
    asked = [
        (question.reads, reply, row)
        for question, row, (good, bad) in zip(questions, rows, sides, strict=True)
        for reply in (*good, *bad)
    ]
    texts = [backbone.text(reads, reply) for reads, reply, _ in asked]
    scores = score_texts(backbone, delta, texts, [row for *_, row in asked])
    lengths = scores["base_log_prob"].new_tensor([len(text.targets) for text in texts])
    split = [scores[name].split(counts) for name in ("base_log_prob", "edited_log_prob", "edited_exact")]
    each = zip(cases, sides, *split, lengths.split(counts), strict=True)
    return [
        _compare(len(good), base, edited)
        if case.kind == "sentiment"
        else (float((base * length).exp()), float((edited * length).exp()), bool(exact == 1))
        for case, (good, _), base, edited, exact, length in each
    ]


def _replies(case: EditCase) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is scored after a prompt: the wanted answer, or wanted and unwanted replies about a topic."""
    if case.kind != "sentiment":
        return (case.wanted,), ()
    good, bad = (GOOD, BAD) if case.sentiment == "positive" else (BAD, GOOD)
    own = [tuple(text.strip() for text in replies[:PROBES]) for replies in (case.good, case.bad)]
    return own[0] or good, own[1] or bad


def _compare(good: int, base: Tensor, edited: Tensor) -> tuple[float, float, bool]:
    """The win rate of the first `good` replies over the others, before and after."""
    before, after = (float(win_rate(column[:good], column[good:])) for column in (base, edited))
    return before, after, after > 0.5
