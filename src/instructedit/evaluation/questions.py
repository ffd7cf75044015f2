"""What an edited model is asked: every probe of a case, bare and with the instruction left in."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from instructedit.instructions import render
from instructedit.types import EditCase

GROUPS = ("reliability", "rephrase", "locality", "portability", "old_answer")
WITH_INSTRUCTION = frozenset({"reliability", "rephrase", "portability", "old_answer"})
SENTIMENT_QUESTIONS = 1  # rephrased questions a sentiment case is asked: each is scored on many long replies


@dataclass(frozen=True, slots=True)
class Question:
    """One probe of one case as it is asked: a row of the result.

    `case` is the case's place in the evaluated list; `asked` is what the model reads, which differs
    from `prompt` when the instruction is left in. A factual question has `answers` (the first is
    teacher-forced, the others are aliases; none means that only the next token is compared); a
    sentiment question has `good` and `bad` replies instead.
    """

    case: int
    group: str
    prompt: str
    asked: str
    name: str = ""
    answers: tuple[str, ...] = ()
    good: tuple[str, ...] = ()
    bad: tuple[str, ...] = ()
    instructed: bool = False

    @property
    def replies(self) -> tuple[str, ...]:
        """Every text that is scored after the prompt."""
        return self.good + self.bad if self.good or self.bad else self.answers[:1]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which questions of a case are asked.

    Of every probe group the first `max_probes` are taken, in the record's order, so that the same
    questions are asked whatever the seed. Of good and bad replies `max_replies` each are drawn
    without replacement by `seed` and the case's id: published replies are in no order and often off topic.
    """

    groups: Sequence[str] = field(default=GROUPS)
    instructed: bool = True
    max_probes: int = 10
    max_replies: int = 4
    seed: int = 0


def questions_of(case: EditCase, index: int, instruction: str, choice: Choice) -> list[Question]:
    """All questions of one case: the bare ones, then those with the instruction left in.

    Locality is only asked bare: nobody writes an edit's instruction in front of an unrelated question.
    Without an instruction (the control ``none``) there is nothing to leave in.
    """
    bare = [q for q in _bare_questions(case, index, choice) if q.group in choice.groups]
    if not (choice.instructed and instruction):
        return bare
    return bare + [
        _with_instruction(question, instruction, case.task)
        for question in bare
        if question.group in WITH_INSTRUCTION
    ]


def fluency_questions(case: EditCase, index: int, instruction: str, choice: Choice) -> list[Question]:
    """The edit prompt, bare and with the instruction left in, to be continued freely."""
    bare = _ask(index, "fluency", case.prompt)
    if not (choice.instructed and instruction):
        return [bare]
    return [bare, _with_instruction(bare, instruction, case.task)]


def _with_instruction(question: Question, instruction: str, task: str) -> Question:
    return replace(question, asked=render(instruction, question.prompt, task), instructed=True)


def _bare_questions(case: EditCase, index: int, choice: Choice) -> Iterator[Question]:
    edited = _sentiment_questions if case.kind == "sentiment" else _factual_questions
    yield from edited(case, index, choice)
    for probe in case.group("locality")[: choice.max_probes]:
        yield _ask(index, "locality", probe.prompt, probe.name, answers=probe.answers)


def _factual_questions(case: EditCase, index: int, choice: Choice) -> Iterator[Question]:
    """A rephrase probe without an answer of its own wants the edit's; what follows from an erased
    answer is not asked, and whether that answer is gone is."""
    rephrased = case.group("rephrase")[: choice.max_probes]
    yield _ask(index, "reliability", case.prompt, answers=(case.wanted,))
    for probe in rephrased:
        answers = probe.answers or (case.wanted_for(probe.prompt),)
        yield _ask(index, "rephrase", probe.prompt, probe.name, answers=answers)
    if case.kind == "erase":
        yield _ask(index, "old_answer", case.prompt, "prompt", answers=(case.target_new,))
        for probe in rephrased:
            yield _ask(index, "old_answer", probe.prompt, "rephrase", answers=(case.target_new,))
    else:
        for probe in [p for p in case.group("portability") if p.answers][: choice.max_probes]:
            yield _ask(index, "portability", probe.prompt, probe.name, answers=probe.answers)


def _sentiment_questions(case: EditCase, index: int, choice: Choice) -> Iterator[Question]:
    draw = random.Random(f"{choice.seed}/{case.case_id or index}")
    positive, negative = (_draw(draw, side, choice.max_replies) for side in (case.positive, case.negative))
    good, bad = (negative, positive) if case.sentiment == "negative" else (positive, negative)
    yield _ask(index, "reliability", case.prompt, good=good, bad=bad)
    for probe in case.group("rephrase")[: min(SENTIMENT_QUESTIONS, choice.max_probes)]:
        yield _ask(index, "rephrase", probe.prompt, probe.name, good=good, bad=bad)


def _ask(
    case: int,
    group: str,
    prompt: str,
    name: str = "",
    *,
    answers: Sequence[str] = (),
    good: Sequence[str] = (),
    bad: Sequence[str] = (),
) -> Question:
    return Question(case, group, prompt, prompt, name, _strip(answers), _strip(good), _strip(bad))


def _strip(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(text.strip() for text in texts if text.strip())


def _draw(draw: random.Random, texts: Sequence[str], most: int) -> list[str]:
    picked = sorted(draw.sample(range(len(texts)), min(most, len(texts))))
    return [texts[place] for place in picked]
