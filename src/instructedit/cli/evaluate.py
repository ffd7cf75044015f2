"""`instructedit evaluate`: how often edits take, carry over, and leave the rest alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import Group, Parameter

from instructedit.cli.bank import Banks, using_banks
from instructedit.cli.data_files import read_cases
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
    cases = read_cases(asking.data, asking.task, sample, skip_bad=asking.skip_bad)
    with using_banks(asking.bank):
        if common.dry_run:
            from instructedit.cli.loading import check_settings

            check_settings(asking.editor, _settings(asking))
            return _plan(cases)
        rows, summary, tables = _measure(cases, asking, model, sample.seed)
    if asking.out is not None:
        _write(asking.out, rows, summary, force=asking.force)
        tables.append(f"Rows and summary are in {asking.out}")
    return Report(summary, tables)


def _plan(cases: list[EditCase]) -> Report:
    probes = sum(len(case.probes) for case in cases)
    data = {"edits": len(cases), "probes": probes}
    return Report(data, [f"Would make {len(cases)} edits and ask {probes} probes besides their prompts."])


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
    if not asking.contrast:
        result = evaluate(
            backbone,
            editor,
            cases,
            split=asking.split,
            control=asking.control,
            instructed=asking.instructed,
            generate=asking.generate,
            fluency=asking.fluency,
            batch=asking.batch,
            together=asking.together,
            seed=seed,
            cache=cache,
        )
        rows, summary = list(result.rows), {"tasks": result.summary}
        tables.append(format_summary(result.summary))
    if asking.leverage or asking.contrast:
        options = {"split": asking.split, "batch": asking.batch, "seed": seed, "cache": cache}
        lever = measure_leverage(backbone, editor, cases, contrasts=asking.contrast, **options)
        rows += lever.rows
        summary["leverage"] = lever.summary
        tables.append(format_leverage(lever.summary))
    return rows, summary, tables


def _write(out: Path, rows: list[dict[str, Any]], summary: dict[str, Any], *, force: bool) -> None:
    from instructedit.evaluation import write_rows
    from instructedit.storage import new_folder, write_json

    with new_folder(out, force=force) as place:
        write_rows(place / "rows.parquet", rows)
        write_json(place / "summary.json", summary)
