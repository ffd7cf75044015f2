"""`instructedit analyse`: which way the edits of several tasks point, and what the instruction does to it."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import Group, Parameter

from instructedit.cli.analyse_cells import NUMBERS, join, read_beside, show_cells
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
from instructedit.cli.report import Report, make_table
from instructedit.errors import DataError
from instructedit.extras import require
from instructedit.types import EditCase

if TYPE_CHECKING:
    from instructedit.analysis import Study

ANALYSIS_GROUP = Group("Analysis", sort_key=0)
EMBEDDINGS: tuple[Literal["pca", "tsne"], ...] = ("pca", "tsne")


@Parameter(name="*", group=ANALYSIS_GROUP)
@dataclass(frozen=True)
class Directions:
    """Whose edits are compared, and how often by chance."""

    editor: str = "default"
    """Name or file of a trained editor, or name of a method whose edits are deltas."""

    data: Paths = ()
    """Files of records of at least two tasks, or a folder of them; $INSTRUCTEDIT_DATA is searched too."""

    task: str = "auto"
    """Layout of the records, where it cannot be told from them (`instructedit ls tasks`)."""

    setting: Texts = ()
    """One setting of a method or trained editor as name=value; repeatable."""

    skip_bad: Switch = False
    """List records that cannot be read, and go on without them."""

    split: Literal["train", "unseen"] = "unseen"
    """Wordings of the instructions: those of the training, or those kept unseen."""

    permutations: int = 20
    """Times the labels are shuffled for what each number is by chance; most of the time goes here."""

    batch: Count = 16
    """Edits looked at together; changes the time and nothing else."""

    cells: Path | None = None
    """Folder of `instructedit experiment`: correlate the numbers with the reliability of its cells."""

    cells_editor: str = ""
    """Name of the editor in that run's plan; left out, that of --editor."""

    beside: Paths = ()
    """Folders of earlier analyses of other editors with --cells, whose cells are counted in."""

    out: Path | None = None
    """Folder for numbers.json, vectors.safetensors, pca.svg and tsne.svg."""

    force: Switch = False
    """Replace that folder if it exists."""


DIRECTIONS = Directions()


def analyse_directions(
    *,
    directions: Directions = DIRECTIONS,
    model: ModelChoice = MODEL,
    sample: Sample = SAMPLE,
    common: Common = COMMON,
) -> Report:
    """Compare which way the edits of several tasks point: told rightly, nothing, or another task's words.

    Needs the extra `plot`. With --out the vectors are kept and drawn. With --cells the numbers of each task
    are held against its reliability in a run.
    """
    from instructedit.analysis import choose_cases, make_conditions

    require("plot", "the analysis")
    check_folder(directions.out, force=directions.force)
    reliability, beside = _read_cells(directions), read_beside(directions.beside)
    read = read_cases(directions.data, directions.task, sample, skip_bad=directions.skip_bad)
    cases = choose_cases(read)
    if common.dry_run:
        return _plan(cases, len(read), [told.name for told in make_conditions(cases)])
    study = _study(cases, directions, model, sample.seed)
    shown: list[Any] = [_show_numbers(study), _show_turns(study)]
    if reliability is not None:
        name = directions.cells_editor or directions.editor
        study = replace(study, numbers=join(study.numbers, reliability, name, beside, sample.seed))
        shown += show_cells(study.numbers)
    if directions.out is not None:
        _write(directions.out, study, sample.seed, force=directions.force)
        shown.append(f"Numbers, vectors and pictures are in {directions.out}")
    return Report(study.numbers, shown)


def _read_cells(directions: Directions) -> dict[tuple[str, str, str], float] | None:
    """The reliability of the editor's cells in the run that was named, read before the work begins."""
    if directions.cells is None:
        if directions.beside:
            raise DataError("--beside names other analyses and --cells no run. Expected --cells as well.")
        return None
    from instructedit.experiment.reliability import read_reliability
    from instructedit.experiment.store import RunFolder

    name = directions.cells_editor or directions.editor
    return read_reliability(RunFolder(directions.cells), name, directions.split)


def _plan(cases: list[EditCase], read: int, told: list[str]) -> Report:
    tasks = Counter(case.task for case in cases)
    left_out = read - len(cases)
    data = {"edits": len(cases), "tasks": dict(tasks), "told": told, "repeated_subjects": left_out}
    named = ", ".join(f"{task} {count}" for task, count in tasks.items())
    text = f"Would look at {len(cases)} edits ({named}), told: {', '.join(told)}."
    return Report(data, [text, f"{left_out} records name a subject of their task again and are left out."])


def _study(cases: list[EditCase], directions: Directions, model: ModelChoice, seed: int) -> "Study":
    from instructedit.analysis import analyse
    from instructedit.cli.loading import find_editor, load_by_name
    from instructedit.editors.editor_file import read_header
    from instructedit.editors.registry import METHODS

    backbone, editor = load_by_name(model, directions.editor, directions.setting)
    known = directions.editor not in METHODS
    trained = read_header(find_editor(directions.editor)).get("tasks") if known else None
    return analyse(
        backbone,
        editor,
        cases,
        trained=trained,
        split=directions.split,
        permutations=directions.permutations,
        batch=directions.batch,
        seed=seed,
    )


def _show_numbers(study: "Study") -> Any:
    """All sites together, each number with that of shuffled labels in brackets."""
    from instructedit.analysis.collect import ALL_SITES

    columns = ("stage", "told", "labels", "n", "probe %", "silhouette", "gap", "within", "between", "angle °")
    rows = [
        (
            *(row[name] for name in ("stage", "condition", "by", "n")),
            _beside_chance(row["probe"], 100.0, 1),
            _beside_chance(row["silhouette"], 1.0, 2),
            _beside_chance(row["gap"], 1.0, 2),
            f"{row['within']:.2f}",
            f"{row['between']:.2f}",
            _beside_chance(row["angle"], 1.0, 1),
        )
        for row in study.numbers["rows"]
        if row["site"] == ALL_SITES
    ]
    return make_table("All sites together; in brackets with shuffled labels", columns, rows)


def _beside_chance(number: dict[str, Any], scale: float, digits: int) -> str:
    text, chance = f"{scale * number['value']:.{digits}f}", number["shuffled"]
    return text if chance is None else f"{text} ({scale * chance:.{digits}f})"


def _show_turns(study: "Study") -> Any:
    from instructedit.analysis.collect import ALL_SITES

    names = ("stage", "condition", "n", "cosine", "shuffled")
    rows = [[row[name] for name in names] for row in study.numbers["turns"] if row["site"] == ALL_SITES]
    title = "Cosine of an edit with itself under the right instruction; shuffled: with another edit"
    return make_table(title, ("stage", "told", "n", "cosine", "shuffled"), rows)


def _write(out: Path, study: "Study", seed: int, *, force: bool) -> None:
    import json

    from instructedit.analysis import draw_embedding
    from instructedit.storage import new_folder, save_tensors, write_atomic, write_json

    labels = {f"{view.condition}/{view.by}": view.labels for view in study.views}
    with new_folder(out, force=force) as place:
        write_json(place / NUMBERS, study.numbers)
        save_tensors(place / "vectors.safetensors", study.tensors(), {"labels": json.dumps(labels)})
        for how in EMBEDDINGS:
            write_atomic(place / f"{how}.svg", draw_embedding(study, how, seed))
