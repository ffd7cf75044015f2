"""The part of `instructedit analyse` that holds its numbers against the cells of an experiment."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instructedit.cli.report import make_table
from instructedit.errors import DataError, one_line

Reliability = dict[tuple[str, str, str], float]
NUMBERS = "numbers.json"
PLACE = ("checksum", "editor", "task", "condition")  # what tells a cell from another


def read_beside(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The joined cells of earlier analyses, each with its model's ``checksum``.

    Errors: `DataError` for a folder that holds none.
    """
    from instructedit.analysis.cells import OTHER
    from instructedit.storage import read_json

    cells: list[dict[str, Any]] = []
    for folder in folders:
        try:
            found = read_json(folder / NUMBERS)
            cells += [
                {**cell, "checksum": found["checksum"]}
                for cell in found["cells"]
                if cell["condition"] != OTHER
            ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{folder} holds no cells: {one_line(error)}. Expected the --out of an analysis with --cells."
            ) from error
    return cells


def join(
    numbers: dict[str, Any], reliability: Reliability, editor: str, beside: list[dict[str, Any]], seed: int
) -> dict[str, Any]:
    """An analysis' numbers with ``cells`` and, over those of earlier ones too, ``correlations``.

    Errors: `DataError` where no cell is of this model and one of its tasks, or one stands there twice.
    """
    from instructedit.analysis.cells import correlate_cells, join_cells

    mine = {place[1:]: x for place, x in reliability.items() if place[0] == numbers["checksum"]}
    cells = list(join_cells(editor, numbers["rows"], mine))
    if not cells:
        tasks = sorted({task for _, task, _ in reliability})
        raise DataError(
            f"no cell of {editor} fits: they are of the tasks {', '.join(tasks)}, maybe on another model. "
            f"Expected one of {', '.join(numbers['tasks'])} on {numbers['model']}."
        )
    mine_too = [{**cell, "checksum": numbers["checksum"]} for cell in cells]
    places = Counter(tuple(cell[name] for name in PLACE) for cell in (*mine_too, *beside))
    if twice := [place for place, count in places.items() if count > 1]:
        raise DataError(
            f"{len(twice)} cells stand in two of these analyses, first: {', '.join(twice[0][1:])}. Expected "
            "other editors, tasks or models with --beside: what counts twice makes chance look like more."
        )
    found = correlate_cells([*cells, *beside], seed)
    return numbers | {"cells": cells, "correlations": found}


def show_cells(numbers: dict[str, Any]) -> list[Any]:
    """The joined cells, and how each number goes with reliability."""
    cells = numbers["cells"]
    rows = [(name, *found.values()) for name, found in numbers["correlations"].items()]
    return [
        make_table(
            "Deltas, all sites together, and the cells' reliability", tuple(cells[0]), map(_of, cells)
        ),
        make_table(
            "Spearman's rho with reliability, over these cells and those of --beside",
            ("number", "rho", "low", "high", "p", "cells"),
            rows,
        ),
    ]


def _of(cell: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(cell.values())
