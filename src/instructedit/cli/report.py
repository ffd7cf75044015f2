"""What a command hands back: data for a machine, pictures for a person, and the error to end with."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from instructedit.errors import InstructEditError

PIPE_WIDTH = 140  # columns of a table that goes into a file or a pipe


@dataclass(frozen=True)
class Report:
    """The result of one command.

    `data` is what ``--json`` prints; `shown` is what a person sees; `failure` is raised after either
    was printed, for work that was done and did not succeed.
    """

    data: Any
    shown: Sequence[RenderableType] = field(default=())
    failure: InstructEditError | None = None


def print_report(report: Report, *, as_json: bool) -> None:
    """Print a report on stdout, as one JSON document or for a person."""
    if as_json:
        print(json.dumps(report.data, ensure_ascii=False, indent=1))
        return
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    console = Console(highlight=False, markup=False, emoji=False, width=width)  # paths may look like markup
    for item in report.shown:
        console.print(item)


def make_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table of plain values: numbers to the right, everything else to the left, nothing read as markup."""
    rows = [tuple(row) for row in rows]
    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD)
    for index, column in enumerate(columns):
        numeric = all(isinstance(row[index], int | float | None) for row in rows)
        table.add_column(column, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(Text(show_value(value)) for value in row))
    return table


def make_facts(title: str, facts: Mapping[str, object]) -> Table:
    """Names and values, one a line."""
    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, show_header=False)
    for name, value in facts.items():
        table.add_row(Text(name.replace("_", " ")), Text(show_value(value)))
    return table


def show_value(value: object) -> str:
    """A value as a person reads it: few digits, thousands apart, yes and no, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
