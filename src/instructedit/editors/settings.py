"""Settings as plain values, such as YAML gives them, checked by the types of the fields that they are for."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from types import NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from instructedit.errors import DataError, unknown_name


def nest(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of settings from names that are paths: ``editor.prefix`` is `prefix` of `editor`.

    Errors: `DataError` for a path through what has a value itself.
    """
    made: dict[str, Any] = {}
    for path, value in settings.items():
        *sections, name = path.split(".")
        place: Any = made
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise DataError(f"setting {path}: {section} is {place!r} already. Expected one of the two.")
        place[name] = value
    return made


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Sections of settings, one upon the other: where both have a value, that of `above` stands."""
    made = {**below, **above}
    for name in below.keys() & above.keys():
        if isinstance(below[name], Mapping) and isinstance(above[name], Mapping):
            made[name] = merge(below[name], above[name])
    return made


def fill(default: Any, values: Mapping[str, Any], path: str = "") -> Any:
    """A dataclass with some of its fields, and of those of its fields, replaced.

    Errors: `UnknownNameError` for a field, behind `path`, or a word that does not exist; `DataError` for a
    section that is no mapping, and for a value of another type than its field.
    """
    known, kinds = [f.name for f in fields(default)], get_type_hints(type(default))
    changes = {}
    for key, value in values.items():
        if key not in known:
            raise unknown_name("setting", f"{path}{key}", [f"{path}{name}" for name in known])
        old = getattr(default, key)
        if is_dataclass(old):
            changes[key] = _fill_section(f"{path}{key}", old, value)
        else:
            changes[key] = read_value(f"setting {path}{key}", kinds[key], value, old)
    return replace(default, **changes)


def _fill_section(name: str, old: Any, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise DataError(f"setting {name} is {value!r}. Expected a mapping of its own settings.")
    return fill(old, value, f"{name}.")


def read_value(what: str, kind: Any, value: Any, example: Any = None) -> Any:
    """A plain value as a field of the type `kind` holds it; `what` names it, `example` may stand there.

    A number that YAML takes for a word, such as 1e-3, is one; a list becomes a tuple.
    Errors: `UnknownNameError` for a word that is none of those allowed, `DataError` for any other type.
    """
    options, origin = get_args(kind), get_origin(kind)
    if origin in (Union, UnionType):
        rest = [option for option in options if option is not NoneType]
        return value if value is None or len(rest) > 1 else read_value(what, rest[0], value, example)
    if origin is Literal:
        if value not in options:
            raise unknown_name(f"value of {what.removeprefix('setting ')}", str(value), list(options))
        return value
    if origin in (tuple, Sequence):
        if not isinstance(value, list | tuple):
            _refuse(what, value, f"a list in brackets, such as [{value}]")
        return tuple(read_value(f"an entry of {what}", options[0], entry) for entry in value)
    if kind in (int, float):
        return _read_number(what, kind, value, example)
    if kind is bool and not isinstance(value, bool):
        _refuse(what, value, "true or false")
    if kind is str and not isinstance(value, str):
        _refuse(what, value, "words", example)
    return value


def _read_number(what: str, kind: type, value: Any, example: Any) -> Any:
    found: Any = value
    if isinstance(value, str):
        try:
            found = float(value)
        except ValueError:
            found = None
    if isinstance(found, bool) or not isinstance(found, int | float) or found != found:
        _refuse(what, value, "a number", example)
    if kind is float:
        return float(found)
    if found % 1:  # of an infinite number this is none, and counts
        _refuse(what, value, "a whole number", example)
    return int(found)


def _refuse(what: str, value: Any, expected: str, example: Any = None) -> NoReturn:
    hint = f", such as {example}" if example not in (None, "") else ""
    raise DataError(f"{what} is {value!r}. Expected {expected}{hint}.")
