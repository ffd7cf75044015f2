"""A search over an editor that is trained: each try trains one, on records that no try is scored on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from instructedit.backbone import Backbone
from instructedit.data.splits import subject_key
from instructedit.editors.settings import nest
from instructedit.experiment.cells import digest
from instructedit.experiment.claims import Claims
from instructedit.experiment.making import Training, cap_steps, load_editor
from instructedit.experiment.sources import Records, asked_by, unasked
from instructedit.experiment.specs import EditorSpec, Values
from instructedit.training.config import TrainConfig, from_dict, named_config
from instructedit.types import EditCase, Probe


@dataclass(frozen=True)
class Trainings:
    """Trains the editor of a configuration with a try's settings, and loads it; what tries share is kept in
    `folder`.

    `steps` caps the training of every try, as in a plan; `options` go to `load_backbone`.
    """

    name: str
    records: Records
    options: Values
    folder: Path
    steps: int | None = None
    seed: int = 0

    def __call__(self, settings: Values) -> tuple[Backbone, Any]:
        """An editor trained with some settings, and its model. Errors: as `training.loop.train`."""
        config = replace(cap_steps(with_settings(self.name, settings), self.steps), seed=self.seed)
        place = self.folder / digest(settings)[:16]
        training = Training(config, self.records, self.options, place, self.folder / "prefix-cache")
        return load_editor(
            EditorSpec(file=str(training.finish(Claims(self.folder / "claims")))), self.options
        )


def with_settings(name: str, settings: Values) -> TrainConfig:
    """A named configuration with some settings, named by their paths.

    Errors: as `named_config` and `from_dict`.
    """
    return from_dict(nest(settings), named_config(name))


def own_values(name: str, paths: Sequence[str]) -> Values:
    """What a named configuration itself has at some paths. Errors: as `named_config`."""
    found: Values = {}
    for path in paths:
        value: Any = named_config(name)
        for part in path.split("."):
            value = getattr(value, part)
        found[path] = value
    return found


def to_train_on(cases: Sequence[EditCase], text: Sequence[Probe], scored: Sequence[EditCase]) -> Records:
    """The edits about other subjects than those of `scored`, and the text that asks nothing of these."""
    subjects = {subject_key(case) for case in scored}
    kept = tuple(case for case in cases if subject_key(case) not in subjects)
    return Records(kept, unasked(text, asked_by(scored)))
