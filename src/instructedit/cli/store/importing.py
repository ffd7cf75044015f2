"""`instructedit store import`: a file of requests into the record."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from instructedit.cli.options import COMMON, MODEL, SAMPLE, Common, ModelChoice, Sample, Switch
from instructedit.cli.report import Report
from instructedit.cli.store.making import make_edits
from instructedit.cli.store.options import CONFLICTS, SAID, STORE, Conflicts, Said, StoreChoice


def import_edits(
    file: Annotated[Path, Parameter(help="JSONL or JSON file of edits, such as `store export` writes.")],
    /,
    *,
    task: Annotated[str, Parameter(help="Layout of its records; see `instructedit ls tasks`.")] = "auto",
    skip_bad: Annotated[
        Switch, Parameter(help="Leave records out that cannot be read, and list them.")
    ] = False,
    store: StoreChoice = STORE,
    said: Said = SAID,
    conflicts: Conflicts = CONFLICTS,
    model: ModelChoice = MODEL,
    sample: Sample = SAMPLE,
    common: Common = COMMON,
) -> Report:
    """Make all edits of a file and put them in force: none of them when one is refused.

    A record's own `by` and `note` are kept where --by and --note say nothing.
    """
    from instructedit.data import load_cases
    from instructedit.ledger.requests import read_told

    cases = load_cases(file, task, limit=sample.limit, skip_bad=skip_bad, seed=sample.seed)
    told = read_told(file, cases, task, seed=sample.seed)
    return make_edits(store.store, cases, said, conflicts, model, sample, common, told=told)
