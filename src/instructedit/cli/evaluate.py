"""`instructedit evaluate`: how often edits take, carry over, and leave the rest alone."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import Group, Parameter

from instructedit.cli.bank import Banks, using_banks
from instructedit.cli.data_files import find_text, read_cases
from instructedit.cli.keeping import check_folder
from instructedit.cli.options import (
    COMMON,
    MODEL,
    SAMPLE,
    Common,
    Count,
    ModelChoice,
    Paths,
    Sample,
    Switch,
    Texts,
)
from instructedit.cli.report import Report
from instructedit.types import Control, EditCase

if TYPE_CHECKING:
    from rich.table import Table

    from instructedit.backbone import Backbone
    from instructedit.editors import Editor

EVALUATION_GROUP = Group("Evaluation", sort_key=0)


@Parameter(name="*", group=EVALUATION_GROUP)
@dataclass(frozen=True)
class Asking:
    """What is evaluated, and what is asked."""

    data: Paths = ()
    """Files of records, or a folder of them; looked for in $INSTRUCTEDIT_DATA as well."""

    task: str = "auto"
    """Layout of the records; see `instructedit ls tasks`."""

    skip_bad: Switch = False
    """Leave records out that cannot be read, and list them."""

    editor: str = "default"
    """Name or file of a trained editor, or name of a method (see `instructedit ls methods`)."""

    setting: Texts = ()
    """One setting of a method or trained editor as name=value, such as steps=20; repeatable."""

    settings_file: Path | None = None
    """Settings that `instructedit search` wrote for the method; --setting goes before them."""

    polish: int | None = None
    """Steps of descent on each edit of a trained editor, 0 for the pass alone; left out, as it asks."""

    out: Path | None = None
    """Folder for rows.parquet (one row a probe) and summary.json."""

    force: Switch = False
    """Replace the folder if it exists."""

    instructed: Switch = False
    """Ask with the edit's instruction left in front as well, the paper's way."""

    generate: Switch = False
    """Add greedy generations; takes several times as long."""

    fluency: Switch = False
    """Add the n-gram entropy of 100 generated tokens; takes longer still."""

    leverage: Switch = False
    """Edit every case under two instructions and measure the difference that they make."""

    contrast: Texts = ()
    """Only this of what --leverage measures, and nothing else: scope, sentiment or erase; repeatable."""

    control: Control = "right"
    """Instruction to edit with: the right one, another task's, none, or random words."""

    split: Literal["train", "unseen"] = "unseen"
    """Which wordings of the instructions are used: those of the training, or those kept unseen."""

    bank: Banks = ()
    """YAML bank of instructions (`instructedit instructions make`) to draw from first; repeatable."""

    batch: Count = 16
    """Edits asked together; changes the time and nothing else."""

    together: int | None = None
    """Have all edits in force at once, made in batches of so many; left out, each is made alone."""

    max_probes: Count = 10
    """Probes of each group that a record is asked at the most, the first ones."""

    max_replies: Count = 4
    """Good replies, and bad ones, that a question of an opinion is scored on at the most."""

    text: Path | None = None
    """Text file whose perplexity is measured before and after; $INSTRUCTEDIT_DATA is searched too."""

    text_tokens: Count | None = None
    """Cut that text to so many tokens."""

    text_edits: Count = 8
    """Single edits that it is measured under, for their mean; with --together all are in force."""

    cache: Path | None = None
    """Folder that keeps prefix states (in half precision), for many evaluations of the same records."""


ASKING = Asking()


def evaluate_editor(
    *,
    asking: Asking = ASKING,
    model: ModelChoice = MODEL,
    sample: Sample = SAMPLE,
    common: Common = COMMON,
) -> Report:
    """Make each edit by itself, ask its probes before and after, and sum up with 95 % intervals."""
    check_folder(asking.out, force=asking.force)
    if asking.contrast:
        from instructedit.evaluation.contrasts import find_contrasts

        find_contrasts(asking.contrast)
    text = find_text(asking.text)
    cases = read_cases(asking.data, asking.task, sample, skip_bad=asking.skip_bad)
    with using_banks(asking.bank):
        if common.dry_run:
            from instructedit.cli.loading import check_settings

            check_settings(asking.editor, _settings(asking))
            return _plan(cases, asking.max_probes)
        rows, summary, tables = _measure(cases, replace(asking, text=text), model, sample.seed)
    if asking.out is not None:
        _write(asking.out, rows, summary, force=asking.force)
        tables.append(f"Rows and summary are in {asking.out}")
    return Report(summary, tables)


def _plan(cases: list[EditCase], most: int) -> Report:
    groups = [group for case in cases for group in Counter(probe.group for probe in case.probes).values()]
    probes = sum(min(most, count) for count in groups)
    data = {"edits": len(cases), "probes": probes}
    return Report(
        data, [f"Would make {len(cases)} edits and ask up to {probes} probes besides their prompts."]
    )


def _settings(asking: Asking) -> tuple[str, ...]:
    from instructedit.cli.chosen import gather_settings

    return gather_settings(asking.settings_file, asking.editor, asking.setting)


def _measure(
    cases: list[EditCase], asking: Asking, model: ModelChoice, seed: int
) -> tuple[list[dict[str, Any]], dict[str, Any], list["Table | str"]]:
    """All rows, the summary (with the part ``leverage`` where it was asked for), and the tables to show."""
    from instructedit.backbone import PrefixCache
    from instructedit.cli.loading import load_by_name, set_polish
    from instructedit.evaluation import evaluate, format_leverage, format_summary, measure_leverage

    backbone, editor = load_by_name(model, asking.editor, _settings(asking))
    set_polish(editor, asking.polish)
    cache = PrefixCache(asking.cache, backbone) if asking.cache else None
    rows: list[Any] = []
    summary: dict[str, Any] = {"tasks": {}}
    tables: list[Table | str] = []
    cost, whole = _measure_text(backbone, editor, cases, asking, seed) if asking.text else (None, None)
    if not asking.contrast:
        result = evaluate(
            backbone,
            whole or editor,
            cases,
            split=asking.split,
            control=asking.control,
            instructed=asking.instructed,
            generate=asking.generate,
            fluency=asking.fluency,
            batch=asking.batch,
            together=None if whole else asking.together,
            seed=seed,
            max_probes=asking.max_probes,
            max_replies=asking.max_replies,
            cache=cache,
        )
        rows, summary = list(result.rows), {"tasks": result.summary}
        tables.append(format_summary(result.summary))
    if asking.leverage or asking.contrast:
        lever = measure_leverage(
            backbone,
            editor,
            cases,
            contrasts=asking.contrast,
            split=asking.split,
            batch=asking.batch,
            seed=seed,
            max_probes=asking.max_probes,
            max_replies=asking.max_replies,
            cache=cache,
        )
        rows += lever.rows
        summary["leverage"] = lever.summary
        tables.append(format_leverage(lever.summary))
    if cost is not None:
        from instructedit.evaluation.text_cost import tell_text_cost

        summary["perplexity"] = cost
        tables.append(tell_text_cost(cost, len(cases) if whole else None))
    return rows, summary, tables


def _measure_text(
    backbone: "Backbone", editor: "Editor", cases: list[EditCase], asking: Asking, seed: int
) -> "tuple[dict[str, Any], Editor | None]":
    """What edits do to the text; where all are in force together, also what gives those that were made."""
    from instructedit.editors.many import change_many
    from instructedit.evaluation.curve_point import InForce
    from instructedit.evaluation.text_cost import measure_text_cost, single_changes
    from instructedit.instructions import instruction_for

    assert asking.text is not None
    words = [instruction_for(case, split=asking.split, control=asking.control, seed=seed) for case in cases]
    if asking.together is None:
        single = single_changes(backbone, editor, cases, words, asking.text_edits, seed)
        return measure_text_cost(backbone, single, asking.text, asking.text_tokens), None
    change = change_many(editor, backbone, cases, words, asking.together)
    return measure_text_cost(backbone, [change], asking.text, asking.text_tokens), InForce(
        change, editor.name
    )


def _write(out: Path, rows: list[dict[str, Any]], summary: dict[str, Any], *, force: bool) -> None:
    from instructedit.evaluation import write_rows
    from instructedit.storage import new_folder, write_json

    with new_folder(out, force=force) as place:
        write_rows(place / "rows.parquet", rows)
        write_json(place / "summary.json", summary)
