"""One record and a layout become edits."""

import hashlib
import re
from dataclasses import asdict, replace
from typing import Any, get_args

from instructedit.data.fields import (
    Record,
    bad_field,
    find,
    find_first,
    read_answers,
    read_prompt,
    read_text,
)
from instructedit.data.layouts import FieldMap, Layout
from instructedit.data.probes import read_probes
from instructedit.types import EditCase, Kind, Scope, Sentiment

CHOICES = {"kind": get_args(Kind), "scope": get_args(Scope), "sentiment": get_args(Sentiment)}


def build_cases(
    record: Record, layout: Layout, role: Layout, *, both: bool = False, seed: int = 0
) -> list[EditCase]:
    """The edits of one record, usually one: two where the record holds both sentiments and `both` is set.

    `layout` says how to read, `role` which task, kind and scope result. Raises DataError naming the field.
    """
    texts = _read_fields(record, layout)
    kind = texts.pop("kind", "") or role.kind
    case = EditCase(
        prompt=texts.pop("prompt"),
        target_new="" if kind == "sentiment" else texts.pop("target_new", ""),
        task=texts.pop("task", "") or role.task,
        kind=kind,
        scope=texts.pop("scope", "") or role.scope,
        sentiment=texts.pop("sentiment", "") or None,
        **{key: value for key, value in texts.items() if key != "target_new"},
    )
    if kind != "sentiment" and not case.target_new:
        raise bad_field(
            _first_path(layout, "target_new"), "", "an answer with at least one visible character"
        )
    if kind == "sentiment":
        return [_with_probes(c, record, layout) for c in _with_sentiment(case, layout, both, seed)]
    return [_with_probes(case, record, layout)]


def case_to_record(case: EditCase) -> Record:
    """A record, ready for JSON, that `case_from_request` reads back as the same edit."""
    record = asdict(case)
    return {key: value for key, value in record.items() if value not in ("", None, ()) or key == "probes"}


def _read_fields(record: Record, layout: Layout) -> dict[str, Any]:
    subject = _read_field(record, layout, "subject", "")
    fields: dict[str, Any] = {key: _read_field(record, layout, key, subject) for key in layout.fields}
    for key in ("positive", "negative"):
        if key in fields:
            path = _first_path(layout, key)
            fields[key] = read_answers(find(record, path), path)
    for key in layout.required:
        if not fields[key]:
            found = find(record, _first_path(layout, key))
            raise bad_field(_first_path(layout, key), found, "a text with at least one visible character")
    for key, known in CHOICES.items():
        if fields.get(key) and fields[key] not in known:
            raise bad_field(_first_path(layout, key), fields[key], " or ".join(known))
    return fields


def _first_path(layout: Layout, key: str) -> str:
    field_map = layout.fields.get(key, FieldMap())
    return field_map.paths[0] if field_map.paths else key


def _read_field(record: Record, layout: Layout, key: str, subject: str) -> str:
    field_map = layout.fields.get(key)
    if field_map is None:
        return ""
    path, value = find_first(record, field_map.paths) if field_map.paths else ("", None)
    text = read_prompt(value, path) if key == "prompt" else read_text(value, path)
    if not text:
        return field_map.text.replace("{subject}", subject)
    return _fill_gap(text, record, field_map) if field_map.fill and "{}" in text else text


def _fill_gap(text: str, record: Record, field_map: FieldMap) -> str:
    """A text with the subject in its gap; where it names that already, or has none, ``{}`` means itself."""
    filler = read_text(find(record, field_map.fill), field_map.fill)
    if field_map.template and not filler:
        raise bad_field(field_map.fill, filler, f"a subject to fill the gap in {text!r}")
    named = re.search(rf"(?<!\w){re.escape(filler)}(?!\w)", text, re.IGNORECASE) is not None
    return text if not filler or (named and not field_map.template) else text.replace("{}", filler)


def _with_sentiment(case: EditCase, layout: Layout, both: bool, seed: int) -> list[EditCase]:
    if case.sentiment is not None:
        return [case]
    if layout.sentiment != "hash":
        raise bad_field(_first_path(layout, "sentiment"), None, "positive or negative")
    if both:
        return [replace(case, sentiment=s) for s in CHOICES["sentiment"]]
    digest = hashlib.sha256(f"{seed}:{case.subject.casefold()}".encode()).digest()
    return [replace(case, sentiment=CHOICES["sentiment"][digest[0] % 2])]


def _with_probes(case: EditCase, record: Record, layout: Layout) -> EditCase:
    probes = [probe for probe_map in layout.probes for probe in read_probes(case, record, probe_map)]
    return replace(case, probes=tuple(probes))
