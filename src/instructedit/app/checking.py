"""Arguments from outside are looked at before a function is called: a wrong kind is one clear error."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from inspect import signature
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from instructedit.errors import DataError

# Turns errors into what a caller may read; it is told what the caller said, of which their text is made.
Guard = Callable[..., AbstractContextManager[None]]


def check_arguments(function: Callable[..., Any], guard: Guard) -> Callable[..., Any]:
    """The same function behind a guard; it says which argument is not of the kind that its signature names.

    What can be read as that kind is passed on as it, such as 48.0 for a whole number.
    """
    kinds, parameters = get_type_hints(function), signature(function)
    readers = {name: TypeAdapter(kinds[name]).validate_python for name in parameters.parameters}

    @wraps(function)
    def checked(*values: Any, **named: Any) -> Any:
        with guard(*map(str, (*values, *named.values()))):
            given = parameters.bind(*values, **named).arguments
            read = {name: _read(name, value, kinds[name], readers[name]) for name, value in given.items()}
            return function(**read)

    return checked


def _read(name: str, value: Any, kind: Any, reader: Callable[..., Any]) -> Any:
    try:
        return reader(value)
    except ValidationError:
        wanted = kind.__name__ if isinstance(kind, type) else str(kind)
        raise DataError(f"{name}: found {value!r:.100}, expected {wanted}.") from None
