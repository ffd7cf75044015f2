"""`instructedit search`: the same few settings tried for any method, on training data."""

import shlex
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import Group, Parameter

from instructedit.cli.data_files import find_files, read_cases
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
from instructedit.errors import DataError, InstructEditError, OutputError

if TYPE_CHECKING:
    from instructedit.experiment.chosen import Chosen
    from instructedit.experiment.search import Load
    from instructedit.experiment.sources import Records

SEARCH_GROUP = Group("Search", sort_key=0)
CASES = 24  # of each file, where --limit does not say


@Parameter(name="*", group=SEARCH_GROUP)
@dataclass(frozen=True)
class Searching:
    """What is tried on which records, and where it is kept."""

    out: Path | None = None
    """YAML file for the chosen settings and every try; a search that was interrupted goes on in it."""

    force: Switch = False
    """Begin again where the file holds another search."""

    data: Paths = ()
    """Files of training records, or a folder of them; left out, the project's own facts for training."""

    task: str = "auto"
    """Layout of the records; see `instructedit ls tasks`."""

    skip_bad: Switch = False
    """Leave records out that cannot be read, and list them."""

    grid: Texts = ()
    """Values of one setting as name=value,value in the place of the package's grid; repeatable."""

    tries: int | None = None
    """Settings that are tried, the paper's own among them; left out, the same number for every method."""

    batch: Count = 16
    """Edits asked together; changes the time and nothing else."""


SEARCHING = Searching()


def search_settings(
    method: str,
    /,
    *,
    searching: Searching = SEARCHING,
    model: ModelChoice = MODEL,
    sample: Sample = SAMPLE,
    common: Common = COMMON,
) -> Report:
    """Try a method's settings on training data: its paper's own, and a few others.

    The score is the mean of Reliability, Generalization, Locality and Portability on bare prompts, over
    --limit cases of each file (24), drawn by --seed. `evaluate --settings-file` and plans read the file.

    Parameters
    ----------
    method
        Name of a method; see `instructedit ls methods`.
    """
    from instructedit.experiment.search import Bench, list_settings, open_search

    grid = read_grid(method, searching.grid)
    settings = list_settings(method, grid, searching.tries, sample.seed)
    records = _draw(searching, sample)
    if common.dry_run:
        return _plan(settings, len(records.cases))
    if searching.out is None:
        raise OutputError("no file was named. Expected --out FILE.yaml.")
    place = {name: value for name, value in asdict(model).items() if name != "device"}
    facts = {"tries": len(settings), "cases": len(records.cases), "data": records.digest}
    facts |= {"seed": sample.seed, "model": place, "grid": {name: list(x) for name, x in grid.items()}}
    chosen = open_search(searching.out, method, facts, force=searching.force)
    bench = Bench(method, _loader(method, model), records.cases, searching.batch, sample.seed)
    done = bench.run(replace(chosen, made=_made()), settings, searching.out, _say)
    return _tell(done, searching.out)


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


def _draw(searching: Searching, sample: Sample) -> "Records":
    """Up to so many cases of each file, by the seed."""
    from instructedit.data import plain_facts
    from instructedit.experiment.sources import Records

    whole = replace(sample, limit=None)
    paths = find_files(searching.data) if searching.data else []
    parts = [read_cases([path], searching.task, whole, skip_bad=searching.skip_bad) for path in paths]
    drawn = [
        Records(tuple(part)).draw(sample.limit or CASES, sample.seed)
        for part in parts or [plain_facts("train")]
    ]
    return Records(tuple(case for records in drawn for case in records.cases))


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
