"""What a person writes on the page becomes edits; what cannot be one is refused in one sentence."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast, get_args

from instructedit.cli.options import Sample
from instructedit.cli.requests import Request, read_requests
from instructedit.data import load_cases
from instructedit.data.anchors import load_anchor_book, make_other_anchors
from instructedit.data.fact_table import load_facts
from instructedit.data.subjects import subject_of
from instructedit.errors import DataError, unknown_name
from instructedit.evaluation.readings import PROBES
from instructedit.ledger.requests import SAID, Told, read_told
from instructedit.types import EditCase, Kind, Probe, Scope, Sentiment

LONGEST = 2000  # characters of one text
LONGEST_NAME = 100  # of who asks for an edit
LARGEST = 4 * 2**20  # bytes of an uploaded file
MOST = 1000  # edits of one
MOST_ASKED = 50  # other wordings, or neighbours, that come with an edit
MOST_PROBES = 200  # questions of any kind that a record of a file may hold
ENDINGS = (".jsonl", ".json")
NOT_TEXT = -1  # the size of a file whose bytes are not UTF-8
KEPT_BY_EDITOR = 8  # neighbours that an editor may hold fast by itself: others tell more


@dataclass(frozen=True)
class Form:
    """One edit as it is written: empty texts where nothing was said."""

    prompt: str = ""
    target: str = ""
    instruction: str = ""
    kind: str = "change"
    scope: str = "wide"
    subject: str = ""
    sentiment: str = ""
    wordings: Sequence[str] = ()
    neighbours: Sequence[str] = ()


def read_form(form: Form) -> EditCase:
    """The edit that a form asks for; without neighbours of its own it gets some, to see what moved.

    Errors: `DataError` or `UnknownNameError` that says what is missing or cannot be.
    """
    for name, value, known in (("kind", form.kind, Kind), ("scope", form.scope, Scope)):
        if value not in get_args(known):
            raise unknown_name(name, value, list(get_args(known)))
    texts = (form.prompt, form.target, form.instruction, form.subject, *form.wordings, *form.neighbours)
    for text in texts:
        check_text(text)
    for name, lines in (("other wordings", form.wordings), ("neighbours", form.neighbours)):
        _check_count(name, sum(bool(line.strip()) for line in lines), MOST_ASKED)
    _check_needed(form)
    request = Request(
        instruction=form.instruction.strip() or None,
        kind=cast(Kind, form.kind),
        scope=cast(Scope, form.scope),
        subject=form.subject.strip() or None,
        sentiment=cast(Sentiment, form.sentiment) if form.kind == "sentiment" else None,
        rephrase=tuple(line.strip() for line in form.wordings if line.strip()),
        neighbour=tuple(line.strip() for line in form.neighbours if line.strip()),
    )
    (case,) = read_requests(form.prompt.strip() or None, form.target.strip() or None, request, Sample())
    return case if case.group("locality") else replace(case, probes=(*case.probes, *_neighbours(case)))


def _check_needed(form: Form) -> None:
    if form.kind == "sentiment":
        if not form.subject.strip() or form.sentiment not in get_args(Sentiment):
            raise DataError(
                "an edit of sentiment needs a subject, and positive or negative as its sentiment."
            )
    elif not form.prompt.strip():
        raise DataError("there is no prompt. Write what the model is asked, or how a statement begins.")
    elif not form.target.strip():
        raise DataError(
            "there is no target. Write what the model shall answer (erase: what it no longer shall)."
        )


def _neighbours(case: EditCase) -> list[Probe]:
    """The same asked of other subjects, of the same kind where the package knows it.

    Those that an editor may hold fast by itself are left out: others tell more.
    """
    subject = subject_of(case)
    if not subject or subject not in case.prompt:
        return []
    tables = {fact.relation.table for fact in load_facts() if fact.subject == subject}
    names = sorted({fact.subject for fact in load_facts() if fact.relation.table in tables})
    names = names or [name for row in zip(*load_anchor_book()["subjects"], strict=False) for name in row]
    random.Random(f"neighbours|{subject}|{case.prompt}").shuffle(names)
    kept = {case.prompt, *make_other_anchors(case, [case.prompt], KEPT_BY_EDITOR)}
    prompts = [case.prompt.replace(subject, name) for name in names if name not in case.prompt]
    return [Probe("locality", text, (), "suggested") for text in prompts if text not in kept][:PROBES]


def read_upload(name: str, content: str, size: int | None = None) -> tuple[list[EditCase], list[Told]]:
    """The edits of an uploaded file, and who asked for each and why.

    The file is given by its name and its text; `size` is its own in bytes.

    Errors: `DataError` for a file of another kind, too large, or with a record that cannot be read.
    """
    found = len(content.encode(errors="replace")) if size is None else size
    if found > LARGEST:
        limit = LARGEST // 2**20
        raise DataError(
            f"{name} has {found / 2**20:.1f} MB. Expected {limit} MB at the most: upload it in parts."
        )
    if not name.lower().endswith(ENDINGS):
        raise DataError(f"{name} is not the kind of file that is read here. Expected .jsonl or .json.")
    if size == NOT_TEXT:
        raise DataError(f"{name} holds bytes that are not UTF-8. Save it as UTF-8 and upload it again.")
    check_text(content, LARGEST)
    cases, told = _read_cases(Path(name.replace("\\", "/")).name, content)
    if len(cases) > MOST:
        raise DataError(f"{name} holds {len(cases)} edits. Expected {MOST} at the most: upload it in parts.")
    for place, (case, said) in enumerate(zip(cases, told, strict=True), 1):
        try:
            _check_case(case)
        except DataError as error:
            raise DataError(f"{name}, edit {place}: {error}") from None
        for field in SAID:
            try:
                check_text(getattr(said, field))
            except DataError as error:
                raise DataError(f"{name}, edit {place}, field {field}: {error}") from None
    return cases, told


def _check_case(case: EditCase) -> None:
    _check_count("questions", len(case.probes), MOST_PROBES)
    asked = [text for probe in case.probes for text in (probe.prompt, *probe.answers)]
    own = (case.prompt, case.target_new, case.instruction, case.subject, case.ground_truth)
    for text in (*own, *asked, *case.positive, *case.negative):
        check_text(text)


def _check_count(what: str, found: int, most: int) -> None:
    if found > most:
        raise DataError(f"an edit comes with {found:,} {what}. Expected {most} at the most.")


def _read_cases(name: str, content: str) -> tuple[list[EditCase], list[Told]]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(content, encoding="utf-8")
        cases = load_cases(path)
        return cases, read_told(path, cases)


def check_text(text: str, longest: int = LONGEST) -> None:
    """Refuse what is no text, or too much of it.

    Errors: `DataError`.
    """
    if not isinstance(text, str):
        raise DataError(f"found {type(text).__name__} where a text belongs.")
    if len(text) > longest:
        raise DataError(f"a text has {len(text):,} characters. Expected {longest:,} at the most.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError("a text holds half of a character, which is not Unicode. Write it again.") from None
