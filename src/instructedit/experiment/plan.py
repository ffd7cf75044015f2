"""A plan, read from one YAML file, and every name in it checked before anything is run."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from instructedit.editors.registry import METHODS
from instructedit.editors.settings import merge, nest
from instructedit.errors import DataError, unknown_name
from instructedit.experiment.chosen import read_chosen
from instructedit.experiment.specs import (
    AXES,
    UNEDITED,
    Condition,
    DataSpec,
    EditorSpec,
    Plan,
    TableSpec,
    Values,
)
from instructedit.storage import read_yaml
from instructedit.types import Control

Made = TypeVar("Made")
_SECTIONS: dict[str, type] = {
    "tables": TableSpec,
    "data": DataSpec,
    "training": DataSpec,
    "editors": EditorSpec,
    "conditions": Condition,
}
WANTED = {  # what is checked of a value before anything is run; the rest are names, which are checked too
    int: "a whole number",
    int | None: "a whole number, or nothing",
    bool: "true or false",
    str: "a text",
}
Pairs = tuple[tuple[str, str], ...]
UNLEVERED = ("control", "instructed", "fluency", "together", "wordings")  # that leverage has no use for
MODEL_OPTIONS = ("model", "sites", "blocks", "device", "dtype", "device_map", "start")  # as `load_backbone`
SEE = "See docs/experiments.md for a plan's entries."


def read_plan(path: Path) -> Values:
    """The plain values of a plan's file, with the settings from the files that it names beside it.

    Errors: `DataError` when it cannot be read or is no mapping; as `read_chosen`.
    """
    values = read_yaml(path, "the plan")
    if not isinstance(values, dict):
        raise DataError(f"{path} holds no plan; expected the sections tables, data and editors.")
    return {"name": path.stem, **_put_settings(values, path.parent)}


def _put_settings(values: Values, folder: Path) -> Values:
    """The values with every editor's `settings_file` read; what its `settings` say goes before.

    Those of an editor that is trained are changes to its configuration, and its `set` goes before.
    """
    if not isinstance(editors := values.get("editors"), dict):
        return values
    put = {}
    for name, editor in editors.items():
        if isinstance(editor, dict) and editor.get("settings_file"):
            trained = str(editor.get("train") or "")
            found = read_chosen(
                folder / str(editor["settings_file"]), trained or str(editor.get("method", ""))
            )
            if trained:
                editor = {**editor, "set": merge(nest(found), editor.get("set") or {})}
            else:
                editor = {**editor, "settings": {**found, **(editor.get("settings") or {})}}
        put[name] = editor
    return {**values, "editors": put}


def parse_plan(values: Mapping[str, Any]) -> Plan:
    """A plan from plain values, every name in it checked.

    An editor that is not described is the method of that name; `base` is the unedited model. Errors:
    `UnknownNameError` for a name that does not exist, `DataError` for a value of the wrong form.
    """
    given = dict(values)
    for section, default in (("conditions", {"right": {}}), ("models", {"default": {}}), ("editors", {})):
        given[section] = given.get(section) or default
    for section, kind in _SECTIONS.items():
        given[section] = {
            str(name): _make(kind, value, f"{section}.{name}")
            for name, value in _mapping(given.get(section) or {}, section).items()
        }
    given["models"] = {
        str(name): _mapping(options or {}, f"models.{name}")
        for name, options in _mapping(given["models"], "models").items()
    }
    named = dict.fromkeys(name for table in given["tables"].values() for name in table.editors)
    for name in [name for name in named if name in _methods() and name not in given["editors"]]:
        given["editors"][name] = EditorSpec(method=name)
    plan = _make(Plan, given, "the plan")
    _check_names(plan)
    return plan


def _make(kind: type[Made], values: Any, place: str) -> Made:
    """A dataclass from a mapping; a list becomes a tuple, and a single value where a tuple stands one too."""
    given, known = _mapping(values or {}, place), {f.name: f for f in fields(kind)}  # type: ignore
    for name in given:
        if name not in known:
            raise unknown_name(f"entry of {place}", str(name), list(known))
    needed = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in needed if name not in given]:
        raise DataError(f"{place} lacks {', '.join(missing)}. {SEE}")
    made = {}
    for name, value in given.items():
        wanted: Any = known[name].type
        made[name] = _as_tuple(value) if get_origin(wanted) is tuple else value
        if wanted in WANTED and not isinstance(value, wanted):
            raise DataError(f"{place}: {name} is {value!r}. Expected {WANTED[wanted]}. {SEE}")
        if wanted == Values:
            made[name] = _mapping({} if value is None else value, f"{place}.{name}")
        if wanted == Pairs and any(not isinstance(x, tuple) or len(x) != 2 for x in made[name]):
            raise DataError(f"{place}: {name} is {value!r}. Expected a list of pairs of names. {SEE}")
    return kind(**made)


def _as_tuple(value: Any) -> tuple[Any, ...]:
    if isinstance(value, list | tuple):
        return tuple(tuple(item) if isinstance(item, list) else item for item in value)
    return (value,)


def _mapping(values: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise DataError(f"{place} is {values!r}. Expected a mapping of names to values.")
    return values


def _check_names(plan: Plan) -> None:
    for name in ("limit", "steps", "batch"):
        value = getattr(plan, name)
        if value is not None and value < 1:
            raise DataError(f"the plan's {name} is {value}. Expected 1 or more. {SEE}")
    for name, options in plan.models.items():
        _check(f"option of the model {name}", list(options), list(MODEL_OPTIONS))
    for title, table in plan.tables.items():
        _check_table(plan, title, table)
    for name, editor in plan.editors.items():
        _check_editor(plan, name, editor)
    for title, condition in plan.conditions.items():
        _check_condition(title, condition)
    wordings = [condition.wordings for condition in plan.conditions.values() if condition.wordings]
    _check("wordings", wordings, list(plan.wordings))


def _check_table(plan: Plan, title: str, table: TableSpec) -> None:
    from instructedit.experiment.measures import MEASURES
    from instructedit.experiment.published import published_names

    known = {
        "model": plan.models,
        "data": plan.data,
        "editor": {UNEDITED: None, **plan.editors, **METHODS},
        "condition": plan.conditions,
        "measure": MEASURES,
    }
    for axis in AXES:
        _check(f"{axis} in the table {title}", table.names(axis), list(known[axis]))
    _check(f"axis in the table {title}", (*table.columns, table.compare), list(AXES))
    drawable = [name for name in table.measures if not MEASURES[name].plain]
    _check(f"measure in the figure of {title}", table.figure, drawable)
    _check(f"published table in the table {title}", table.published, published_names())
    rivals = list(table.names(table.compare))
    _check(f"{table.compare} in a pair of {title}", [n for pair in table.pairs for n in pair], rivals)


def _check_editor(plan: Plan, name: str, editor: EditorSpec) -> None:
    found = [way for way in ("method", "file", "train") if getattr(editor, way)]
    if len(found) != 1:
        told = " and ".join(found) or "none of them"
        raise DataError(f"editor {name}: found {told}. Expected one of method, file and train. {SEE}")
    if editor.steps is not None and (not editor.train or editor.steps < 1):
        raise DataError(f"editor {name}: steps is {editor.steps}. Expected 1 or more, of a training.")
    if editor.edit and editor.method:
        raise DataError(
            f"editor {name}: edit stands beside the method {editor.method}. Expected it under settings."
        )
    _check(f"method of the editor {name}", [editor.method] if editor.method else [], _methods())
    _check(f"training data of {name}", [editor.data] if editor.train else [], list(plan.training))


def _check_condition(title: str, condition: Condition) -> None:
    _check(f"control in the condition {title}", [condition.control], list(get_args(Control)))
    _check(f"split in the condition {title}", [condition.split], ["train", "unseen"])
    beside = [name for name in UNLEVERED if getattr(condition, name) != getattr(Condition(), name)]
    if condition.leverage and beside:
        raise DataError(
            f"condition {title}: leverage stands beside {', '.join(beside)}. Expected leverage with a split "
            f"and a limit alone: it gives its own instructions. {SEE}"
        )
    if condition.limit is not None and condition.limit < 1:
        raise DataError(f"condition {title}: limit is {condition.limit}. Expected 1 or more. {SEE}")


def _methods() -> list[str]:
    return [UNEDITED, *METHODS]


def _check(what: str, names: Sequence[str], known: list[str]) -> None:
    for name in names:
        if name not in known:
            raise unknown_name(what, str(name), known)
