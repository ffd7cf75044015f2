"""What a plan is made of: editors, data, conditions, and the tables that select from them."""

from dataclasses import dataclass, field
from typing import Any

from instructedit.types import Control

Values = dict[str, Any]
UNEDITED = "base"  # the editor that leaves the model as it is
DEFAULT_MEASURES = ("reliability", "generalization", "locality", "portability", "mean")
AXES = ("model", "data", "editor", "condition", "measure")


@dataclass(frozen=True)
class EditorSpec:
    """One editor: a `method` with its `settings`, an editor `file`, or a configuration to `train`.

    Settings may come from a file of a search, a method's and a configuration's: `read_plan` puts them in, and
    `settings_file` says where they come from. A trained one has changes to its configuration (`set`), names
    the training data (`data`) and may have a cap of `steps` of its own. It is trained once a seed; the others
    have no seed of their own and are run with a table's first one. `edit` changes how edits are made by an
    editor that is trained or read: editors that differ in it alone share a training.
    """

    method: str = ""
    settings: Values = field(default_factory=dict)
    settings_file: str = ""
    file: str = ""
    train: str = ""
    set: Values = field(default_factory=dict)
    edit: Values = field(default_factory=dict)
    data: str = ""
    steps: int | None = None  # in the place of the plan's cap
    title: str = ""

    @property
    def is_trained_here(self) -> bool:
        return bool(self.train)


@dataclass(frozen=True)
class DataSpec:
    """Records to edit or to train on: files, or the project's `own` facts.

    `own` is ``train`` (or ``true``), ``test``, or ``year``: a kind of edit that is refused as training data.
    `keep` and `drop` choose by task or kind, `form` by the prompt's form: question or statement; `text` is
    ordinary text, for training.
    """

    files: tuple[str, ...] = ()
    own: str | bool = False
    text: tuple[str, ...] = ()
    task: str = "auto"
    both: bool = False
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    form: str = ""
    title: str = ""


@dataclass(frozen=True)
class Condition:
    """How an editor is told and what it is asked; `wordings` names instructions of the plan's own."""

    control: Control = "right"
    split: str = "unseen"
    instructed: bool = True
    fluency: bool = False
    leverage: bool = False
    together: int | None = None  # all edits in force at once, made in batches of so many
    limit: int | None = None
    wordings: str = ""
    title: str = ""


@dataclass(frozen=True)
class TableSpec:
    """A selection of cells, every combination of its lists, and how they stand in rows and columns.

    Entries that differ in the axis `compare` alone are rivals for the mark of the best, and `pairs` of them
    are compared case by case. `average` adds the mean over the data sets.
    """

    editors: tuple[str, ...]
    data: tuple[str, ...]
    conditions: tuple[str, ...] = ("right",)
    models: tuple[str, ...] = ()
    measures: tuple[str, ...] = DEFAULT_MEASURES
    seeds: tuple[int, ...] = ()
    columns: tuple[str, ...] = ("measure",)
    compare: str = "editor"
    pairs: tuple[tuple[str, str], ...] = ()
    figure: tuple[str, ...] = ()  # measures that the report draws as bars
    average: bool = False
    published: tuple[str, ...] = ()
    title: str = ""
    note: str = ""

    def names(self, axis: str) -> tuple[str, ...]:
        """What the table selects on an axis."""
        return getattr(self, axis if axis == "data" else f"{axis}s")


@dataclass(frozen=True)
class Plan:
    """Everything that decides which cells there are; what a file leaves open has these values."""

    name: str
    tables: dict[str, TableSpec]
    data: dict[str, DataSpec]
    editors: dict[str, EditorSpec]
    conditions: dict[str, Condition]
    models: dict[str, Values]
    wordings: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    training: dict[str, DataSpec] = field(default_factory=dict)
    limit: int | None = None
    steps: int | None = None  # the most steps of a training whose editor names no cap of its own
    seeds: tuple[int, ...] = (0,)
    sample: int = 0  # seed of all that is drawn to be asked (records, wordings, replies): so cells pair
    batch: int = 16
    cache: bool = True  # prefix states on disk, rounded to half precision
