"""The probes of one record: every form in which the published layouts write them."""

from collections.abc import Iterator, Sequence
from typing import Any, get_args

from instructedit.data.fields import (
    Record,
    as_question,
    bad_field,
    find,
    read_answers,
    read_prompt,
    read_prompts,
    read_text,
    strip_number,
    strip_prompt,
)
from instructedit.data.layouts import ProbeMap
from instructedit.types import EditCase, Probe, ProbeGroup


def read_probes(case: EditCase, record: Record, probe_map: ProbeMap) -> list[Probe]:
    """The probes that one probe map finds in a record of an edit; DataError names the field.

    Probes without a prompt's text are left out, and so are those whose answers the record should name and
    does not; a probe of locality is asked without any, where the record names none.
    """
    if probe_map.nested:
        return list(_nested_probes(record, probe_map))
    if probe_map.listed:
        return list(_listed_probes(record, probe_map.listed))
    prompts = [text.replace("{subject}", case.subject) for text in probe_map.text]
    for path in probe_map.prompts:
        prompts += [_tidy(text, probe_map) for text in read_prompts(find(record, path), path)]
    prompts = [prompt for prompt in prompts if prompt][: probe_map.take]
    if not probe_map.answers:
        return [Probe(probe_map.group, prompt, _wanted(case, prompt), probe_map.name) for prompt in prompts]
    told = find(record, probe_map.answers)
    answers = read_answers(told, probe_map.answers)
    asked = prompts if _is_whole(probe_map, answers, told) else []
    return [Probe(probe_map.group, prompt, answers, probe_map.name) for prompt in asked]


def _is_whole(probe_map: ProbeMap, answers: Sequence[str], told: Any) -> bool:
    """Whether a probe can be asked: one of locality needs no answer, and may name none."""
    return bool(answers) or (told is None and probe_map.group == "locality")


def _wanted(case: EditCase, prompt: str) -> tuple[str, ...]:
    """The answer an edit wants to another wording: an erasure's depends on the wording's form."""
    wanted = case.wanted_for(prompt)
    return (wanted,) if wanted else ()


def _tidy(prompt: str, probe_map: ProbeMap) -> str:
    if probe_map.unnumber:
        prompt = strip_number(prompt)
    if probe_map.question:
        return as_question(prompt, probe_map.strip_prefix)
    return strip_prompt(prompt.removeprefix(probe_map.strip_prefix))


def _nested_probes(record: Record, probe_map: ProbeMap) -> Iterator[Probe]:
    """KnowEdit's ``{name: [{prompt, ground_truth}]}`` and EasyEdit's ``{name: {prompt, ground_truth}}``."""
    groups = find(record, probe_map.nested) or {}
    if not isinstance(groups, dict):
        raise bad_field(probe_map.nested, groups, "an object of named probe groups")
    for name, entries in groups.items():
        if name in probe_map.without or (probe_map.only and name not in probe_map.only):
            continue
        field = f"{probe_map.nested}.{name}"
        for entry in entries if isinstance(entries, list) else [entries] if entries else []:
            for prompt, answers in _read_entry(entry, field, probe_map):
                yield Probe(probe_map.group, prompt, answers, name)


def _read_entry(entry: Any, field: str, probe_map: ProbeMap) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Prompts and answers of one entry; those without a prompt's text or an answer are left out."""
    if not isinstance(entry, dict) or "prompt" not in entry:
        raise bad_field(field, entry, "an object with prompt and ground_truth")
    truth = entry.get("ground_truth")
    prompts = read_prompts(entry["prompt"], f"{field}.prompt")
    truths = truth if len(prompts) > 1 and isinstance(truth, list) else [truth] * len(prompts)
    if len(truths) != len(prompts):
        raise bad_field(f"{field}.ground_truth", truth, f"one answer for each of {len(prompts)} prompts")
    for prompt, answer in zip(prompts, truths, strict=True):
        answers = read_answers(answer, f"{field}.ground_truth")
        if prompt and _is_whole(probe_map, answers, answer):
            yield prompt, answers


def _listed_probes(record: Record, field: str) -> Iterator[Probe]:
    for entry in read_objects(record[field], field):
        group = next((group for group in get_args(ProbeGroup) if group == entry.get("group")), None)
        if group is None:
            raise bad_field(f"{field}.group", entry.get("group"), " or ".join(get_args(ProbeGroup)))
        answers = read_answers(entry.get("answers"), f"{field}.answers")
        name = read_text(entry.get("name"), f"{field}.name")
        yield Probe(group, read_prompt(entry.get("prompt"), f"{field}.prompt"), answers, name)


def read_objects(value: Any, field: str) -> list[Record]:
    """A list of JSON objects as it stands, or DataError."""
    if not isinstance(value, (list, tuple)):
        raise bad_field(field, value, "a list of objects")
    for entry in value:
        if not isinstance(entry, dict):
            raise bad_field(field, entry, "an object")
    return list(value)
