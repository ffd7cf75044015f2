"""The cells of a plan: one editor on one set of records under one condition, keyed by all that decides it."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

from instructedit.experiment.making import describe_editor
from instructedit.experiment.sources import Sources
from instructedit.experiment.specs import UNEDITED, EditorSpec, Plan, TableSpec
from instructedit.storage import sha256_file

FORMAT = 1  # of what a cell holds; a change that makes old cells wrong counts it up
NOT_IN_A_KEY = ("device", "device_map")
WRITTEN = ("data", "instructions", "tasks")  # where the package keeps facts, wordings, banks and layouts
ENDINGS = (".csv", ".txt", ".yaml")


@dataclass(frozen=True, order=True)
class Cell:
    """One place of the grid, by its names in the plan."""

    model: str
    editor: str
    data: str
    condition: str
    seed: int

    def __str__(self) -> str:
        return f"{self.model}/{self.editor}/{self.data}/{self.condition}/{self.seed}"


def cells_of(plan: Plan, table: TableSpec) -> list[Cell]:
    """The cells of one table; an editor without a seed of its own is run with the first seed only."""
    seeds = table.seeds or plan.seeds
    models = table.models or (next(iter(plan.models)),)
    places = product(models, table.editors, table.data, table.conditions)
    return [
        Cell(*place, seed)
        for place in places
        for seed in (seeds if editor_spec(plan, place[1]).is_trained_here else seeds[:1])
    ]


def editor_spec(plan: Plan, name: str) -> EditorSpec:
    """How the plan describes an editor; the unedited model needs no description."""
    return plan.editors[name] if name in plan.editors else EditorSpec(method=UNEDITED)


def all_cells(plan: Plan) -> list[Cell]:
    """Every cell of every table once, those of one model and editor together, in the plan's order."""
    found = dict.fromkeys(cell for table in plan.tables.values() for cell in cells_of(plan, table))
    order = {name: place for place, name in enumerate([*plan.models, *plan.editors])}
    return sorted(found, key=lambda cell: (order[cell.model], order.get(cell.editor, -1), cell.seed))


def choose_cells(plan: Plan, patterns: Sequence[str]) -> list[Cell]:
    """The cells that one of the patterns names; all without a pattern.

    A pattern with a slash is compared with ``model/editor/data/condition/seed``, one without with each of
    these names and with the tables' names: ``main``, ``mend*``, ``*/zsre/*``.
    """
    names: dict[Cell, set[str]] = {cell: set(str(cell).split("/")) for cell in all_cells(plan)}
    for title, table in plan.tables.items():
        for cell in cells_of(plan, table):
            names[cell].add(title)
    return [cell for cell, known in names.items() if not patterns or _is_named(cell, known, patterns)]


def _is_named(cell: Cell, names: set[str], patterns: Sequence[str]) -> bool:
    return any(
        fnmatchcase(text, pattern)
        for pattern in patterns
        for text in ([str(cell)] if "/" in pattern else names)
    )


class Keys:
    """The keys of a plan's cells: what decides a result is in them, what only decides its time is not."""

    def __init__(self, plan: Plan, sources: Sources, checksums: Mapping[str, str]) -> None:
        self.plan, self.sources, self.checksums = plan, sources, checksums
        self._editors: dict[tuple[str, int], dict[str, Any]] = {}

    def config(self, cell: Cell) -> dict[str, Any]:
        """The resolved configuration of a cell, in plain values."""
        plan, condition = self.plan, self.plan.conditions[cell.condition]
        told = plan.wordings.get(condition.wordings, {})
        options = {k: v for k, v in plan.models[cell.model].items() if k not in NOT_IN_A_KEY}
        return {
            "format": FORMAT,
            "package": package_digest(),
            "model": {**options, "model": self.checksums.get(cell.model) or f"unread {cell.model}"},
            "editor": self.editor(cell.editor, cell.seed),
            "data": self.sources.data(cell.data, condition).digest,
            "condition": {**asdict(condition), "title": "", "wordings": told},
            "seed": cell.seed,
            **({"asked": plan.sample} if plan.sample or cell.seed else {}),  # wordings and replies
            "limit": plan.limit,
            "cache": plan.cache,
        }

    def editor(self, name: str, seed: int) -> dict[str, Any]:
        """The resolved description of an editor, made once."""
        if (name, seed) not in self._editors:
            spec = editor_spec(self.plan, name)
            self._editors[name, seed] = describe_editor(spec, self.plan, self.sources, seed)
        return self._editors[name, seed]

    def key(self, cell: Cell) -> str:
        """The SHA-256 of a cell's configuration."""
        return digest(self.config(cell))

    def all(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, str]]:
        """Each cell with its key."""
        for cell in cells:
            yield cell, self.key(cell)


@cache
def package_digest() -> str:
    """The SHA-256 of all that the package has written down: own facts, other wordings, instruction banks."""
    return folder_digest(Path(str(files("instructedit"))))


def folder_digest(root: Path) -> str:
    """The same of a package at `root`: names and contents of its files of facts, wordings and layouts."""
    found = [path for part in WRITTEN for path in (root / part).rglob("*") if path.suffix in ENDINGS]
    return digest({str(path.relative_to(root)): sha256_file(path) for path in found})


def digest(values: Any) -> str:
    """The SHA-256 of plain values, the same whatever the order of names."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
