"""Settings of a method as ``--setting`` takes them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def as_texts(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Settings as name=value."""
    return tuple(f"{name}={json.dumps(value)}" for name, value in settings.items())


def gather_settings(file: Path | None, method: str, texts: Sequence[str]) -> tuple[str, ...]:
    """Settings from the file of a search, then those of the command line, which win.

    Errors: `DataError` as `read_chosen`.
    """
    from instructedit.experiment.chosen import read_chosen

    return (*(as_texts(read_chosen(file, method)) if file else ()), *texts)
