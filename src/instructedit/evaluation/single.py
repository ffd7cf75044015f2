"""Evaluate an editor: every probe before and after, each edit alone or all of them in force together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from instructedit.backbone import Backbone, PrefixCache
from instructedit.delta import LowRankDelta
from instructedit.editors.change import Change
from instructedit.editors.many import change_many
from instructedit.errors import DataError, unknown_name
from instructedit.evaluation.answers import Values, score_questions, write_answers, write_fluency
from instructedit.evaluation.bootstrap import RESAMPLES
from instructedit.evaluation.questions import GROUPS, Choice, Question, fluency_questions, questions_of
from instructedit.evaluation.rows import Row, make_row
from instructedit.evaluation.summary import Summary, summarise
from instructedit.instructions import instruction_for
from instructedit.instructions.banks import Split
from instructedit.progress import track
from instructedit.types import Control, EditCase

if TYPE_CHECKING:
    from instructedit.editors import Editor

FLUENCY_TOKENS = 100  # as ROME generates


@dataclass(frozen=True)
class EvaluationResult:
    """One row a probe (see `rows`), and the summary of them (see `summary.summarise`)."""

    rows: list[Row]
    summary: Summary


def evaluate(
    backbone: Backbone,
    editor: "Editor",
    cases: Sequence[EditCase],
    *,
    split: Split = "unseen",
    control: Control = "right",
    instructed: bool = True,
    generate: bool = False,
    fluency: bool = False,
    batch: int = 16,
    together: int | None = None,
    seed: int = 0,
    groups: Sequence[str] = GROUPS,
    max_probes: int = 10,
    max_replies: int = 4,
    max_new_tokens: int = 12,
    resamples: int = RESAMPLES,
    cache: PrefixCache | None = None,
    condition: str = "",
) -> EvaluationResult:
    """Make one edit a case, ask its probes with and without it, and sum up.

    Every edit starts from the unedited model; `batch` cases are edited and asked together, which
    changes nothing but the time. With `together` all edits are in force at once instead, made in batches of
    so many, each on top of those before (see `change_many`), and the probes are asked after the last.
    The edit is made with an instruction of the banks' `split` (or the case's own); with `instructed`,
    reliability, paraphrases, portability and old answers are also asked with the same instruction left in
    front, the paper's way. `generate` adds greedy generations, `fluency` the n-gram entropy of 100 generated
    tokens: both cost several times the rest. `groups`, `max_probes` and `max_replies` choose the questions
    (see `Choice`). With `cache`, prefix states are kept on disk, rounded to half precision. `condition` is
    written into every row.

    Errors: `DataError` without cases, and as `change_many`; `UnknownNameError` for an unknown group.
    """
    _check(cases, groups, batch)
    choice = Choice(tuple(groups), instructed, max_probes, max_replies, seed)
    words = [instruction_for(case, split=split, control=control, seed=seed) for case in cases]
    whole = None if together is None else change_many(editor, backbone, cases, words, together)
    rows: list[Row] = []
    reached: dict[frozenset[str], tuple[Backbone, PrefixCache | None]] = {}  # by the sites of edits
    for start in track(range(0, len(cases), batch), "evaluating"):
        chunk, told = cases[start : start + batch], words[start : start + batch]
        asked = _Chunk(start, chunk, told, choice, condition)
        delta = editor.edit(backbone, chunk, told) if whole is None else whole
        sites = frozenset(delta.a if isinstance(delta, LowRankDelta) else ())
        if sites not in reached:
            low = backbone.reaching(sites)
            reached[sites] = low, cache.of(low) if cache else None
        low, kept = reached[sites]
        rows += asked.answer(low, delta, max_new_tokens if generate else 0, fluency, kept)
    return EvaluationResult(rows, summarise(rows, resamples=resamples, seed=seed))


def _check(cases: Sequence[EditCase], groups: Sequence[str], batch: int) -> None:
    if not cases:
        raise DataError(
            "there is no case to evaluate. Expected at least one record: check the file and --limit."
        )
    if batch < 1:
        raise DataError(f"batch is {batch}. Expected 1 edit or more to be asked together.")
    for group in groups:
        if group not in GROUPS:
            raise unknown_name("probe group", group, list(GROUPS))


@dataclass(frozen=True)
class _Chunk:
    """Cases that are asked together; case i of the chunk is row i of their delta, where it has rows."""

    start: int
    cases: Sequence[EditCase]
    instructions: Sequence[str]
    choice: Choice
    condition: str

    def answer(
        self, backbone: Backbone, delta: Change, tokens: int, fluency: bool, cache: PrefixCache | None
    ) -> list[Row]:
        questions = self._ask(questions_of)
        values = score_questions(backbone, delta, questions, self._edits(questions), cache)
        if tokens:
            written = [(q, v) for q, v in zip(questions, values, strict=True) if q.group != "locality"]
            asked = [question for question, _ in written]
            answers = write_answers(backbone, delta, asked, self._edits(asked), tokens)
            for (_, value), answer in zip(written, answers, strict=True):
                value.update(answer)
        if fluency:
            extra = self._ask(fluency_questions)
            questions += extra
            values += write_fluency(backbone, delta, extra, self._edits(extra), FLUENCY_TOKENS)
        return [self._row(question, value) for question, value in zip(questions, values, strict=True)]

    def _ask(self, ask: Callable[[EditCase, int, str, Choice], list[Question]]) -> list[Question]:
        pairs = zip(self.cases, self.instructions, strict=True)
        return [
            question
            for place, (case, instruction) in enumerate(pairs)
            for question in ask(case, self.start + place, instruction, self.choice)
        ]

    def _edits(self, questions: Sequence[Question]) -> list[int]:
        return [question.case - self.start for question in questions]

    def _row(self, question: Question, values: Values) -> Row:
        case = self.cases[question.case - self.start]
        labels = {name: getattr(case, name) for name in ("case_id", "task", "kind", "scope", "subject")}
        labels |= {
            name: getattr(question, name) for name in ("case", "group", "name", "prompt", "instructed")
        }
        labels["answer"] = question.answers[0] if question.answers else ""
        labels["instruction"] = self.instructions[question.case - self.start]
        return make_row(labels | {"condition": self.condition}, values)
