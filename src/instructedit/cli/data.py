"""`instructedit data make`: the project's own facts as a file of edits."""

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from instructedit.cli.options import COMMON, SAMPLE, Common, Sample, Switch
from instructedit.cli.report import Report
from instructedit.errors import OutputError


def make_data(
    *,
    out: Annotated[Path, Parameter(help="JSONL file to write.")],
    split: Annotated[
        Literal["train", "test"], Parameter(help="Which half; they share no subject.")
    ] = "train",
    force: Annotated[Switch, Parameter(help="Replace the file if it exists.")] = False,
    sample: Sample = SAMPLE,
    common: Common = COMMON,
) -> Report:
    """Write the project's own edits: facts and opinions, with paraphrases, neighbours and consequences."""
    from instructedit.data import case_to_record, plain_facts
    from instructedit.storage import write_atomic

    if out.exists() and not force:
        raise OutputError(f"{out} exists already. Choose another file, or pass --force to replace it.")
    cases = plain_facts(split, seed=sample.seed)[: sample.limit]
    if not common.dry_run:
        lines = [json.dumps(case_to_record(case), ensure_ascii=False) for case in cases]
        write_atomic(out, "\n".join(lines) + "\n")
    verb = "Would write" if common.dry_run else "Wrote"
    return Report({"file": str(out), "edits": len(cases)}, [f"{verb} {len(cases)} edits to {out}."])
