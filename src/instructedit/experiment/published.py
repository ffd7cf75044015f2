"""The figures that the paper published, of its own models: to be seen beside a run's, never as its rivals."""

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from instructedit.errors import unknown_name
from instructedit.experiment.page import Table


@cache
def _read() -> dict[str, Any]:
    text = (files("instructedit.experiment") / "published.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def published_names() -> list[str]:
    """The published tables that there are."""
    return sorted(_read()["tables"])


def published_table(name: str) -> Table:
    """One of the paper's tables, marked as another model's.

    Errors: `UnknownNameError` with the nearest name.
    """
    if name not in published_names():
        raise unknown_name("published table", name, published_names())
    content = _read()
    table = content["tables"][name]
    mark = f"Published by {content['source']} for another model, {table['model']}, by its own measures: "
    rows = [[_show(value) for value in row] for row in table["rows"]]
    return Table(table["columns"], rows, f"{mark}{table['title']}")


def _show(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
