"""`instructedit train`: one editor for several tasks, from files of records or the project's own facts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from cyclopts import Group, Parameter

from instructedit.cli.bank import Banks, using_banks
from instructedit.cli.config_file import read_config
from instructedit.cli.data_files import find_files, read_cases
from instructedit.cli.options import COMMON, MODEL, SAMPLE, Common, ModelChoice, Paths, Sample, Switch, Texts
from instructedit.cli.report import Report, make_facts
from instructedit.errors import DataError, OutputError
from instructedit.types import EditCase

if TYPE_CHECKING:
    from instructedit.training.config import TrainConfig
    from instructedit.training.course import Course

TRAINING_GROUP = Group("Training", sort_key=0)
CHECKPOINTS = ("checkpoint.safetensors", "stance.safetensors")


@Parameter(name="*", group=TRAINING_GROUP)
@dataclass(frozen=True)
class Training:
    """What is learned from, and where the run is kept."""

    out: Path | None = None
    """Folder of the run; one that was interrupted is continued."""

    name: str | None = None
    """The same as CONFIG."""

    data: Paths = ()
    """Files of records, or a folder of them; left out, the project's own facts."""

    own: Switch = False
    """Add the project's own facts to --data."""

    text: Paths = ()
    """Ordinary text that edits must leave alone: .txt passages, .jsonl with question and answer."""

    task: str = "auto"
    """Layout of the records; see `instructedit ls tasks`."""

    both: Switch = False
    """A record with replies of both sentiments gives two edits."""

    skip_bad: Switch = False
    """Leave records out that cannot be read, and list them."""

    set: Annotated[Texts, Parameter(name="--set")] = ()
    """One setting as name=value, such as steps=300 or editor.prefix=true; repeatable."""

    cache: Path | None = None
    """Folder of the cached prefix states; left out, a folder of the run."""

    bank: Banks = ()
    """Bank of instructions to draw from, as `instructions make` writes it; repeatable."""

    begin: Path | None = None
    """Editor file whose weights the run begins with, where it knows the sites."""

    tracker: Texts = ()
    """A tracker that accelerate knows, such as tensorboard; repeatable."""


TRAINING = Training()


def train_editor(
    config: str | None = None,
    /,
    *,
    training: Training = TRAINING,
    model: ModelChoice = MODEL,
    sample: Sample = SAMPLE,
    common: Common = COMMON,
) -> Report:
    """Train an editor; --dry-run says what it would cost.

    The same settings, data and seed give the same editor, also after an interruption. On several
    devices: accelerate launch -m instructedit.cli train ...

    Parameters
    ----------
    config
        Name of a configuration (see `instructedit ls configs`), or a YAML file of settings.
    """
    from instructedit.cli.ordinary_text import read_ordinary
    from instructedit.training.course import Course

    settings = read_settings(config or training.name or "instructedit", training.set, model, sample)
    if training.out is None:
        raise OutputError("no folder for the run was named. Expected --out FOLDER.")
    _check_run(training.out)
    cases = _read_training_cases(training, sample)
    with using_banks(training.bank):
        course = Course(cases, read_ordinary(training.text, sample.limit), settings)
        if common.dry_run:
            return _estimate(settings, course)
        return _train(settings, course, cases, training, model, _facts(cases, training))


def _train(
    settings: "TrainConfig",
    course: "Course",
    cases: Sequence[EditCase],
    training: Training,
    model: ModelChoice,
    facts: dict[str, Any],
) -> Report:
    """The steps, then opinions and scope; with no steps the editor that it begins with is taught."""
    from instructedit.cli.loading import load_model, load_pair
    from instructedit.training.loop import EDITOR, train

    assert training.out is not None
    begin = _begin(training)
    editor, data = training.out / EDITOR, {}
    taught = settings.stance.steps and any(case.kind == "sentiment" for case in cases)
    scoped = settings.editor.polish.scoped
    if settings.steps or begin is None:
        backbone = load_model(replace(model, sites=settings.sites, blocks=settings.blocks))
        result = train(
            settings,
            backbone,
            course,
            training.out,
            cache_folder=training.cache,
            facts=facts,
            trackers=training.tracker,
            begin=begin,
        )
        begin = editor
        data = {"score": result.score, "step": result.step, "steps": result.steps_run}
    elif taught or scoped:
        backbone, _ = load_pair(model, str(begin))
    else:
        raise DataError(
            "there is nothing to train: no steps, no opinions, no reading to teach. Expected --set steps=N, "
            "records with replies of both sentiments and --set stance.steps=N, or "
            "--set editor.polish.scoped=true."
        )
    if taught:
        from instructedit.training.stance import teach_stance

        told = teach_stance(
            begin, editor, backbone, cases, course.ordinary, settings.stance, training.out, settings.seed
        )
        begin = editor
        data |= {f"opinions, {name}": round(value, 4) for name, value in told.items()}
    if scoped:
        from instructedit.training.told import teach_told_file

        read = teach_told_file(begin, editor, backbone, settings.seed)
        begin = editor
        data |= {f"unseen wordings, {name}": round(value, 4) for name, value in read.items()}
    data = {"editor": str(editor), **data}
    return Report(data, [make_facts("Trained", data)])


def read_settings(name: str, changes: Sequence[str], model: ModelChoice, sample: Sample) -> "TrainConfig":
    """A named configuration or a YAML file, with ``--set``, ``--sites``, ``--blocks`` and ``--seed`` on top.

    Errors: `UnknownNameError` for an unknown configuration or setting; `DataError` for a wrong file or value.
    """
    from instructedit.training.config import from_dict, named_config

    is_file = name.endswith((".yaml", ".yml")) or Path(name).is_file()
    settings = from_dict(read_config(Path(name))) if is_file else named_config(name)
    for change in changes:
        settings = from_dict(_parse_change(change), settings)
    last = model.blocks != MODEL.blocks  # asked for: then the configuration's own sites do not count
    return replace(
        settings,
        sites=model.sites or (None if last else settings.sites),
        blocks=model.blocks if last else settings.blocks,
        seed=sample.seed or settings.seed,
    )


def _parse_change(change: str) -> dict[str, Any]:
    path, mark, text = change.partition("=")
    if not mark or not path.strip():
        raise DataError(f"cannot read --set {change!r}. Expected name=value, such as steps=300.")
    value: Any = yaml.safe_load(text)
    for key in reversed(path.strip().split(".")):
        value = {key: value}
    return value


def _check_run(out: Path) -> None:
    kept = out.is_dir() and any((out / name).is_file() for name in CHECKPOINTS)
    if out.exists() and not kept and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(
            f"{out} exists already and holds no interrupted run. Choose another folder, or remove this one."
        )


def _read_training_cases(training: Training, sample: Sample) -> list[EditCase]:
    from instructedit.data import plain_facts

    cases: list[EditCase] = []
    if training.data:
        options = {"skip_bad": training.skip_bad, "both": training.both}
        cases += read_cases(training.data, training.task, sample, **options)
    if training.own or not training.data:
        cases += plain_facts("train", seed=sample.seed)[: sample.limit]
    return cases


def _begin(training: Training) -> Path | None:
    """The file of the editor that the run begins with, where one is named."""
    from instructedit.cli.loading import find_editor

    return find_editor(str(training.begin)) if training.begin else None


def _facts(cases: Sequence[EditCase], training: Training) -> dict[str, Any]:
    """What the editor's header says of the data: tasks with counts, and files with checksums."""
    from collections import Counter

    from instructedit.storage import sha256_file

    begin = _begin(training)
    files = [path for group in (training.data, training.text) if group for path in find_files(group)]
    return {
        "tasks": dict(sorted(Counter(case.task for case in cases).items())),
        "data": {path.name: sha256_file(path) for path in files},
        "own_data": training.own or not training.data,
        **({"begin": sha256_file(begin)} if begin else {}),
        **({"banks": [sha256_file(path) for path in training.bank]} if training.bank else {}),
    }


def _estimate(settings: "TrainConfig", course: "Course") -> Report:
    """What a run would take, counted from its own lessons; times by the default model on two cores."""
    from instructedit.cli.cost import estimate_cost

    cost = estimate_cost(settings, course)
    data = {"config": settings.to_dict(), **cost}
    return Report(data, [make_facts("Would train (times: default model, 2 cores)", cost)])
