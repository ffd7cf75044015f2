"""One record and a layout become edits."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any, get_args

from instructedit.data.fields import (
    Record,
    as_question,
    bad_field,
    find,
    find_first,
    read_answers,
    read_text,
    read_texts,
    strip_number,
)
from instructedit.data.layouts import FieldMap, Layout, ProbeMap
from instructedit.types import EditCase, Kind, Probe, ProbeGroup, Scope, Sentiment

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
    record["probes"] = [asdict(probe) for probe in case.probes]
    return {key: value for key, value in record.items() if value not in ("", None, ()) or key == "probes"}


def _read_fields(record: Record, layout: Layout) -> dict[str, Any]:
    subject = _read_field(record, layout, "subject", "")
    fields = {key: _read_field(record, layout, key, subject) for key in layout.fields}
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
    text = read_text(value, path)
    if not text:
        return field_map.text.replace("{subject}", subject)
    if field_map.fill and "{}" in text:
        filler = read_text(find(record, field_map.fill), field_map.fill)
        if not filler:
            raise bad_field(field_map.fill, filler, f"a subject to fill the gap in {text!r}")
        text = text.replace("{}", filler)
    return text


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
    probes = [probe for probe_map in layout.probes for probe in _read_probes(case, record, probe_map)]
    return replace(case, probes=tuple(probes))


def _read_probes(case: EditCase, record: Record, probe_map: ProbeMap) -> list[Probe]:
    if probe_map.nested:
        return list(_nested_probes(record, probe_map))
    if probe_map.listed:
        return list(_listed_probes(record, probe_map.listed))
    prompts = [text.replace("{subject}", case.subject) for text in probe_map.text]
    for path in probe_map.prompts:
        prompts += [_tidy(text, probe_map) for text in read_texts(find(record, path), path)]
    answers = (case.wanted,) if case.wanted else ()
    if probe_map.answers:
        answers = read_answers(find(record, probe_map.answers), probe_map.answers)
        prompts = prompts if answers else []
    prompts = [prompt for prompt in prompts if prompt][: probe_map.take]
    return [Probe(probe_map.group, prompt, answers, probe_map.name) for prompt in prompts]


def _tidy(prompt: str, probe_map: ProbeMap) -> str:
    if probe_map.unnumber:
        prompt = strip_number(prompt)
    if probe_map.question:
        return as_question(prompt, probe_map.strip_prefix)
    return prompt.removeprefix(probe_map.strip_prefix).strip()


def _nested_probes(record: Record, probe_map: ProbeMap) -> Iterator[Probe]:
    """KnowEdit's ``{name: [{prompt, ground_truth}]}`` and EasyEdit's ``{name: {prompt, ground_truth}}``."""
    groups = find(record, probe_map.nested) or {}
    if not isinstance(groups, dict):
        raise bad_field(probe_map.nested, groups, "an object of named probe groups")
    for name, entries in groups.items():
        if name in probe_map.without or (probe_map.only and name not in probe_map.only):
            continue
        field = f"{probe_map.nested}.{name}"
        for entry in entries if isinstance(entries, list) else [entries]:
            for prompt, answers in _read_entry(entry, field):
                yield Probe(probe_map.group, prompt, answers, name)


def _read_entry(entry: Any, field: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Prompts and answers of one entry; entries without a prompt's text or an answer are left out."""
    if not isinstance(entry, dict) or "prompt" not in entry:
        raise bad_field(field, entry, "an object with prompt and ground_truth")
    truth = entry.get("ground_truth")
    if isinstance(entry["prompt"], list):
        prompts = read_texts(entry["prompt"], f"{field}.prompt")
        truths = truth if isinstance(truth, list) else [truth] * len(prompts)
        if len(truths) != len(prompts):
            raise bad_field(f"{field}.ground_truth", truth, f"one answer for each of {len(prompts)} prompts")
    else:
        prompts, truths = [read_text(entry["prompt"], f"{field}.prompt")], [truth]
    for prompt, answer in zip(prompts, truths, strict=True):
        answers = read_answers(answer, f"{field}.ground_truth")
        if prompt and answers:
            yield prompt, answers


def _listed_probes(record: Record, field: str) -> Iterator[Probe]:
    for entry in record[field]:
        group = entry.get("group") if isinstance(entry, dict) else None
        if group not in get_args(ProbeGroup):
            raise bad_field(
                field, entry, f"objects with prompt, answers and group ({', '.join(get_args(ProbeGroup))})"
            )
        answers = read_answers(entry.get("answers"), f"{field}.answers")
        yield Probe(
            group, read_text(entry.get("prompt"), f"{field}.prompt"), answers, str(entry.get("name", ""))
        )
