"""`instructedit instructions make`: wordings written by a language model and chosen by an editor's scores."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from instructedit.cli.data_files import read_cases
from instructedit.cli.making import (
    LOOP,
    WRITING,
    Loop,
    Writing,
    choose_trial,
    connect,
    describe_settings,
    load_local_writer,
)
from instructedit.cli.options import COMMON, Common, Sample
from instructedit.cli.report import Report, make_table
from instructedit.cli.train_options import TRAIN_MODEL, TRAIN_SAMPLE, TrainModel, TrainSample
from instructedit.errors import OutputError
from instructedit.types import EditCase, Kind

if TYPE_CHECKING:
    from rich.table import Table

    from instructedit.instructions.banks import Bank
    from instructedit.making import Making, MakingConfig, Records, Score

BANK, CHECK, CACHE = "bank.yaml", "check.json", "prefix-cache"


def make_instructions(
    task: str,
    /,
    *,
    loop: Loop = LOOP,
    writing: Writing = WRITING,
    model: TrainModel = TRAIN_MODEL,
    sample: TrainSample = TRAIN_SAMPLE,
    common: Common = COMMON,
) -> Report:
    """Let a language model describe a task, score each description by edits, and keep the best as a bank.

    The scores go back to the writer until they stop rising. --dry-run shows the first request.

    Parameters
    ----------
    task
        Name of the task; see `instructedit ls tasks`.
    """
    from instructedit.data.layouts import named_layouts
    from instructedit.making import MakingConfig, prepare_cases, split_records

    kind, seed = named_layouts(task)[0].kind, sample.plain().seed
    names = {field.name for field in fields(MakingConfig)} & {field.name for field in fields(loop)}
    config = MakingConfig(**{name: getattr(loop, name) for name in names}, seed=seed)
    cases = prepare_cases(_read(task, kind, loop, sample.plain()), task, kind)
    records = split_records(cases, config)
    if common.dry_run:
        return _plan(kind, config, records)
    if loop.out is None:
        raise OutputError("no folder was named. Expected --out FOLDER.")
    making = _set_up(task, kind, config, records, loop, writing, model, sample)
    return _finish(making, loop.out)


def _read(task: str, kind: Kind, loop: Loop, sample: Sample) -> list[EditCase]:
    from instructedit.data import plain_facts

    if loop.data:
        return read_cases(loop.data, task, sample, skip_bad=loop.skip_bad)
    own = [case for case in plain_facts("train", seed=sample.seed) if case.kind == kind]
    return own[: sample.limit]


def _plan(kind: Kind, config: "MakingConfig", records: "Records") -> Report:
    from rich.text import Text

    from instructedit.making.prompt import Brief
    from instructedit.making.rules import Rules

    brief = Brief(kind, records.shown, Rules.for_cases(kind, records.shown), config.candidates)
    messages = brief.ask({})
    edits = config.candidates * len(records.validation)
    data = {
        "edits_a_round": edits,
        "rounds": config.rounds,
        "check": len(records.check),
        "messages": messages,
    }
    head = f"Would make up to {edits} edits a round, {config.rounds} rounds at the most. The first request:\n"
    return Report(data, [head, Text(messages[0]["content"])])


def _set_up(
    task: str,
    kind: Kind,
    config: "MakingConfig",
    records: "Records",
    loop: Loop,
    writing: Writing,
    model: TrainModel,
    sample: TrainSample,
) -> "Making":
    """The making, with the server's address looked at before any model is loaded."""
    from instructedit.backbone import PrefixCache
    from instructedit.making import Examiner, Making, open_trace

    assert loop.out is not None
    server = connect(writing) if writing.url else None
    settings = describe_settings(task, config, records, loop, writing, model.plain())
    trace = open_trace(loop.out, settings)
    backbone, trial = choose_trial(records, loop, model, sample)
    writer = server or load_local_writer(writing, backbone, model.plain())
    trace.save()
    examiner = Examiner(
        backbone, records.validation, loop.batch, config.seed, PrefixCache(loop.out / CACHE, backbone)
    )
    return Making(task, kind, config, records, writer, examiner, trial, trace)


def _finish(making: "Making", out: Path) -> Report:
    from instructedit.instructions.banks import find_bank
    from instructedit.making import write_bank
    from instructedit.storage import write_json

    bank, rounds = making.finish(), making.trace.rounds
    checked = making.check(bank, find_bank(making.task, making.kind))
    remark = f"Written by {making.writer.name}, chosen by an editor's scores on {making.task}."
    write_bank(out / BANK, bank, remark)
    write_json(out / CHECK, {name: asdict(score) for name, score in checked.items()})
    data = {
        "bank": str(out / BANK),
        "rounds": sum(part.finished for part in rounds),
        "best": max(score.value for score in making.trace.scores.values()),
        "wordings": {split: list(texts) for split, texts in bank.wordings.items()},
        "check": {name: asdict(score) for name, score in checked.items()},
    }
    tables = [_show_bank(bank, making.trace.scores), _show_check(checked, len(making.records.check))]
    return Report(data, [*tables, f"The bank is {out / BANK}, the trace is beside it."])


def _show_bank(bank: "Bank", scores: "Mapping[str, Score]") -> "Table":
    rows = [
        (part, round(100 * scores[text].value, 1), text)
        for part, texts in bank.wordings.items()
        for text in texts
    ]
    return make_table("Descriptions, with the score that chose them", ("part", "score", "description"), rows)


def _show_check(checked: "Mapping[str, Score]", cases: int) -> "Table":
    rows = [
        (name, *(None if x is None else round(100 * x, 1) for x in (s.value, s.reliability, s.rephrase)))
        for name, s in checked.items()
    ]
    columns = ("instructions", "score", "reliability", "rephrase")
    return make_table(f"On {cases} records that chose nothing", columns, rows)
