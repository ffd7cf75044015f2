"""The folder of a curve: what its numbers depend on, each editor's latest state, and its points."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instructedit.errors import OutputError
from instructedit.evaluation.rows import Row, write_rows
from instructedit.storage import new_folder, read_json, write_json
from instructedit.types import EditCase

STATE, SETTINGS, POINT, ROWS = "state.safetensors", "settings.json", "point.json", "rows.parquet"
Point = dict[str, Any]


@dataclass(frozen=True)
class CurveFolder:
    """One editor's run: the latest state, and a folder for each point, whole or absent."""

    path: Path

    @property
    def state(self) -> Path:
        return self.path / STATE

    def place(self, count: int) -> Path:
        """The folder of one point."""
        return self.path / "points" / f"{count:07d}"

    def points(self, at: Sequence[int]) -> list[Point]:
        """The numbers of those points that were measured."""
        paths = [self.place(count) / POINT for count in at]
        return [read_json(path) for path in paths if path.is_file()]

    def keep(self, point: Point, rows: Sequence[Row]) -> None:
        """Write a point, whole or not at all. Errors: `OutputError`."""
        with new_folder(self.place(point["edits"])) as place:
            write_rows(place / ROWS, rows)
            write_json(place / POINT, point)

    def check(self, at: Sequence[int], cases: Sequence[EditCase]) -> None:
        """See that the points are those of these cases. Errors: `OutputError`."""
        for point in self.points(at):
            if point["records"] != digest_cases(cases[: point["edits"]]):
                raise OutputError(
                    f"{self.path} was measured after {point['edits']} other edits than the records give now. "
                    "Choose another folder with --out, or give the records in the same order."
                )


def digest_cases(cases: Sequence[EditCase]) -> str:
    """The SHA-256 of cases in their order."""
    return hashlib.sha256(repr(list(cases)).encode()).hexdigest()


def claim_folder(path: Path, facts: Mapping[str, Any]) -> None:
    """Write into a folder what its numbers depend on, or see that it is the same.

    Errors: `OutputError` when the folder holds numbers of other settings, or something else.
    """
    place = path / SETTINGS
    if not place.is_file():
        if path.exists() and not (path.is_dir() and not _other_files(path)):
            raise OutputError(
                f"{path} holds something else. Expected a new folder, or one of this command: choose another "
                "with --out."
            )
        write_json(place, dict(facts))
        return
    try:
        old = dict(read_json(place))
    except (OSError, ValueError, TypeError) as error:
        raise OutputError(f"cannot read {place}: {error}. Choose another folder with --out.") from error
    names = [name for name in {**old, **facts} if old.get(name) != facts.get(name)]
    if names:
        told = "; ".join(f"{n} was {_short(old.get(n))} and is {_short(facts.get(n))}" for n in names)
        raise OutputError(f"{path} was begun with other settings: {told}. Choose another folder with --out.")


def _other_files(path: Path) -> list[Path]:
    """What lies in a folder, but for settings that a stopped run was writing."""
    return [file for file in path.iterdir() if not file.name.startswith(f".{SETTINGS}.")]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
