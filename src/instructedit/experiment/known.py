"""The values of finished cells in one file, small enough for a repository, from which a run can go on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instructedit.errors import DataError, one_line
from instructedit.evaluation.bootstrap import CaseKey
from instructedit.storage import read_json, write_atomic

FORMAT = 1
DIGITS = 6  # of a value: far below what a case more or less changes
Values = dict[str, Mapping[Any, Sequence[float]]]  # by measure and `CaseKey`


@dataclass(frozen=True)
class Known:
    """A finished cell: its name, its values by measure and case, and the versions that it was run with."""

    name: str
    values: Values
    versions: Mapping[str, str] = field(default_factory=dict)


def write_known(path: Path, cells: Mapping[str, Known]) -> None:
    """Write cells by their keys, one a line, in the order of names."""
    lines = [json.dumps(_plain(*pair)) for pair in sorted(cells.items(), key=lambda pair: pair[1].name)]
    write_atomic(path, f'{{"format": {FORMAT}, "cells": [\n' + ",\n".join(lines) + "\n]}\n")


def read_known(path: Path) -> dict[str, Known]:
    """The cells that `write_known` wrote, by key; older ones have neither subjects nor versions.

    Errors: `DataError` for a file that cannot be read or holds something else.
    """
    try:
        stored = read_json(path)
        if stored["format"] != FORMAT:
            raise ValueError(f"format {stored['format']!r}")
        return {cell["key"]: _parse(cell) for cell in stored["cells"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"cannot read the cells of {path}: {one_line(error)}. Expected the file {path.name} that "
            f"`instructedit report` writes, of format {FORMAT}."
        ) from error


def _plain(key: str, cell: Known) -> dict[str, Any]:
    rounded = {
        measure: [[*case[:2], *(round(value, DIGITS) for value in found)] for case, found in each.items()]
        for measure, each in cell.values.items()
    }
    cases = dict.fromkeys(case for each in cell.values.values() for case in each if case.subject)
    told = {"cell": cell.name, "key": key, "versions": dict(cell.versions)}
    return {**told, "subjects": [list(case) for case in cases], "values": rounded}


def _parse(cell: Mapping[str, Any]) -> Known:
    cases = {(task, case): CaseKey(task, case, subject) for task, case, subject in cell.get("subjects", ())}
    values: Values = {
        measure: {
            cases.get((task, case), CaseKey(task, case)): [float(x) for x in found]
            for task, case, *found in each
        }
        for measure, each in cell["values"].items()
    }
    return Known(cell["cell"], values, cell.get("versions", {}))
