"""What a person asks for on the command line or in a file becomes edits."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter

from instructedit.cli.options import Sample, Texts
from instructedit.data import case_from_request, load_cases
from instructedit.data.subjects import guess_subject
from instructedit.errors import DataError
from instructedit.types import YOURS, EditCase, Kind, Probe, Scope, Sentiment

REQUEST_GROUP = Group("Request", sort_key=0)
OVERRIDES = ("instruction", "kind", "scope")
EXPECTED = (
    "expected a prompt and a target, --file edits.jsonl, or --kind sentiment with --subject and --sentiment"
)


@Parameter(name="*", group=REQUEST_GROUP)
@dataclass(frozen=True)
class Request:
    """One edit in options, or a file of them."""

    file: Path | None = None
    """JSONL or JSON file of edits, in any known layout; instead of a prompt and a target."""

    task: str = "auto"
    """Layout of the file's records; see `instructedit ls tasks`."""

    instruction: str | None = None
    """What to do, in your own words; left out, the task's own wording."""

    kind: Kind | None = None
    """What sort of change is wanted; erase makes the model no longer give TARGET."""

    scope: Scope | None = None
    """wide: what follows from the edit changes as well; narrow: this statement only."""

    subject: str | None = None
    """What the edit is about; guessed from capital letters, but needed for an edit of sentiment."""

    sentiment: Sentiment | None = None
    """What the model shall think of the subject."""

    rephrase: Texts = ()
    """Another wording of the prompt, asked before and after; repeatable; left out, templates make some."""

    neighbour: Annotated[Texts, Parameter(alias="--neighbor")] = ()
    """A prompt that should stay as it is, asked before and after; the edit is not told of it; repeatable."""


def read_requests(prompt: str | None, target: str | None, request: Request, sample: Sample) -> list[EditCase]:
    """The edits that are asked for: those of the file, or the one of the command line.

    Errors: `DataError` when nothing, both, or something unusable is asked for, such as facts as opinions.
    """
    if request.file is None:
        return [_one_case(prompt, target, request)]
    if prompt is not None or request.subject or request.sentiment:
        raise DataError(f"--file and an edit on the command line were both given; {EXPECTED}.")
    changes: dict[str, Any] = {name: value for name in OVERRIDES if (value := getattr(request, name))}
    cases = load_cases(request.file, request.task, limit=sample.limit, seed=sample.seed)
    for number, case in enumerate(cases, 1):
        _check_kind(case, request.kind, f"edit {number} of {request.file}")
    return [_with_probes(replace(case, **changes), request) for case in cases]


def _check_kind(case: EditCase, kind: Kind | None, where: str) -> None:
    """See that a kind can be laid over an edit: a fact has no sentiment, and an opinion no answer."""
    if kind is None or (kind == "sentiment") == (case.kind == "sentiment"):
        return
    found, lacks = ("an opinion", "answer") if case.kind == "sentiment" else ("a fact", "sentiment")
    raise DataError(
        f"--kind {kind} was given and {where} is {found} ({case.kind}), which has no {lacks}. Leave --kind "
        "out, or make facts and opinions in two runs with a file for each."
    )


def _one_case(prompt: str | None, target: str | None, request: Request) -> EditCase:
    if request.kind == "sentiment" or request.sentiment:
        if not (request.subject and request.sentiment):
            raise DataError(f"an edit of sentiment needs --subject and --sentiment; {EXPECTED}.")
    elif prompt is None or target is None:
        raise DataError(f"no {'prompt' if prompt is None else 'target'} was given; {EXPECTED}.")
    names = (*OVERRIDES, "subject", "sentiment")
    record = {"prompt": prompt, "target_new": target} | {name: getattr(request, name) for name in names}
    if request.sentiment:
        record |= {"target_new": None, "kind": "sentiment"}
    case = case_from_request(
        {name: value for name, value in record.items() if value is not None}, request.task
    )
    return _with_probes(replace(case, subject=case.subject or guess_subject(case.prompt)), request)


def _with_probes(case: EditCase, request: Request) -> EditCase:
    """The case with the wordings and the neighbours that the command line names."""
    wanted = (case.wanted,) if case.wanted else ()
    added = [Probe("rephrase", text, wanted, YOURS) for text in request.rephrase]
    added += [Probe("locality", text, (), YOURS) for text in request.neighbour]
    return replace(case, probes=(*added, *case.probes))
