"""`instructedit store replace`: another edit in the place of one."""

from typing import Annotated

from cyclopts import Parameter

from instructedit.cli.options import COMMON, MODEL, SAMPLE, Common, ModelChoice, Sample
from instructedit.cli.report import Report
from instructedit.cli.requests import Request, read_requests
from instructedit.cli.store.making import make_edits, tell_requests
from instructedit.cli.store.options import CONFLICTS, SAID, STORE, Conflicts, Said, StoreChoice

REQUEST = Request()


def replace_edit(
    edit: Annotated[str, Parameter(help="Id of the edit that goes.")],
    prompt: Annotated[str | None, Parameter(help="What the model is asked.")] = None,
    target: Annotated[str | None, Parameter(help="What it shall answer.")] = None,
    /,
    *,
    request: Request = REQUEST,
    store: StoreChoice = STORE,
    said: Said = SAID,
    conflicts: Conflicts = CONFLICTS,
    model: ModelChoice = MODEL,
    sample: Sample = SAMPLE,
    common: Common = COMMON,
) -> Report:
    """Take one edit out of force and put another in its place, as one change."""
    cases = read_requests(prompt, target, request, sample)
    told = tell_requests(request, cases, sample)
    return make_edits(store.store, cases, said, conflicts, model, sample, common, [edit], told)
