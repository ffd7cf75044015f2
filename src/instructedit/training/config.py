"""The settings of one training run, and the named ones that come with the package."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.resources import files
from typing import Any

import yaml

from instructedit.editors.instructed import EditorConfig
from instructedit.editors.registry import find_trained
from instructedit.editors.settings import fill
from instructedit.errors import DataError, unknown_name
from instructedit.training.lessons import LessonConfig
from instructedit.training.losses import LossConfig
from instructedit.training.stance import TeachConfig, check_share

AT_LEAST_ONE = (
    *("blocks", "batch", "micro", "upon", "validate_every", "checkpoint_every", "moments"),
    *("decay", "per_task"),  # where they are given
)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides what a run computes, apart from the model and the data."""

    editor: EditorConfig = field(default_factory=EditorConfig)
    lessons: LessonConfig = field(default_factory=LessonConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    stance: TeachConfig = field(default_factory=TeachConfig)  # what follows the steps, for opinions
    sites: str | None = None  # as `find_sites`; None: the MLP linears of the last `blocks` blocks
    blocks: int = 3
    steps: int = 1000
    decay: int | None = None  # steps that the learning rate's decay is laid out for; None: all of them
    batch: int = 8  # edits a step, over all processes
    micro: int = 4  # edits whose activations are in memory at once; changes memory, and what `together` means
    together: float = 0.0  # share of steps in which each `micro` edits are made in one model
    upon: int = 4  # edits of a batch there: each batch is made on top of the ones before
    lr: float = 3e-4
    lr_steps: float = 1e-2  # of the step sizes and aggregation weights, in log units
    warmup: int = 20
    clip: float = 1.0
    balance: float = 0.5  # task weight = records ** balance: 0 balanced, 0.5 square root, 1 as they come
    per_task: int | None = None  # at most so many records a task
    validation: float = 0.05  # share of subjects kept for validation
    validate_every: int = 100
    validation_cases: int = 160
    patience: int = 5  # validations without a better score that are borne: one more, and training stops
    checkpoint_every: int = 50
    moments: int = 320  # edits that the statistics are taken from
    seed: int = 0

    def __post_init__(self) -> None:
        for name in AT_LEAST_ONE:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise DataError(f"setting {name} is {value}. Expected a number from 1 on.")
        if self.steps < 0:
            raise DataError(f"setting steps is {self.steps}. Expected 0 (none) or more.")
        check_share("validation", self.validation)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored in the editor's header."""
        return asdict(self)


def from_dict(values: Mapping[str, Any], default: Any = None) -> TrainConfig:
    """A config from plain values; what is not named keeps its default, that of the editor's `kind` if given.

    Errors: as `fill`; `DataError` for numbers that no run can have.
    """
    config, editor = default or TrainConfig(), values.get("editor")
    if isinstance(editor, Mapping) and "kind" in editor:
        settings = find_trained(str(editor["kind"])).settings
        config = config if type(config.editor) is settings else replace(config, editor=settings())
        values = {**values, "editor": {name: x for name, x in editor.items() if name != "kind"}}
    return fill(config, values)


def config_names() -> list[str]:
    """The named configurations that come with the package."""
    folder = files("instructedit") / "configs"
    return sorted(
        entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")
    )


def named_config(name: str) -> TrainConfig:
    """A configuration of the package, such as "paper" or "instructedit".

    Errors: `UnknownNameError` with the nearest name.
    """
    if name not in config_names():
        raise unknown_name("configuration", name, config_names())
    text = (files("instructedit") / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
    return from_dict(yaml.safe_load(text) or {})
