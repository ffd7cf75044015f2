"""`instructedit curve`: what many edits in one model do, editors side by side, and how it grows with them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import Group, Parameter

from instructedit.cli.curve_editors import Named, describe_named, name_editors
from instructedit.cli.data_files import find_text, read_cases
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
from instructedit.cli.report import Report, make_table
from instructedit.errors import DataError
from instructedit.extras import install_with
from instructedit.types import EditCase

if TYPE_CHECKING:
    from instructedit.backbone import Backbone
    from instructedit.evaluation.curve import CurveSettings

CURVE_GROUP = Group("Curve", sort_key=0)
NUMBERS, SUMMARY, PICTURE = "rows.jsonl", "summary.json", "curve.svg"


@Parameter(name="*", group=CURVE_GROUP)
@dataclass(frozen=True)
class Measuring:
    """Whose edits are made, how many, and what is measured after them."""

    data: Paths = ()
    """Files of records, or a folder of them; looked for in $INSTRUCTEDIT_DATA as well."""

    task: str = "auto"
    """Layout of the records; see `instructedit ls tasks`."""

    skip_bad: Switch = False
    """Leave records out that cannot be read, and list them."""

    editor: Texts = ("default",)
    """Name or file of a trained editor, or name of a method; NAME=EDITOR renames it; repeatable. Left out,
    the editor of the package."""

    setting: Texts = ()
    """One setting of an editor as NAME.setting=value, such as memit.steps=20 or default.neurons.each=0;
    repeatable."""

    size: int = 10
    """Edits in a batch; each batch is made on the model as edited so far."""

    at: str = "10,100,1000"
    """Numbers of edits after which everything is measured: multiples of --size, with commas."""

    probe: int | None = None
    """Ask rephrasings and neighbours of at most so many edits, drawn by --seed; Reliability of all."""

    text: Path | None = None
    """Text file whose perplexity is measured; $INSTRUCTEDIT_DATA is searched too."""

    text_tokens: Count | None = None
    """Cut that text to so many tokens."""

    split: Literal["train", "unseen"] = "unseen"
    """Which wordings of the instructions are used: those of the training, or those kept unseen."""

    batch: Count = 16
    """Edits asked together; changes the time and nothing else."""

    cache: Path | None = None
    """Folder that keeps prefix states of what is asked (in half precision)."""

    out: Path = Path("runs/curve")
    """Folder of the run; the same command goes on with what is in it."""


MEASURING = Measuring()


def measure_curve(
    *,
    measuring: Measuring = MEASURING,
    model: ModelChoice = MODEL,
    sample: Sample = SAMPLE,
    common: Common = COMMON,
) -> Report:
    """Make many edits in one model, batch after batch, and measure all of them after so many.

    Points are kept as they are measured: a run that was stopped goes on when the command is given again.
    The plot needs matplotlib, from the extra `plot`.
    """
    from instructedit.evaluation.curve_folder import CurveFolder, claim_folder
    from instructedit.ledger.lock import hold_lock

    settings, named = _settings(measuring, sample.seed), name_editors(measuring.editor, measuring.setting)
    described = {each.label: describe_named(each) for each in named}
    cases = read_cases(measuring.data, measuring.task, sample, skip_bad=measuring.skip_bad)
    settings.require(len(cases))
    if common.dry_run:
        return _plan(settings, named, cases)
    claim_folder(measuring.out, _facts(settings))
    curves: dict[str, Any] = {}
    with hold_lock(measuring.out):
        for each in named:
            folder = CurveFolder(measuring.out / each.label)
            curves[each.label] = _run(each, described[each.label], cases, settings, folder, measuring, model)
            _write(measuring.out, curves, settings, described)
    return _report(measuring.out, curves, settings)


def _settings(measuring: Measuring, seed: int) -> "CurveSettings":
    from instructedit.evaluation.curve import CurveSettings
    from instructedit.evaluation.curve_point import Asking

    text = find_text(measuring.text)
    try:
        at = tuple(int(part) for part in measuring.at.split(","))
    except ValueError as error:
        raise DataError(
            f"cannot read --at {measuring.at!r}. Expected numbers, such as 10,100,1000."
        ) from error
    names = ("probe", "text_tokens", "split", "batch")
    asking = Asking(**{name: getattr(measuring, name) for name in names}, text=text, seed=seed)
    return CurveSettings(at, measuring.size, asking)


def _facts(settings: "CurveSettings") -> dict[str, Any]:
    """What the numbers of all editors depend on, besides the model and the records."""
    from instructedit.storage import sha256_file

    asking = settings.asking
    return {
        "format": 1,
        "size": settings.size,
        "probe": asking.probe,
        "text": sha256_file(asking.text) if asking.text else None,
        "text_tokens": asking.text_tokens,
        "split": asking.split,
        "seed": asking.seed,
    }


def _plan(settings: "CurveSettings", named: Sequence[Named], cases: Sequence[EditCase]) -> Report:
    data = {"editors": [each.label for each in named], "edits": len(cases), "at": list(settings.at)}
    points = ", ".join(f"{count:,}" for count in settings.at)
    text = f"Would make up to {settings.at[-1]:,} of {len(cases):,} edits in batches of {settings.size}, "
    return Report(data, [f"{text}measured after {points}, with {', '.join(data['editors'])}."])


def _run(
    named: Named,
    described: dict[str, Any],
    cases: Sequence[EditCase],
    settings: "CurveSettings",
    folder: Any,
    measuring: Measuring,
    model: ModelChoice,
) -> list[dict[str, Any]]:
    from instructedit.backbone import PrefixCache
    from instructedit.cli.loading import load_by_name
    from instructedit.evaluation.curve import run_curve
    from instructedit.evaluation.curve_folder import claim_folder

    backbone, editor = load_by_name(model, named.editor, named.settings)
    claim_folder(folder.path, {**described, **_place(backbone)})
    cache = PrefixCache(measuring.cache, backbone) if measuring.cache else None

    def say(line: str) -> None:
        print(f"{named.label}: {line}", file=sys.stderr, flush=True)

    return run_curve(editor, backbone, cases, settings, folder, cache=cache, say=say)


def _place(backbone: "Backbone") -> dict[str, Any]:
    return {
        "model": backbone.checksum,
        "dtype": str(backbone.dtype),
        "sites": [site.name for site in backbone.sites],
        "start": list(backbone.start_ids),
    }


def _write(out: Path, curves: dict[str, Any], settings: "CurveSettings", described: dict[str, Any]) -> None:
    import json

    from instructedit.report.curve import can_draw, draw_curves, list_numbers
    from instructedit.storage import write_atomic, write_json

    lines = [json.dumps(number, ensure_ascii=False) for number in list_numbers(curves)]
    write_atomic(out / NUMBERS, "".join(f"{line}\n" for line in lines))
    editors = {label: {"editor": described[label], "points": points} for label, points in curves.items()}
    write_json(out / SUMMARY, {"size": settings.size, "editors": editors})
    if can_draw():
        write_atomic(out / PICTURE, draw_curves(curves))


def _report(out: Path, curves: dict[str, Any], settings: "CurveSettings") -> Report:
    from instructedit.report.curve import COLUMNS, can_draw, list_remarks, table_rows

    title = (
        f"Edits in batches of {settings.size}, each on the model as edited so far; percent (95 % interval)"
    )
    shown: list[Any] = [make_table(title, COLUMNS, table_rows(curves)), *list_remarks(curves)]
    drawn = can_draw()
    names = f"{NUMBERS}, {SUMMARY} and {PICTURE}" if drawn else f"{NUMBERS} and {SUMMARY}"
    shown.append(f"{names} are in {out}")
    if not drawn:
        shown.append(f"No plot: matplotlib is not installed here. {install_with('plot')}.")
    return Report({"out": str(out), "size": settings.size, "editors": curves}, shown)
