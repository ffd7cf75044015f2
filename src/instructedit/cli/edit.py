"""`instructedit edit`: change what the model answers, show it, keep it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from cyclopts import Group, Parameter
from rich.text import Text

from instructedit.cli.bank import Banks, using_banks
from instructedit.cli.options import COMMON, MODEL, SAMPLE, Common, ModelChoice, Sample, Switch, Texts
from instructedit.cli.report import Report, make_table
from instructedit.cli.requests import Request, read_requests
from instructedit.errors import EditFailedError, InstructEditError, one_line
from instructedit.extras import require
from instructedit.ledger.entries import OnConflict, plan_edits
from instructedit.types import EditCase

if TYPE_CHECKING:
    from rich.console import RenderableType

    from instructedit.backbone import Backbone
    from instructedit.delta import LowRankDelta
    from instructedit.evaluation.readings import Reading

LISTED = 10  # edits that one message names
INSTEAD = (
    "Try another wording of the prompt or of the instruction, a shorter target, or fewer edits at a time."
)
UNREAD = (
    "No model has read the instructions yet: where their words ask for another kind or scope, these change, "
    "and what contradicts what with them."
)
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
REACH: Final = {"wide": "what follows from it changes too", "narrow": "this statement only"}


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
    from instructedit.cli.keeping import LORA, check_folder
    from instructedit.instructions import instruction_for

    cases = read_requests(prompt, target, request, sample)
    check_folder(making.out, force=making.force)
    if making.out is not None:
        require("export", LORA)
    with using_banks(making.bank):  # a wrong one is found before a model is loaded
        if common.dry_run:
            return _plan(_settle(cases, making))
    from instructedit.cli.loading import check_fields, find_editor, load_pair, set_fields, set_polish
    from instructedit.editors import as_told
    from instructedit.editors.many import edit_many
    from instructedit.evaluation.readings import FULL_READINGS, edit_took, list_questions, take_readings

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
    kept, lost = _keep(making, backbone, delta, cases, words)
    return _report(cases, words, readings, took, kept, lost)


def _keep(
    making: Making,
    backbone: "Backbone",
    delta: "LowRankDelta",
    cases: Sequence[EditCase],
    words: Sequence[str],
) -> tuple[Mapping[Path, float], InstructEditError | None]:
    """What `keep_edits` gives, or the error that it ends with: what was made and measured is shown first."""
    from instructedit.cli.keeping import keep_edits

    try:
        return keep_edits(making.out, backbone, delta, cases, words, force=making.force), None
    except InstructEditError as error:
        return {}, error


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
    unread = [UNREAD] if any(case.instruction for case in cases) else []
    data = {"edits": [case_to_record(case) for case in cases], **({"unread": UNREAD} if unread else {})}
    return Report(data, [table, *unread])


def _report(
    cases: Sequence[EditCase],
    words: Sequence[str],
    readings: Sequence["Reading"],
    took: Sequence[bool],
    kept: Mapping[Path, float],
    lost: InstructEditError | None,
) -> Report:
    """The result of all edits, and the error that names those which did not take, or says what was `lost`."""
    own: dict[int, list[dict[str, Any]]] = {}
    for reading in readings:
        own.setdefault(reading.asked.edit, []).append(reading.as_record())
    edits = [
        {
            "prompt": case.prompt,
            "target": case.target_new or case.sentiment,
            "kind": case.kind,
            "scope": case.scope,
            "instruction": instruction,
            "took": success,
            "readings": own.get(index, []),
        }
        for index, (case, instruction, success) in enumerate(zip(cases, words, took, strict=True))
    ]
    data: dict[str, Any] = {"took": all(took), "edits": edits, "folders": [str(folder) for folder in kept]}
    data |= {"rank_cut_difference": max(kept.values())} if kept else {}
    places = [f"Kept in {folder}{_cost(cut)}" for folder, cut in kept.items()]
    if lost:
        data |= {"not_kept": one_line(lost)}
    elif not kept:
        places = ["Not kept: name a folder with --out to keep it."]
    named = [f"{case.prompt!r} -> {(case.target_new or case.sentiment)!r}" for case in cases]
    failure = lost or name_failed(named, took, "did not take", INSTEAD)
    return Report(data, [*_tables(cases, words, readings, took), *places], failure)


def _cost(cut: float) -> str:
    return f" (small ranks were cut, which moves a logit by up to {cut:.2g})" if cut else ""


def name_failed(
    named: Sequence[str], took: Sequence[bool], what: str, instead: str
) -> EditFailedError | None:
    """The error that names the edits which did not take, what became of them, and what to try; else None."""
    failed = [name for name, fine in zip(named, took, strict=True) if not fine]
    if not failed:
        return None
    more = f" and {len(failed) - LISTED} more" if len(failed) > LISTED else ""
    listed = "; ".join(failed[:LISTED])
    return EditFailedError(f"{len(failed)} of {len(named)} edits {what}: {listed}{more}. {instead}")


def _tables(
    cases: Sequence[EditCase], words: Sequence[str], readings: Sequence["Reading"], took: Sequence[bool]
) -> list["RenderableType"]:
    """One table for each edit; one for all of them when only their bare prompts were asked."""
    from instructedit.evaluation.readings import FULL_READINGS

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
        return [*lines, "p: how often a wanted reply is likelier than an unwanted one"]
    return [*lines, f"Read as: {case.kind}, {case.scope} scope ({REACH[case.scope]})"]


def _cells(reading: "Reading") -> tuple[str, str, str, str, str]:
    prompt = reading.asked.prompt
    shown = prompt if len(prompt) <= SHOWN else f"…{prompt[1 - SHOWN :]}"
    before, after = (f"{100 * p:.1f} %" for p in (reading.probability_before, reading.probability_after))
    return shown, reading.before, before, reading.after, after
