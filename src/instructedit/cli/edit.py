"""`instructedit edit`: change what the model answers, show it, keep it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cyclopts import Group, Parameter
from rich.text import Text

from instructedit.cli.bank import Banks, using_banks
from instructedit.cli.options import COMMON, MODEL, SAMPLE, Common, ModelChoice, Sample, Switch, Texts
from instructedit.cli.report import Report, make_table
from instructedit.cli.requests import Request, read_requests
from instructedit.errors import EditFailedError
from instructedit.ledger.entries import OnConflict, plan_edits
from instructedit.types import EditCase

if TYPE_CHECKING:
    from rich.console import RenderableType

    from instructedit.cli.readings import Reading

FULL_READINGS = 5  # with more edits than this, each is asked its bare prompt only
SHOWN = 48  # characters of a prompt in a table, counted from its end
COLUMNS = ("asked", "prompt", "before", "p", "after", "p after")
EDIT_GROUP = Group("Edit", sort_key=1)


@Parameter(name="*", group=EDIT_GROUP)
@dataclass(frozen=True)
class Making:
    """How the edit is made, and where it is kept."""

    editor: str = "default"
    """Name or file of a trained editor."""

    mode: Literal["batch", "sequential", "single"] = "batch"
    """Many edits: batch solves all at once, sequential in batches that each build on those before; both give
    one adapter. single makes each for the unedited model, in a folder of its own."""

    size: int = 10
    """Edits in each batch of --mode sequential."""

    on_conflict: OnConflict = "refuse"
    """Two edits of one adapter that contradict each other: refuse them, or let the later one replace the
    earlier one. The same edit is made once."""

    setting: Texts = ()
    """One setting of the editor as name=value, such as text=FILE, ordinary text that many edits leave alone
    in the place of the package's; repeatable."""

    polish: int | None = None
    """Steps of descent on an edit once it is made, 0 for one pass of the editor and nothing else; left out,
    as many as it asks for. An editor with gates makes facts by these, unless this is 0."""

    out: Path | None = None
    """Folder for the LoRA adapter and the record of the edits; left out, nothing is kept."""

    bank: Banks = ()
    """YAML bank of instructions (`instructedit instructions make`) to draw from first; repeatable."""

    force: Switch = False
    """Replace the folder if it exists."""


REQUEST, MAKING = Request(), Making()


def edit_model(
    prompt: str | None = None,
    target: str | None = None,
    /,
    *,
    request: Request = REQUEST,
    making: Making = MAKING,
    model: ModelChoice = MODEL,
    sample: Sample = SAMPLE,
    common: Common = COMMON,
) -> Report:
    """Edit the model, show its answers before and after, and keep the edit as a LoRA folder.

    Ends with exit code 8 when an edit did not take, that is when the target is not the model's own
    (greedy) answer to the bare prompt; the folder is written all the same.

    Parameters
    ----------
    prompt
        What the model is asked, as a question or as the beginning of a statement.
    target
        What it shall answer; with --kind erase, what it shall no longer answer.
    """
    from instructedit.cli.keeping import check_folder, keep_edits
    from instructedit.instructions import instruction_for

    cases = read_requests(prompt, target, request, sample)
    check_folder(making.out, force=making.force)
    with using_banks(making.bank):  # a wrong one is found before a model is loaded
        if common.dry_run:
            return _plan(_settle(cases, making))
    from instructedit.cli.loading import check_fields, find_editor, load_pair, set_fields, set_polish
    from instructedit.cli.readings import edit_took, list_questions, take_readings
    from instructedit.editors import as_told
    from instructedit.editors.many import edit_many

    check_fields(find_editor(making.editor), making.setting)
    backbone, editor = load_pair(model, making.editor)
    set_fields(editor, making.setting)
    set_polish(editor, making.polish)
    cases = _settle(as_told(editor, backbone, cases), making)
    with using_banks(making.bank):
        words = [instruction_for(case, seed=sample.seed) for case in cases]
    if making.mode == "single":
        delta = editor.edit(backbone, cases, words)
    else:
        size = making.size if making.mode == "sequential" else None
        delta = edit_many(editor, backbone, cases, words, size)
    backbone = backbone.reaching(delta.a)
    questions = list_questions(cases, words, brief=len(cases) > FULL_READINGS)
    readings = take_readings(backbone, delta, cases, questions)
    bare = [reading for reading in readings if reading.asked.group == "prompt"]
    took = [edit_took(case, reading) for case, reading in zip(cases, bare, strict=True)]
    kept = keep_edits(making.out, backbone, delta, cases, words, force=making.force)
    return _report(cases, words, readings, took, kept)


def _settle(cases: Sequence[EditCase], making: Making) -> list[EditCase]:
    """The edits that are made: those of one adapter once each, and none against another.

    Errors: `DataError` for conflicts to refuse.
    """
    single = making.mode == "single"  # each has a folder of its own
    return list(cases) if single else plan_edits([], cases, making.on_conflict).cases


def _plan(cases: Sequence[EditCase]) -> Report:
    from instructedit.data import case_to_record

    rows = [(case.kind, case.scope, case.prompt, case.target_new or case.sentiment) for case in cases]
    table = make_table("Would edit", ("kind", "scope", "prompt", "target"), rows)
    return Report({"edits": [case_to_record(case) for case in cases]}, [table])


def _report(
    cases: Sequence[EditCase],
    words: Sequence[str],
    readings: Sequence["Reading"],
    took: Sequence[bool],
    kept: Mapping[Path, float],
) -> Report:
    """The result of all edits, and the error that names those which did not take."""
    edits = [
        {
            "prompt": case.prompt,
            "target": case.target_new or case.sentiment,
            "kind": case.kind,
            "scope": case.scope,
            "instruction": instruction,
            "took": success,
            "readings": [r.as_record() for r in readings if r.asked.edit == index],
        }
        for index, (case, instruction, success) in enumerate(zip(cases, words, took, strict=True))
    ]
    failed = [case for case, success in zip(cases, took, strict=True) if not success]
    data = {"took": not failed, "edits": edits, "folders": [str(folder) for folder in kept]}
    data |= {"rank_cut_difference": max(kept.values())} if kept else {}
    places = [f"Kept in {folder}{_cost(cut)}" for folder, cut in kept.items()]
    places = places or ["Not kept: name a folder with --out to keep it."]
    return Report(data, [*_tables(cases, words, readings, took), *places], _failure(failed, len(cases)))


def _cost(cut: float) -> str:
    return f" (small ranks were cut, which moves a logit by up to {cut:.2g})" if cut else ""


def _failure(failed: Sequence[EditCase], total: int) -> EditFailedError | None:
    if not failed:
        return None
    listed = "; ".join(f"{case.prompt!r} -> {(case.target_new or case.sentiment)!r}" for case in failed[:10])
    more = f" and {len(failed) - 10} more" if len(failed) > 10 else ""
    return EditFailedError(
        f"{len(failed)} of {total} edits did not take: {listed}{more}. "
        "Try another wording of the prompt or of the instruction, a shorter target, or fewer edits at a time."
    )


def _tables(
    cases: Sequence[EditCase], words: Sequence[str], readings: Sequence["Reading"], took: Sequence[bool]
) -> list["RenderableType"]:
    """One table for each edit; one for all of them when only their bare prompts were asked."""
    if len(cases) > FULL_READINGS:
        rows = [("took" if ok else "failed", *_cells(r)) for ok, r in zip(took, readings, strict=True)]
        return [make_table(f"{sum(took)} of {len(cases)} edits took", COLUMNS, rows)]
    shown: list[RenderableType] = []
    for index, case in enumerate(cases):
        rows = [(r.asked.group, *_cells(r)) for r in readings if r.asked.edit == index]
        shown += [Text(line) for line in _headline(case, words[index], success=took[index])]
        shown.append(make_table("", COLUMNS, rows))
    return shown


def _headline(case: EditCase, instruction: str, *, success: bool) -> list[str]:
    goal = (
        f"{case.subject} -> {case.sentiment}"
        if case.kind == "sentiment"
        else f"{case.prompt} -> {case.wanted}"
    )
    subject = case.subject or "none found: with --subject what is like it is left alone better"
    lines = [f"{'Took' if success else 'Did not take'}: {goal}", f"Subject: {subject}"]
    lines.append(f"Instruction: {instruction or 'none'}")
    if case.kind == "sentiment":
        lines.append("p: how often a wanted reply is likelier than an unwanted one")
    return lines


def _cells(reading: "Reading") -> tuple[str, str, str, str, str]:
    prompt = reading.asked.prompt
    shown = prompt if len(prompt) <= SHOWN else f"…{prompt[1 - SHOWN :]}"
    before, after = (f"{100 * p:.1f} %" for p in (reading.probability_before, reading.probability_after))
    return shown, reading.before, before, reading.after, after
