"""A tiny plan: two methods that cost nothing, ten lands, and a folder to run it in."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from evaluation_fakes import empty_delta
from instructedit.editors import registry
from instructedit.experiment.running import Outcome, run_cells
from instructedit.experiment.sources import Finder
from instructedit.experiment.start import Session, open_session
from tiny_editors import CITIES, LANDS

CALLS: list[tuple[str, str]] = []  # (method, first subject) of every batch that was edited
DURING: list[Callable[[], object]] = []  # what happens during the next edit, once


@dataclass(frozen=True)
class Still:
    """Changes nothing."""

    name: ClassVar[str] = "still"
    paper: ClassVar[str] = "nobody"
    result: ClassVar[str] = "delta"
    depth: ClassVar[float | None] = None
    strength: float = 0.0

    def edit(self, backbone, cases: Sequence[Any], instructions: Sequence[str] | None = None):
        CALLS.append((self.name, cases[0].subject))
        if DURING:
            DURING.pop()()
        return empty_delta(backbone, len(cases), scale=self.strength)


@dataclass(frozen=True)
class Noisy(Still):
    """Writes noise."""

    name: ClassVar[str] = "noisy"
    strength: float = 0.3


@dataclass(frozen=True)
class Broken(Still):
    """Cannot edit at all."""

    name: ClassVar[str] = "broken"

    def edit(self, backbone, cases, instructions=None):
        raise RuntimeError("this one is broken")


@dataclass(frozen=True)
class Interrupted(Still):
    """Is stopped by the user."""

    name: ClassVar[str] = "interrupted"

    def edit(self, backbone, cases, instructions=None):
        raise KeyboardInterrupt


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the methods of this file known by name; nothing has been called yet."""
    module = ModuleType("instructedit.editors.stubs")
    for kind in (Still, Noisy, Broken, Interrupted):
        setattr(module, kind.__name__, kind)
        monkeypatch.setitem(registry.METHODS, kind.name, f"stubs:{kind.__name__}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    CALLS.clear()
    DURING.clear()


def write_records(path: Path, count: int = 6) -> Path:
    """Changes of capitals, one a line."""
    records = [
        {
            "subject": land,
            "prompt": f"The capital of {land} is",
            "target_new": CITIES[number % 4],
            "ground_truth": CITIES[(number + 1) % 4],
            "portability": {},
            "locality": {
                "Relation_Specificity": [{"prompt": f"People in {land} speak", "ground_truth": "French"}]
            },
        }
        for number, land in enumerate(LANDS[:count])
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def plan_values(model: Path, data: Path, **changes: Any) -> dict[str, Any]:
    """A plan of three cells, with `changes` on top."""
    table = {
        "editors": ["base", "still", "noisy"],
        "data": ["lands"],
        "measures": ["reliability", "locality"],
    }
    return {
        "name": "tiny",
        "models": {"tiny": {"model": str(model), "start": "none"}},
        "data": {"lands": {"files": [str(data)]}},
        "tables": {"main": table},
        **changes,
    }


def start(values: dict[str, Any], folder: Path, **options: Any) -> Session:
    return open_session(values, folder, Finder(), **options)


def run(values: dict[str, Any], folder: Path, **options: Any) -> Outcome:
    """Open a plan and run what is left of it, without a word."""
    session = start(values, folder, **options)
    return run_cells(session.workshop, session.left, say=print)
