"""The folder of a run: finished cells, trained editors, claims, failures, and what is known of times."""

import hashlib
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from instructedit.errors import DataError, one_line
from instructedit.evaluation.rows import Row, read_rows, write_rows
from instructedit.experiment.cells import Cell
from instructedit.experiment.claims import Claims
from instructedit.experiment.known import Known, Values, read_known, write_known
from instructedit.experiment.making import DONE
from instructedit.experiment.measures import measure_rows
from instructedit.storage import new_folder, read_json, write_json

PLAN, SUMMARY, ROWS, KNOWN = "plan.json", "summary.json", "rows.parquet", "known"
CELLS = "cells.json"  # of a report: beside its plan.json it stands for the run


@dataclass(frozen=True)
class RunFolder:
    """One folder that any number of processes may work in; a cell is a folder of its own, whole or absent."""

    path: Path

    @cached_property
    def claims(self) -> Claims:
        """Who is at work on which cell or training."""
        return Claims(self.path / "claims")

    @property
    def cache(self) -> Path:
        """Prefix states, shared by all cells and trainings."""
        return self.path / "prefix-cache"

    def training(self, key: str) -> Path:
        """The folder of one training."""
        return self.path / "editors" / key[:24]

    def cell(self, key: str) -> Path:
        """The folder of one cell."""
        return self.path / "cells" / key[:24]

    def is_finished(self, key: str) -> bool:
        """Whether a cell is there, or known from another run; its folder appears whole."""
        return (self.cell(key) / SUMMARY).is_file() or key in self.known

    @cached_property
    def known(self) -> dict[str, Known]:
        """The cells that were finished elsewhere, by key; errors as `read_known`.

        A folder without cells of its own is that of a report, whose file holds them all.
        """
        files = [*sorted((self.path / KNOWN).glob("*.json")), *self.reported()]
        return {key: cell for file in files for key, cell in read_known(file).items()}

    def reported(self) -> list[Path]:
        """The file of a report's cells, where the folder is a report's and has no cells of its own."""
        is_report = (self.path / CELLS).is_file() and not (self.path / "cells").is_dir()
        return [self.path / CELLS] if is_report else []

    def learn(self, file: Path, *, keep: bool = True) -> None:
        """Know the cells of a `write_known` file: they need not be run. `keep` copies it into the folder.

        Errors: as `read_known`.
        """
        found = read_known(file)
        self.known.update(found)
        if keep:
            name = hashlib.sha256(file.read_bytes()).hexdigest()[:24]
            write_known(self.path / KNOWN / f"{name}.json", found)

    def keep(self, cell: Cell, key: str, config: dict[str, Any], summary: Any, rows: list[Row]) -> None:
        """Write a finished cell, whole or not at all, and forget its failure."""
        names = {"cell": str(cell), "key": key, "config": config}
        with new_folder(self.cell(key)) as place:
            write_rows(place / ROWS, rows)
            write_json(place / SUMMARY, {**names, **summary})
        self._failure(key).unlink(missing_ok=True)

    def finished(self) -> dict[str, Known]:
        """Every cell of the plan that is there or known, by key."""
        names = {key: name for name, key in self.read_plan()["keys"].items() if self.is_finished(key)}
        return {key: Known(name, self.values(key), self.versions(key)) for key, name in names.items()}

    def summary(self, key: str) -> dict[str, Any]:
        """What a finished cell says of itself: cell, config, seconds, edits, host, versions, tasks."""
        return read_json(self.cell(key) / SUMMARY)

    def values(self, key: str) -> Values:
        """A finished cell's values by measure and case; errors as `read_rows`."""
        if (self.cell(key) / ROWS).is_file():
            return measure_rows(read_rows(self.cell(key) / ROWS))
        return self.known[key].values

    def versions(self, key: str) -> Mapping[str, str]:
        """The versions that a finished cell was run with; empty where they were not kept."""
        if (self.cell(key) / SUMMARY).is_file():
            return self.summary(key).get("versions", {})
        return self.known[key].versions

    def summaries(self) -> list[dict[str, Any]]:
        """Those of all finished cells, of other settings too."""
        return [read_json(path) for path in sorted(self.path.glob(f"cells/[!.]*/{SUMMARY}"))]

    def fail(self, cell: Cell, key: str, error: Exception) -> None:
        """Write down why a cell could not be run; the next run tries it again."""
        message = one_line(error) or type(error).__name__
        trace = traceback.format_exception(error)
        failure = {"cell": str(cell), "error": type(error).__name__, "message": message, "traceback": trace}
        write_json(self._failure(key), failure)

    def failure(self, key: str) -> dict[str, Any] | None:
        """Why a cell could not be run, if it was tried and could not."""
        path = self._failure(key)
        return read_json(path) if path.is_file() else None

    def _failure(self, key: str) -> Path:
        return self.path / "failures" / f"{key[:24]}.json"

    def write_plan(self, plan: dict[str, Any], keys: dict[str, str], facts: dict[str, Any]) -> None:
        """Write what the report is made from: the plan, the cells' keys, and facts of this run."""
        write_json(self.path / PLAN, {"plan": plan, "keys": keys, **facts})

    def write_report(self, place: Path) -> list[Path]:
        """Write what a report can be made from again where the run is gone; the files written."""
        write_known(place / CELLS, self.finished())
        if not (place / PLAN).exists() or not (place / PLAN).samefile(self.path / PLAN):
            write_json(place / PLAN, self.read_plan())
        return [place / CELLS, place / PLAN]

    def read_plan(self) -> dict[str, Any]:
        """What `write_plan` wrote last. Errors: `DataError` where there is none."""
        try:
            return read_json(self.path / PLAN)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.path} holds no run: {error}. Expected the folder of `instructedit experiment`."
            ) from error

    def checksums(self) -> dict[str, str]:
        """The checksums of the models as they were when the run was last started; empty before that."""
        return self.read_plan().get("checksums", {}) if (self.path / PLAN).is_file() else {}

    def probe(self, name: str) -> float | None:
        """The seconds of one edit with all its questions, where an editor was tried on one case."""
        path = self._probe(name)
        return read_json(path)["seconds"] if path.is_file() else None

    def keep_probe(self, name: str, seconds: float) -> None:
        """Write down what one case of an editor took."""
        write_json(self._probe(name), {"seconds": seconds})

    def _probe(self, name: str) -> Path:
        return self.path / "probes" / f"{name[:24]}.json"

    def trainings(self) -> list[dict[str, Any]]:
        """What finished trainings say of themselves: steps and seconds."""
        return [read_json(path) for path in sorted(self.path.glob(f"editors/*/{DONE}"))]


def unfinished(run: RunFolder, cells: Sequence[tuple[Cell, str]]) -> list[tuple[Cell, str]]:
    """The cells that are not there yet."""
    return [(cell, key) for cell, key in cells if not run.is_finished(key)]
