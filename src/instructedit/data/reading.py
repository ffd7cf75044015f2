"""Files of records become lists of edits."""

import json
import random
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from instructedit.data.fields import Record
from instructedit.data.layouts import OtherTopics, choose_layout, named_layouts
from instructedit.data.records import build_cases
from instructedit.errors import DataError, one_line
from instructedit.types import EditCase, Probe

SKIP_HINT = (
    "Correct the record, or take it out; commands with --skip-bad, and skip_bad=True in Python, leave such "
    "records out themselves."
)


class SkippedRecords(UserWarning):
    """Some records of a file were left out; the message counts and lists them."""


def load_cases(
    path: str | Path,
    task: str = "auto",
    *,
    limit: int | None = None,
    skip_bad: bool = False,
    both: bool = False,
    seed: int = 0,
) -> list[EditCase]:
    """The edits of a JSONL or JSON file, in the file's order; the first `limit` of them.

    `task` names a layout or task; ``auto`` looks at each record's fields. `both` gives two edits for a
    record that holds both sentiments, else a hash of `seed` and subject chooses. Raises DataError with
    file, line, field, what was found and what was expected; with `skip_bad` such records are left out and
    one `SkippedRecords` warning lists them. Raises UnknownNameError for an unknown task.
    """
    if task != "auto":
        named_layouts(task)
    path = Path(path)
    cases: list[EditCase] = []
    others: dict[int, OtherTopics] = {}
    skipped: list[str] = []
    for place, record in read_records(path):
        try:
            layout, role = choose_layout(_check_record(record), task)
            found = build_cases(record, layout, role, both=both, seed=seed)
        except DataError as error:
            if not skip_bad:
                raise DataError(f"{path}, {place}: {error}. {SKIP_HINT}") from None
            skipped.append(f"{place}: {error}")
            continue
        if layout.others:
            others.update({len(cases) + offset: layout.others for offset in range(len(found))})
        cases += [_with_id(case, path.stem, place, many=len(found) > 1) for case in found]
    _report_skipped(path, skipped)
    if not cases:
        raise DataError(
            f"{path}: found no usable record, expected one JSON object a line, or a JSON list of them"
        )
    return _add_other_topics(cases, others, seed, limit)


def case_from_request(record: dict[str, Any], task: str = "auto") -> EditCase:
    """One edit from a user's own request, ``{"prompt": ..., "target_new": ...}`` or any known layout."""
    try:
        layout, role = choose_layout(_check_record(record), task)
        return build_cases(record, layout, role)[0]
    except DataError as error:
        raise DataError(f"request, {error}") from None


def _check_record(record: Any) -> Record:
    if isinstance(record, ValueError):
        raise DataError(f"no JSON: {one_line(record)}")
    if not isinstance(record, dict):
        raise DataError(f"record: found {type(record).__name__}, expected a JSON object with named fields")
    return record


def _with_id(case: EditCase, stem: str, place: str, many: bool) -> EditCase:
    name = case.case_id or f"{stem}:{place.split()[-1]}"
    return replace(case, case_id=f"{name}:{case.sentiment}" if many else name)


def _report_skipped(path: Path, skipped: Sequence[str]) -> None:
    if skipped:
        message = f"{path}: {len(skipped)} broken record(s) left out\n  " + "\n  ".join(skipped)
        warnings.warn(message, SkippedRecords, stacklevel=3)


def read_records(path: Path) -> list[tuple[str, Any]]:
    """Each record with its place; a line that is no JSON stands as its error until it is looked at."""
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}), expected a JSONL or JSON file") from None
    except UnicodeDecodeError:
        raise DataError(
            f"{path}: found bytes that are not UTF-8, expected a text file of JSON records"
        ) from None
    lines = [(f"line {n}", _parse(line)) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if len(lines) > 1 and all(isinstance(record, dict) for _, record in lines):
        return lines
    whole = _parse(text)
    if isinstance(whole, list):
        return [(f"record {number}", record) for number, record in enumerate(whole, 1)]
    if isinstance(whole, dict):
        return [("record 1", whole)]
    return [("file", whole)] if lines and text.lstrip().startswith("[") else lines


def _parse(text: str) -> Any:
    """What a text holds, or why it is no JSON: a number too long for Python and endless nesting too."""
    try:
        return json.loads(text)
    except ValueError as error:
        return error
    except RecursionError:
        return ValueError("nested too deeply")


def _add_other_topics(
    cases: Sequence[EditCase], others: dict[int, OtherTopics], seed: int, limit: int | None
) -> list[EditCase]:
    """The first `limit` edits; those in `others` get locality probes: questions about other topics of the
    file, with a reply of each."""
    pool = {cases[index].subject.casefold(): cases[index] for index in others}
    topics, place_of = list(pool.values()), {key: place for place, key in enumerate(pool)}
    filled = list(cases[:limit])
    for index, case in enumerate(filled):
        if (spec := others.get(index)) is None:
            continue
        rng, own = random.Random(f"{seed}:{case.case_id}"), place_of[case.subject.casefold()]
        rest = range(len(topics) - 1)  # all topics but its own, which the drawn ones step over
        drawn = rng.sample(rest, min(spec.count, len(rest)))
        chosen = [topics[place + (place >= own)] for place in drawn]
        probes = tuple(
            Probe(
                spec.group,
                spec.text.replace("{subject}", topic.subject),
                (rng.choice(topic.positive + topic.negative),),
                spec.name,
            )
            for topic in chosen
        )
        filled[index] = replace(case, probes=case.probes + probes)
    return filled
