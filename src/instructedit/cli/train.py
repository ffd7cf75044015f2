"""`instructedit train`: one editor for several tasks, from files of records or the project's own facts."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from instructedit.cli.bank import using_banks
from instructedit.cli.config_file import read_config
from instructedit.cli.data_files import find_files, read_cases
from instructedit.cli.options import COMMON, Common, ModelChoice, Sample
from instructedit.cli.report import Report, make_facts
from instructedit.cli.train_options import (
    TRAIN_MODEL,
    TRAIN_SAMPLE,
    TRAINING,
    Training,
    TrainModel,
    TrainSample,
)
from instructedit.editors.settings import nest
from instructedit.errors import DataError, OutputError
from instructedit.types import EditCase

if TYPE_CHECKING:
    from instructedit.backbone import Backbone
    from instructedit.training.config import TrainConfig
    from instructedit.training.course import Course

CHECKPOINTS = ("checkpoint.safetensors", "stance.safetensors")
NOTHING = (
    "there is nothing to train: no steps, no opinions, no reading to teach. Expected --set steps=N; or, for "
    "an editor that --begin names, records with replies of both sentiments and --set stance.steps=N, or "
    "--set editor.polish.scoped=true."
)


def train_editor(
    config: str | None = None,
    /,
    *,
    training: Training = TRAINING,
    model: TrainModel = TRAIN_MODEL,
    sample: TrainSample = TRAIN_SAMPLE,
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

    settings = read_settings(
        config or training.name or "instructedit", training.set, model.sites, model.blocks, sample.seed
    )
    if training.out is None:
        raise OutputError("no folder for the run was named. Expected --out FOLDER.")
    _check_run(training.out)
    begin = _find_begin(training)
    cases = _read_training_cases(training, sample.plain())
    with using_banks(training.bank):
        course = Course(cases, read_ordinary(training.text, sample.limit), settings)
        run = _Run(settings, course, cases, training, model.plain(), training.out, begin)
        if common.dry_run:
            return _estimate(settings, course)
        return run.report()


@dataclass
class _Run:
    """What is trained, and the stages that follow one another: the steps, then opinions, then scope.

    `begin` is the file of the editor that the next stage begins with, `told` what is said of those before.
    """

    settings: "TrainConfig"
    course: "Course"
    cases: Sequence[EditCase]
    training: Training
    model: ModelChoice
    out: Path
    begin: Path | None
    told: dict[str, Any] = field(default_factory=dict)
    taught: bool = field(init=False)
    scoped: bool = field(init=False)

    def __post_init__(self) -> None:
        from instructedit.training.metrics_log import check_trackers

        check_trackers(self.training.tracker)
        opinions = any(case.kind == "sentiment" for case in self.cases)
        self.taught = bool(self.settings.stance.steps) and opinions
        self.scoped = self.settings.editor.polish.scoped
        if not self.settings.steps and (self.begin is None or not (self.taught or self.scoped)):
            raise DataError(NOTHING)

    def report(self) -> Report:
        """Train what is to be trained, and say where the editor lies."""
        from instructedit.training.loop import EDITOR

        editor = self.out / EDITOR
        backbone, begin = self._step() if self.settings.steps else self._load()
        if self.taught:
            begin = self._teach_opinions(backbone, begin, editor)
        if self.scoped:
            self._teach_scope(backbone, begin, editor)
        data = {"editor": str(editor), **self.told}
        return Report(data, [make_facts("Trained", data)])

    def _step(self) -> "tuple[Backbone, Path]":
        """The steps of meta-training."""
        from instructedit.cli.loading import load_model
        from instructedit.training.loop import train

        settings = self.settings
        backbone = load_model(replace(self.model, sites=settings.sites, blocks=settings.blocks))
        result = train(
            settings,
            backbone,
            self.course,
            self.out,
            cache_folder=self.training.cache,
            facts=_facts(self.cases, self.training, self.begin),
            trackers=self.training.tracker,
            begin=self.begin,
        )
        self.told |= {"score": result.score, "step": result.step, "steps": result.steps_run}
        return backbone, result.editor

    def _load(self) -> "tuple[Backbone, Path]":
        """No steps: the editor that there is, and its model."""
        from instructedit.cli.loading import load_pair

        assert self.begin is not None
        return load_pair(self.model, str(self.begin))[0], self.begin

    def _teach_opinions(self, backbone: "Backbone", begin: Path, editor: Path) -> Path:
        from instructedit.training.stance import teach_stance

        settings, ordinary = self.settings, self.course.ordinary
        told = teach_stance(
            begin, editor, backbone, self.cases, ordinary, settings.stance, self.out, settings.seed
        )
        self.told |= {f"opinions, {name}": round(value, 4) for name, value in told.items()}
        return editor

    def _teach_scope(self, backbone: "Backbone", begin: Path, editor: Path) -> None:
        from instructedit.training.told import teach_told_file

        read = teach_told_file(begin, editor, backbone, self.settings.seed)
        self.told |= {f"unseen wordings, {name}": round(value, 4) for name, value in read.items()}


def read_settings(
    name: str,
    changes: Sequence[str],
    sites: str | None = None,
    blocks: int | None = None,
    seed: int | None = None,
) -> "TrainConfig":
    """A named configuration or a YAML file, with ``--set`` and then what is not None on top.

    Blocks that are given go before the sites of the configuration.
    Errors: `UnknownNameError` for an unknown configuration or setting; `DataError` for a wrong file or value.
    """
    from instructedit.training.config import from_dict, named_config

    is_file = name.endswith((".yaml", ".yml")) or Path(name).is_file()
    settings = from_dict(read_config(Path(name))) if is_file else named_config(name)
    for change in changes:
        settings = from_dict(_parse_change(change), settings)
    if blocks is not None:
        settings = replace(settings, sites=None, blocks=blocks)
    if seed is not None:
        settings = replace(settings, seed=seed)
    return replace(settings, sites=sites or settings.sites)


def _parse_change(change: str) -> dict[str, Any]:
    path, mark, text = change.partition("=")
    value: Any = None
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        mark = ""
    if not mark or not path.strip():
        raise DataError(f"cannot read --set {change!r}. Expected name=value, such as steps=300.")
    return nest({path.strip(): value})


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


def _find_begin(training: Training) -> Path | None:
    """The file of the editor that the run begins with, where one is named.

    Errors: `UnknownNameError` for a name, `EditorFileError` for a file that is missing or no editor.
    """
    from instructedit.cli.loading import find_editor
    from instructedit.editors.editor_file import read_header

    if training.begin is None:
        return None
    path = find_editor(str(training.begin))
    read_header(path)
    return path


def _facts(cases: Sequence[EditCase], training: Training, begin: Path | None) -> dict[str, Any]:
    """What the editor's header says of the data: tasks with counts, and files with checksums."""
    from collections import Counter

    from instructedit.storage import sha256_file

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
