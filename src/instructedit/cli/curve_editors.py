"""The editors of a curve: what each is called, and what decides it."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from instructedit.errors import DataError, unknown_name

LABEL = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class Named:
    """An editor under its name in the run, with its settings as name=value."""

    label: str
    editor: str
    settings: tuple[str, ...]


def name_editors(editors: Sequence[str], settings: Sequence[str]) -> list[Named]:
    """Each editor under its name, with the settings that begin with it.

    Errors: `DataError` for a name that is given twice or is no name for a folder; `UnknownNameError` for a
    setting of none of them.
    """
    pairs = [_name_editor(text) for text in editors]
    labels = [label for label, _ in pairs]
    for label in labels:
        if labels.count(label) > 1 or not LABEL.fullmatch(label) or label.strip(".") == "":
            raise DataError(
                f"{label!r} does not name one editor. Expected names of letters, digits, - and _, each once: "
                "--editor NAME=EDITOR."
            )
    given: dict[str, list[str]] = {label: [] for label in labels}
    for text in settings:
        owner = max((label for label in labels if text.startswith(f"{label}.")), key=len, default=None)
        if owner is None:
            raise unknown_name("editor of --setting", text.partition(".")[0], labels)
        given[owner].append(text.removeprefix(f"{owner}."))
    return [Named(label, editor, tuple(given[label])) for label, editor in pairs]


def _name_editor(text: str) -> tuple[str, str]:
    label, mark, editor = text.partition("=")
    if mark and not Path(text).exists():
        return label, editor
    path = Path(text)
    return (path.parent.name if path.stem == "editor" else path.stem) or text, text


def describe_named(named: Named) -> dict[str, Any]:
    """What decides an editor; a method and its settings are checked on the way.

    Errors: as `make_method`, `find_editor` and `check_fields`; `DataError` for a method whose edits are no
    deltas, and for a file that is not there.
    """
    from instructedit.cli.loading import EDITORS, check_fields, find_editor, read_settings
    from instructedit.editors.registry import METHODS, find_method, make_method
    from instructedit.storage import sha256_file

    if named.editor in METHODS:
        made: Any = make_method(named.editor, read_settings(named.settings))
        if find_method(named.editor).result != "delta":
            raise DataError(f"the edits of {named.editor} cannot be put together: they are no deltas.")
        return {"method": named.editor, "settings": asdict(made)}
    path = find_editor(named.editor, [*EDITORS, *METHODS])
    if not path.is_file():
        raise DataError(f"no editor at {path}. Expected a file that `instructedit train` wrote.")
    check_fields(path, named.settings)
    settings = {"settings": read_settings(named.settings)} if named.settings else {}
    return {"file": sha256_file(path), **settings}
