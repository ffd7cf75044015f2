"""The values of finished cells in one file, small enough for a repository, from which a run can go on."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from instructedit.errors import DataError, one_line
from instructedit.evaluation.bootstrap import Clusters
from instructedit.storage import read_json, write_atomic

FORMAT = 1
DIGITS = 6  # of a value: far below what a case more or less changes
Values = dict[str, Clusters]  # by measure


def write_known(path: Path, cells: Iterable[tuple[str, str, Values]]) -> None:
    """Write cells, each with its key, its name and its values, one a line, in the order of names."""
    lines = [json.dumps(_plain(*cell)) for cell in sorted(cells, key=lambda cell: cell[1])]
    write_atomic(path, f'{{"format": {FORMAT}, "cells": [\n' + ",\n".join(lines) + "\n]}\n")


def read_known(path: Path) -> dict[str, tuple[str, Values]]:
    """Names and values of the cells that `write_known` wrote, by key.

    Errors: `DataError` for a file that cannot be read or holds something else.
    """
    try:
        stored = read_json(path)
        if stored["format"] != FORMAT:
            raise ValueError(f"format {stored['format']!r}")
        return {cell["key"]: (cell["cell"], _parse(cell["values"])) for cell in stored["cells"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"cannot read the cells of {path}: {one_line(error)}. Expected the file {path.name} that "
            f"`instructedit report` writes, of format {FORMAT}."
        ) from error


def _plain(key: str, name: str, values: Values) -> dict[str, Any]:
    rounded = {
        measure: [
            [*_listed(case), *(round(value, DIGITS) for value in found)] for case, found in each.items()
        ]
        for measure, each in values.items()
    }
    return {"cell": name, "key": key, "values": rounded}


def _listed(case: Any) -> tuple[str, int]:
    task, number = case
    return task, number


def _parse(values: Mapping[str, Any]) -> Values:
    return {
        measure: {(task, number): [float(x) for x in found] for task, number, *found in each}
        for measure, each in values.items()
    }
