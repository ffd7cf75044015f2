"""`instructedit store add`: an edit, or a file of them, into the record."""

from instructedit.cli.options import COMMON, MODEL, SAMPLE, Common, ModelChoice, Sample
from instructedit.cli.report import Report
from instructedit.cli.requests import Request, read_requests
from instructedit.cli.store.making import make_edits, tell_requests
from instructedit.cli.store.options import CONFLICTS, SAID, STORE, Conflicts, Said, StoreChoice

REQUEST = Request()


def add_edits(
    prompt: str | None = None,
    target: str | None = None,
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
    """Make an edit, put it in force together with those that are, and write it down.

    An edit that is in force already is not applied twice. Ends with exit code 8 when an edit did not take:
    it is kept all the same, and `undo` takes it back.

    Parameters
    ----------
    prompt
        What the model is asked, as a question or as the beginning of a statement.
    target
        What it shall answer; with --kind erase, what it shall no longer answer.
    """
    cases = read_requests(prompt, target, request, sample)
    told = tell_requests(request, cases, sample)
    return make_edits(store.store, cases, said, conflicts, model, sample, common, told=told)
