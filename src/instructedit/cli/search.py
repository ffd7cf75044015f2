"""`instructedit search`: the same few settings tried for any method or trained editor, on training data."""

import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from instructedit.cli.data_files import find_files, read_cases
from instructedit.cli.options import COMMON, MODEL, SAMPLE, Common, ModelChoice, Sample
from instructedit.cli.report import Report, make_table
from instructedit.cli.search_options import SEARCHING, TAUGHT, Searching
from instructedit.errors import DataError, InstructEditError, OutputError

if TYPE_CHECKING:
    from instructedit.experiment.chosen import Chosen
    from instructedit.experiment.search import Load
    from instructedit.experiment.sources import Records
    from instructedit.types import EditCase

CASES = 24  # of each file, where --limit does not say


def search_settings(
    method: str,
    /,
    *,
    searching: Searching = SEARCHING,
    model: ModelChoice = MODEL,
    sample: Sample = SAMPLE,
    common: Common = COMMON,
) -> Report:
    """Try settings of a method or of a trained editor on training data: its own, and a few others.

    The score is the mean of Reliability, Generalization, Locality and Portability on bare prompts, over
    --limit cases of each file (24), drawn by --seed. An editor that is trained is trained for every try, on
    the records about other subjects. Plans read the file, and `evaluate --settings-file` that of a method.

    Parameters
    ----------
    method
        Name of a method or of a training configuration; see `instructedit ls editors`.
    """
    from instructedit.cli.ordinary_text import read_ordinary
    from instructedit.experiment.search import Bench, is_trained, list_settings, open_search
    from instructedit.experiment.search_training import to_train_on

    trained = is_trained(method)
    _check_options(method, searching, model, trained)
    grid = read_grid(method, searching.grid)
    settings = list_settings(method, grid, searching.tries, sample.seed)
    scored, every = _draw(searching, sample)
    taught = to_train_on(every, read_ordinary(searching.text), scored.cases) if trained else scored
    if common.dry_run:
        return _plan(settings, len(scored.cases))
    if searching.out is None:
        raise OutputError("no file was named. Expected --out FILE.yaml.")
    place = {name: value for name, value in asdict(model).items() if name != "device"}
    facts = {"tries": len(settings), "cases": len(scored.cases), "data": scored.digest}
    facts |= {"seed": sample.seed, "model": place, "grid": {name: list(x) for name, x in grid.items()}}
    if trained:
        facts |= {"steps": searching.steps, "trained_on": taught.digest}
    chosen = open_search(searching.out, method, facts, force=searching.force)
    with TemporaryDirectory(prefix="instructedit-") as folder:
        load = _loader(method, model)
        if trained:
            load = _trainer(method, model, taught, Path(folder), searching.steps, sample.seed)
        bench = Bench(method, load, scored.cases, searching.batch, sample.seed)
        done = bench.run(replace(chosen, made=_made()), settings, searching.out, _say)
    return _tell(done, searching.out)


def _check_options(method: str, searching: Searching, model: ModelChoice, trained: bool) -> None:
    given = [f"--{name}" for name in TAUGHT if getattr(searching, name)]
    if given and not trained:
        raise DataError(
            f"{', '.join(given)} is for an editor that is trained, and {method} is a method. Leave it out."
        )
    if trained and model.sites is not None:
        raise DataError(
            f"--sites {model.sites} is for a method; where {method} edits its configuration decides. "
            "Leave it out."
        )
    if searching.steps is not None and searching.steps < 1:
        raise DataError(f"--steps is {searching.steps}. Expected 1 or more.")


def read_grid(method: str, texts: tuple[str, ...]) -> dict[str, list[Any]]:
    """The grid of the command line, else the package's.

    Errors: `UnknownNameError` as `find_grid`; `DataError` for a text that is not name=value,value.
    """
    from instructedit.cli.loading import read_settings
    from instructedit.experiment.search import find_grid

    if not texts:
        return {name: list(values) for name, values in find_grid(method).items()}
    grid: dict[str, list[Any]] = {}
    for text in texts:
        name, mark, values = text.partition("=")
        if not (mark and name.strip() and all(values.split(","))):
            raise DataError(f"cannot read --grid {text!r}. Expected name=value,value, such as lr=0.1,0.5.")
        for value in values.split(","):
            for setting, read in read_settings([f"{name}={value}"]).items():
                grid.setdefault(setting, []).append(read)
    return grid


def _draw(searching: Searching, sample: Sample) -> "tuple[Records, list[EditCase]]":
    """Up to so many cases of each file, by the seed; and all cases that there are."""
    from instructedit.data import plain_facts
    from instructedit.experiment.sources import Records

    whole = replace(sample, limit=None)
    paths = find_files(searching.data) if searching.data else []
    parts = [read_cases([path], searching.task, whole, skip_bad=searching.skip_bad) for path in paths]
    own = plain_facts("train") if searching.own or not parts else []
    drawn = [Records(tuple(part)).draw(sample.limit or CASES, sample.seed) for part in parts or [own]]
    scored = Records(tuple(case for records in drawn for case in records.cases))
    return scored, [case for part in (*parts, own) for case in part]


def _trainer(
    name: str, model: ModelChoice, taught: "Records", folder: Path, steps: int | None, seed: int
) -> "Load":
    from instructedit.experiment.search_training import Trainings

    options = {option: getattr(model, option) for option in ("model", "device", "dtype", "start")}
    return Trainings(name, taught, options, folder, steps, seed)


def _loader(method: str, model: ModelChoice) -> "Load":
    from instructedit.cli.chosen import as_texts
    from instructedit.cli.loading import load_by_name

    return lambda settings: load_by_name(model, method, as_texts(settings))


def _made() -> dict[str, Any]:
    from instructedit.experiment.running import versions

    return {"command": shlex.join(["instructedit", *sys.argv[1:]]), "versions": versions()}


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _plan(settings: list[dict[str, Any]], cases: int) -> Report:
    shown = [f"Would try {len(settings)} settings on {cases} cases each:", *map(str, settings)]
    return Report({"tries": settings, "cases": cases}, shown)


def _tell(done: "Chosen", out: Path) -> Report:
    tries = [asdict(one) for one in done.tries]
    best = done.best
    names = list(dict.fromkeys(name for one in done.tries for name in one.measures))
    rows = [
        (
            "*" if one is best else "",
            ", ".join(f"{name} {value}" for name, value in one.settings.items()),
            None if one.score is None else round(100 * one.score, 1),
            *(round(100 * one.measures[name], 1) if name in one.measures else None for name in names),
            round(one.seconds, 1),
        )
        for one in done.tries
    ]
    table = make_table("Tries, in percent", ("best", "settings", "score", *names, "seconds"), rows)
    data = {
        "method": done.method,
        "file": str(out),
        "settings": best.settings if best else {},
        "tries": tries,
    }
    failure = None
    if best is None:
        failure = InstructEditError(f"no try of {done.method} could be run, first: {done.tries[0].error}")
    return Report(data, [table, f"Kept in {out}"], failure)
