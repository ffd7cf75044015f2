"""`instructedit bench`: ratios of times, taken in one run."""

from typing import Annotated

from cyclopts import Parameter

from instructedit.cli.options import COMMON, MODEL, SAMPLE, Common, Count, ModelChoice, Sample
from instructedit.cli.report import Report, make_table


def measure_speed(
    *,
    editor: Annotated[str, Parameter(help="Name or file of a trained editor.")] = "default",
    repeats: Annotated[Count, Parameter(help="Times each piece of work is timed; the median counts.")] = 5,
    batch: Annotated[Count, Parameter(help="Edits of a training step.")] = 8,
    many: Annotated[Count, Parameter(help="Edits made one by one and together.")] = 32,
    model: ModelChoice = MODEL,
    sample: Sample = SAMPLE,
    common: Common = COMMON,
) -> Report:
    """Time a training step, a single edit and a batch of edits on the project's own facts, as ratios."""
    from tempfile import TemporaryDirectory

    from instructedit.data import plain_facts

    cases = plain_facts("train", seed=sample.seed)[: sample.limit]
    if common.dry_run:
        return Report({"cases": len(cases)}, [f"Would time {repeats} repeats on {len(cases)} cases."])
    from pathlib import Path

    from instructedit.bench import measure_ratios
    from instructedit.cli.loading import load_pair

    backbone, made = load_pair(model, editor)
    with TemporaryDirectory() as folder:
        options = {"batch": batch, "many": many, "repeats": repeats, "seed": sample.seed}
        ratios = measure_ratios(backbone, made, cases, Path(folder), **options)
    rows = [(r.what, r.first, r.second, round(r.ratio, 2), r.bar) for r in ratios]
    names = ("what", "first", "second", "ratio", "bar")
    table = make_table("Seconds, median", ("", "first", "second", "ratio", "bar"), rows)
    return Report([dict(zip(names, row, strict=True)) for row in rows], [table])
