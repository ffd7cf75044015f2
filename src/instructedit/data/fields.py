"""Reading one field of a record: dotted paths, plain text, and answers however they are nested."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from instructedit.errors import DataError

Record = dict[str, Any]
LIST_NUMBER = re.compile(r"^\s*\d{1,2}\s*[.)]\s+")
HALF = re.compile("[\ud800-\udfff]")  # of a surrogate pair: JSON can spell it, UTF-8 cannot


def bad_field(field: str, found: object, expected: str) -> DataError:
    """The error for one field; whoever knows the file and the line puts them in front."""
    shown = repr(found)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return DataError(f"field {field!r}: found {shown}, expected {expected}")


def find(record: Record, path: str) -> Any:
    """The value at a dotted path, or None where a part of the path is absent."""
    value: Any = record
    for key in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def find_first(record: Record, paths: Sequence[str]) -> tuple[str, Any]:
    """The first of several paths that holds something, and what it holds; else the first path and None."""
    for path in paths:
        value = find(record, path)
        if value is not None and flat_length(value):
            return path, value
    return paths[0], None


def flat_length(value: Any) -> int:
    """How many texts a value holds, blank ones not counted."""
    if isinstance(value, (list, tuple)):
        return sum(flat_length(item) for item in value)
    return 0 if isinstance(value, str) and not value.strip() else 1


def read_answers(value: Any, field: str) -> tuple[str, ...]:
    """All aliases in a text, an alias list or a list of alias lists: stripped, first first, none twice.

    Numbers become text and EasyEdit's ``{"str": ...}`` its text; anything else raises DataError, and so does
    text that is not Unicode.
    """
    return tuple(dict.fromkeys(text for text in _flatten(value, field) if text))


def read_text(value: Any, field: str) -> str:
    """One stripped text: of a list the first alias, and an empty text for nothing at all."""
    answers = read_answers(value, field)
    return answers[0] if answers else ""


def read_prompts(value: Any, field: str) -> list[str]:
    """Every prompt of a value in order, as `strip_prompt` has it; blanks stay: lists stay parallel."""
    return list(_flatten(value, field, strip_prompt))


def read_prompt(value: Any, field: str) -> str:
    """The first prompt of a value that says something; an empty text for none."""
    return next(filter(None, read_prompts(value, field)), "")


def strip_prompt(text: str) -> str:
    """A prompt without spaces around it; newlines at its end stay: chat templates end so."""
    body = text.strip()
    return body + "\n" * text[len(text.rstrip()) :].count("\n") if body else ""


def _flatten(value: Any, field: str, strip: Callable[[str], str] = str.strip) -> Iterator[str]:
    if value is None:
        return
    if isinstance(value, dict) and "str" in value:
        value = value["str"]
    if isinstance(value, str):
        if HALF.search(value):
            raise bad_field(field, value, "text in Unicode, not half of a surrogate pair")
        yield strip(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _flatten(item, field, strip)
    else:
        raise bad_field(field, value, "a text, a list of texts, or a list of such lists")


def strip_number(text: str) -> str:
    """A text without the list number in front of it: ``"2. Who wrote it?"`` becomes ``"Who wrote it?"``."""
    return LIST_NUMBER.sub("", text)


def as_question(text: str, prefix: str = "") -> str:
    """A search query as a person's question: without `prefix`, with a capital and a question mark."""
    text = text.removeprefix(prefix).strip()
    return text[:1].upper() + text[1:].rstrip(" ?.") + "?" if text else ""
