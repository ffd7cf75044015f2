"""The options of `instructedit train`: those of its own, and shared ones that a configuration may decide."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from instructedit.cli.bank import Banks
from instructedit.cli.options import (
    COMMON_GROUP,
    MODEL_GROUP,
    Count,
    ModelChoice,
    Paths,
    Sample,
    Switch,
    Texts,
)

TRAINING_GROUP = Group("Training", sort_key=0)


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


@Parameter(name="*", group=MODEL_GROUP)
@dataclass(frozen=True)
class TrainModel(ModelChoice):
    """As `ModelChoice`, with blocks that the configuration decides unless they are given."""

    blocks: Count | None = None  # type: ignore[bad-override]
    """How many of the last blocks are edited when --sites does not say; left out, as configured."""

    def plain(self) -> ModelChoice:
        """The same, with the usual blocks where none are given."""
        return replace(ModelChoice(), **{name: x for name, x in vars(self).items() if x is not None})


@Parameter(name="*", group=COMMON_GROUP)
@dataclass(frozen=True)
class TrainSample(Sample):
    """As `Sample`, with a seed that the configuration decides unless it is given."""

    seed: int | None = None  # type: ignore[bad-override]
    """Seed of everything that is drawn at random; left out, as configured, and 0 for the draw of records."""

    def plain(self) -> Sample:
        """The same, with the usual seed where none is given."""
        return Sample(self.limit, self.seed or 0)


TRAINING, TRAIN_MODEL, TRAIN_SAMPLE = Training(), TrainModel(), TrainSample()
