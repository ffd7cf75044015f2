"""From an editor's description to the editor: made by name, read from its file, or trained in the run."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from instructedit.backbone import Backbone
from instructedit.backbone.loading import load_backbone
from instructedit.editors import load_for_editor, shipped_editor
from instructedit.editors.editor_file import config_of, read_header
from instructedit.editors.ordinary import plain_digest
from instructedit.editors.registry import load_for_method, make_method
from instructedit.editors.requests import EditorConfig
from instructedit.errors import DataError
from instructedit.experiment.claims import Claims
from instructedit.experiment.sources import Records, Sources
from instructedit.experiment.specs import UNEDITED, EditorSpec, Plan, Values
from instructedit.storage import sha256_file, write_json
from instructedit.training.asked import asked_digest
from instructedit.training.config import TrainConfig, from_dict, named_config
from instructedit.types import EditCase

DONE, EDITOR = "done.json", "editor.safetensors"
SHIPPED = "default"


class BusyError(Exception):
    """Another process is training the editor that is wanted."""


@dataclass(frozen=True)
class Nothing:
    """Edits that change nothing, `count` of them."""

    count: int

    def __len__(self) -> int:
        return self.count

    @contextmanager
    def applied_to(self, model: Any, rows: Any = None) -> Iterator[None]:
        """The model answers as it is."""
        yield


class Unedited:
    """The editor that leaves the model as it is: the row that all others are held against."""

    name = UNEDITED

    def edit(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str] | None = None
    ) -> Nothing:
        """One edit a case that changes nothing."""
        return Nothing(len(cases))


def describe_editor(spec: EditorSpec, plan: Plan, sources: Sources, seed: int) -> Values:
    """All that decides an editor, in plain values: its settings, its file's checksum, or its training.

    Errors: as `make_method`, `named_config`, `from_dict` and `EditorConfig.changed`; `DataError` for a file
    that is not there.
    """
    if spec.method == UNEDITED:
        return {"method": UNEDITED}
    if spec.method:
        made: Any = make_method(spec.method, spec.settings)
        return {"method": spec.method, "settings": asdict(made), **_ordinary(getattr(made, "text", None))}
    if spec.file:
        path = editor_file(spec)
        if not path.is_file():
            raise DataError(f"no editor at {path}. Expected a file that `instructedit train` wrote.")
        return {"file": sha256_file(path), **_edits(spec, config_of(read_header(path)))}
    config = training_config(spec, plan, seed)
    settings: dict[str, Any] = {"kind": config.editor.kind, **config.to_dict()}
    for part in (settings, settings["editor"]):  # no training of a plan teaches opinions
        part.pop("stance")
    own = {**_edits(spec, config.editor), **_ordinary(config.editor.text or None)}  # the package's is in all
    if config.editor.polish.scoped:  # it is taught to read what people write
        own["asked"] = asked_digest()
    return {"train": settings, "data": sources.training(spec.data).digest, **own}


def _edits(spec: EditorSpec, config: EditorConfig) -> Values:
    """What is changed of how edits are made, if anything. Errors: as `EditorConfig.changed`."""
    config.changed(spec.edit)
    return {"edit": spec.edit} if spec.edit else {}


def _ordinary(text: str | None) -> Values:
    """The digest of ordinary text, of a file or of the package's own (an empty name), for what reads any."""
    if text is None:
        return {}
    if text == "":
        return {"ordinary": plain_digest()}
    try:
        return {"ordinary": sha256_file(Path(text))}
    except OSError as error:
        raise DataError(
            f"cannot read the ordinary text {text}: {error.strerror}. Expected a text or JSON-lines "
            "file, named from the folder in which the run is started."
        ) from error


def editor_file(spec: EditorSpec) -> Path:
    """The file of an editor that is read."""
    return shipped_editor() if spec.file == SHIPPED else Path(spec.file).expanduser()


def training_config(spec: EditorSpec, plan: Plan, seed: int) -> TrainConfig:
    """The configuration that a trained editor names, with its changes, the cap of its steps and the seed.

    The editor's own cap goes before the plan's; neither makes a training longer than configured. Where its
    data drop erasures, or keep others only, no lesson makes one of a change either. Errors: as `named_config`
    and `from_dict`.
    """
    config = from_dict(spec.set, named_config(spec.train))
    data = plan.training[spec.data]
    if "erase" in data.drop or (data.keep and "erase" not in data.keep):
        config = replace(config, lessons=replace(config.lessons, erase=0.0))
    config = cap_steps(config, plan.steps if spec.steps is None else spec.steps)
    return replace(config, seed=seed)


def cap_steps(config: TrainConfig, most: int | None) -> TrainConfig:
    """A configuration of at most so many steps, within which the rate decays; None leaves it as it is."""
    if most is None or most >= config.steps:
        return config
    return replace(config, steps=most, decay=None)


def load_editor(spec: EditorSpec, options: Values) -> tuple[Backbone, Any]:
    """The editor that needs no training, and a backbone with the sites that it edits.

    Errors: as `load_for_method` and `load_for_editor`.
    """
    if spec.method == UNEDITED:
        return load_backbone(**options), Unedited()
    if spec.method:
        return load_for_method(spec.method, spec.settings, **options)
    own = {name: value for name, value in options.items() if name not in ("sites", "blocks")}
    backbone, editor = load_for_editor(editor_file(spec), **own)  # it brings its own sites
    if spec.edit:
        editor.adjust_by(spec.edit)
    return backbone, editor


@dataclass(frozen=True)
class Training:
    """One training of the plan: its configuration, records and model, and the folder where it is kept."""

    config: TrainConfig
    records: Records
    options: Values
    folder: Path
    cache: Path

    @property
    def editor(self) -> Path:
        return self.folder / EDITOR

    @property
    def is_done(self) -> bool:
        return (self.folder / DONE).is_file()

    def finish(self, claims: Claims) -> Path:
        """Train, or go on where an earlier process stopped; nothing where it is done. The editor's file.

        Errors: `BusyError` when another process is at it; as `training.loop.train`.
        """
        if self.is_done:
            return self.editor
        with claims.hold(f"train-{self.folder.name}") as held:
            if not held:
                raise BusyError(str(self.folder))
            if not self.is_done:  # it may have been finished just before
                self._run()
        return self.editor

    def _run(self) -> None:
        from instructedit.training.course import Course
        from instructedit.training.loop import train
        from instructedit.training.told import teach_told_file

        options: dict[str, Any] = {**self.options, "sites": self.config.sites, "blocks": self.config.blocks}
        backbone = load_backbone(**options)
        course = Course(self.records.cases, self.records.text, self.config)
        tasks = dict(sorted(Counter(case.task for case in self.records.cases).items()))
        facts = {"tasks": tasks, "data": {"records": self.records.digest}}
        steps: list[int] = []
        start = perf_counter()
        result = train(
            self.config,
            backbone,
            course,
            self.folder,
            cache_folder=self.cache,
            facts=facts,
            on_step=steps.append,
        )
        if self.config.editor.polish.scoped:
            teach_told_file(result.editor, result.editor, backbone, self.config.seed)
        taken = {"seconds": perf_counter() - start, "steps": len(steps)}  # of this process, not of all
        write_json(self.folder / DONE, {**taken, "last_step": result.steps_run, "score": result.score})
