"""A layout says in YAML which field of a record is which part of an edit; one file in `tasks/` each."""

from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from instructedit.data.fields import Record, find_first
from instructedit.errors import DataError, unknown_name
from instructedit.types import Kind, ProbeGroup, Scope


@dataclass(frozen=True)
class FieldMap:
    """Where one field comes from: the first of `paths` that is filled, else `text`.

    ``{}`` in what `paths` gives is replaced by the text at the path `fill`, unless it is named there already;
    in a `template` always. ``{subject}`` in `text` is replaced by the subject.
    """

    paths: tuple[str, ...] = ()
    text: str = ""
    fill: str = ""
    template: bool = False


@dataclass(frozen=True)
class ProbeMap:
    """Where probes come from.

    Either `prompts` (paths) with `answers` (a path; empty means the answer the edit wants), or fixed
    `text`s about the subject, or a `nested` object of named groups, or a list of finished probes (`listed`).
    """

    group: ProbeGroup = "rephrase"
    name: str = ""
    prompts: tuple[str, ...] = ()
    answers: str = ""
    text: tuple[str, ...] = ()
    nested: str = ""
    listed: str = ""
    only: tuple[str, ...] = ()  # of a nested object, the groups to take; empty means all
    without: tuple[str, ...] = ()  # of a nested object, the groups to leave
    take: int | None = None  # at most so many
    unnumber: bool = False  # drop "2. " in front of a prompt
    strip_prefix: str = ""
    question: bool = False  # make a plain question of a search query


@dataclass(frozen=True)
class OtherTopics:
    """Locality probes made of other records of the same file: `count` topics, one reply of each."""

    group: ProbeGroup
    name: str
    text: str
    count: int


@dataclass(frozen=True)
class Layout:
    """One way to write a task's records down."""

    name: str
    task: str
    title: str
    version: int
    kind: Kind
    scope: Scope
    required: tuple[str, ...]
    fields: dict[str, FieldMap]
    probes: tuple[ProbeMap, ...]
    has: tuple[str, ...]
    lacks: tuple[str, ...] = ()
    equals: dict[str, str] = field(default_factory=dict)
    sentiment: str = ""  # "hash": each record gives one polarity, or both where the caller asks
    others: OtherTopics | None = None

    def fits(self, record: Record) -> bool:
        """Whether a record has the fields this layout is known by."""
        return (
            all(key in record for key in self.has)
            and not any(key in record for key in self.lacks)
            and all(record.get(key) == value for key, value in self.equals.items())
        )

    def fills(self, record: Record) -> bool:
        """Whether every required field can be read from a record."""
        maps = [self.fields[key] for key in self.required]
        return all(fm.text or find_first(record, fm.paths)[1] is not None for fm in maps)


@cache
def load_layouts() -> tuple[Layout, ...]:
    """All layouts of the package, those known by the most fields first."""
    folder = files("instructedit").joinpath("tasks")
    paths = [path for path in folder.iterdir() if path.name.endswith(".yaml")]
    layouts = [
        parse_layout(path.name.removesuffix(".yaml"), yaml.safe_load(path.read_text("utf-8")))
        for path in paths
    ]
    return tuple(sorted(layouts, key=lambda layout: (-len(layout.has) - len(layout.equals), layout.name)))


def parse_layout(name: str, source: dict[str, Any]) -> Layout:
    """A layout from its YAML; unknown keys raise TypeError."""
    source = dict(source)
    detect = source.pop("detect")
    fields = {key: _parse_field(value) for key, value in source.pop("fields").items()}
    probes = tuple(
        ProbeMap(**{key: _tuple(key, value) for key, value in p.items()}) for p in source.pop("probes")
    )
    others = source.pop("others", None)
    return Layout(
        name=name,
        required=tuple(source.pop("required")),
        fields=fields,
        probes=probes,
        has=tuple(detect["has"]),
        lacks=tuple(detect.get("lacks", ())),
        equals=detect.get("equals", {}),
        others=OtherTopics(**others) if others else None,
        **source,
    )


def _parse_field(value: Any) -> FieldMap:
    if isinstance(value, dict):
        path = value.get("path")
        return FieldMap((path,) if path else (), **{k: x for k, x in value.items() if k != "path"})
    return FieldMap((value,) if isinstance(value, str) else tuple(value))


def _tuple(key: str, value: Any) -> Any:
    if key in ("prompts", "text", "only", "without"):
        return (value,) if isinstance(value, str) else tuple(value)
    return value


def task_title(task: str) -> str:
    """The task's name as a person reads it, for the first of the paper's three lines."""
    return named_layouts(task)[0].title


def named_layouts(task: str) -> list[Layout]:
    """The layouts of a task; UnknownNameError suggests the nearest name."""
    layouts = [layout for layout in load_layouts() if task in (layout.task, layout.name)]
    if not layouts:
        raise unknown_name("task", task, sorted({layout.task for layout in load_layouts()} | {"auto"}))
    return layouts


def choose_layout(record: Record, task: str = "auto") -> tuple[Layout, Layout]:
    """The layout to read a record by, and the one whose task, kind and scope it gets.

    The two differ when a task is named whose own layouts do not fit: then the record's fields decide how it
    is read. DataError where no layout fits.
    """
    named = named_layouts(task) if task != "auto" else []
    fitting = next((layout for layout in named if layout.fits(record)), None)
    fitting = fitting or next((layout for layout in named if layout.fills(record)), None)
    if fitting:
        return fitting, fitting
    known = [layout for layout in load_layouts() if layout.fits(record)]
    detected = next((layout for layout in known if layout.fills(record)), known[0] if known else None)
    if detected:
        return detected, named[0] if named else detected
    wanted = " and ".join(named[0].required) if named else "prompt and target_new"
    raise DataError(
        f"fields: found {', '.join(map(str, record)) or 'none'}, expected at least {wanted}, "
        "or one of the layouts in `tasks/`"
    )
