"""`instructedit report`: the tables of a run, as Markdown and as one HTML page."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from instructedit.cli.options import COMMON, Common
from instructedit.cli.report import Report


def report_experiment(
    run: Annotated[Path, Parameter(help="Folder of `instructedit experiment`, or of a report of one.")],
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Folder for the pages; left out, the run's own.")] = None,
    common: Common = COMMON,
) -> Report:
    """Write the plan's tables, as far as their cells are finished: report.md, .html, .json and figures.

    Means with 95 % intervals, the best in bold only where its difference is beyond them, and the paper's own
    figures beside, marked as another model's. cells.json holds the cells' values, from which
    `experiment --known` goes on where the run's folder is gone; with plan.json beside it is a RUN itself.
    """
    from instructedit.experiment.page import pictures, write_html, write_markdown
    from instructedit.experiment.report import make_report
    from instructedit.experiment.store import RunFolder
    from instructedit.storage import write_atomic, write_json

    folder, place = RunFolder(run), out or run
    blocks, numbers = make_report(folder)
    files = [place / f"report.{ending}" for ending in ("md", "html", "json")]
    if common.dry_run:
        return Report({"numbers": len(numbers)}, [f"Would write {len(numbers)} numbers into {place}."])
    write_atomic(files[0], write_markdown(blocks))
    write_atomic(files[1], write_html(blocks))
    write_json(files[2], numbers)
    files += folder.write_report(place)
    for picture in pictures(blocks):
        write_atomic(place / picture.file, picture.svg)
        files.append(place / picture.file)
    data = {"files": [str(file) for file in files], "numbers": len(numbers)}
    return Report(data, [f"Wrote {len(numbers)} numbers into {', '.join(map(str, files[:3]))}"])
