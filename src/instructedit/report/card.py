"""The model card of an editor file: from its header, its scores, and what the header does not know."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import yaml

from instructedit.errors import DataError, unknown_name
from instructedit.report.scores import Lever, Score
from instructedit.report.tables import format_table, format_tables
from instructedit.storage import read_yaml

UNKNOWN = "not recorded"
OWN_LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class CardFacts:
    """What a card says beside scores and settings; a header may hold the same keys."""

    license: str = "apache-2.0"
    base_model: str = ""  # a hub id, where the header's name says little to others
    command: str = ""
    seconds: float | None = None  # of the whole training, the cache included
    machine: str = ""
    remark: str = ""  # what else a reader has to know of the file's making
    licences: dict[str, str] = field(default_factory=dict)  # data file -> its licence


def read_facts(path: Path | None, header: Mapping[str, Any]) -> CardFacts:
    """The facts in an editor's header, with those of a YAML file on top.

    Errors: `DataError` for a file that is no mapping or a value of the wrong type; `UnknownNameError` for a
    key that does not exist.
    """
    known = [entry.name for entry in fields(CardFacts)]
    own = {name: header[name] for name in known if name in header}
    content = _read_mapping(path) if path else {}
    for key in content:
        if key not in known:
            raise unknown_name(f"fact in {path}", key, known)
    merged: dict[str, Any] = {**own, **content}
    merged |= {"licences": {**own.get("licences", {}), **content.get("licences", {})}}
    seconds = merged.pop("seconds", None)
    texts = {name: str(value) for name, value in merged.items() if name != "licences"}
    licences = {str(name): str(licence) for name, licence in merged["licences"].items()}
    return CardFacts(**texts, seconds=None if seconds is None else float(seconds), licences=licences)


def _read_mapping(path: Path) -> dict[str, Any]:
    content = read_yaml(path, "the facts")
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no facts; expected lines such as 'command: instructedit train ...'.")
    if not isinstance(content.get("licences", {}), dict):
        raise DataError(f"{path}: licences is no mapping; expected 'licences: {{facts.jsonl: MIT}}'.")
    if not isinstance(content.get("seconds", 0), int | float):
        raise DataError(f"{path}: seconds is {content['seconds']!r}; expected a number.")
    return {str(key): value for key, value in content.items()}


def make_card(
    header: Mapping[str, Any], scores: Sequence[Score], levers: Sequence[Lever], facts: CardFacts
) -> str:
    """The card in Markdown with a YAML front matter, from the template beside this file."""
    model = header["model"]
    template = Template((files("instructedit.report") / "card.md").read_text(encoding="utf-8"))
    return template.substitute(
        front=_front_matter(header, facts),
        name=header.get("editor", {}).get("name", "instructedit"),
        base=facts.base_model or model["name"],
        checksum=model["checksum"],
        version=header.get("version", UNKNOWN),
        sites=_sites(header),
        ways=_ways(header),
        start=header.get("start_ids") or "none",
        tasks=_tasks(header),
        data=_data(header, facts),
        training=_training(header, facts),
        scores=format_tables(scores, levers, header.get("tasks")) or "No scores were given.",
        weakest=_weakest(scores),
    )


def _front_matter(header: Mapping[str, Any], facts: CardFacts) -> str:
    model = header["model"]
    front = {
        "license": facts.license,
        "base_model": facts.base_model or model["name"],
        "base_model_sha256": model["checksum"],
        "library_name": "instructedit",
        "tags": ["knowledge-editing", "model-editing", "lora", "hypernetwork"],
        "tasks": sorted(header.get("tasks", {})),
    }
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True).strip()


def _sites(header: Mapping[str, Any]) -> str:
    names = [f"`{site['name']}`" for site in header["sites"]]
    return f"{len(names)}: " + ", ".join(names)


def _ways(header: Mapping[str, Any]) -> str:
    """Rows for what edits are made of beside the pass, where the editor's configuration has it."""
    config = header.get("editor", {})
    gates = config.get("gate", {}).get("wordings")
    stance = ", ".join(f"`{site['name']}`" for site in config.get("stance", {}).get("marks", ()))
    rows = [
        ("Single facts", "gates: neurons of the last block, without the pass" if gates else ""),
        ("Facts that share a model", "neurons of their own" if config.get("neurons", {}).get("each") else ""),
        ("Opinions", f"marks at {stance}, and a voice in later layers" if stance else ""),
    ]
    return "".join(f"| {name} | {how} |\n" for name, how in rows if how)


def _tasks(header: Mapping[str, Any]) -> str:
    counts = [f"{name} ({count:,})" for name, count in header.get("tasks", {}).items()]
    return ", ".join(counts) or UNKNOWN


def _data(header: Mapping[str, Any], facts: CardFacts) -> str:
    """One row a data file: its licence and its checksum, which the header keeps."""
    rows = [
        [name, facts.licences.get(name, UNKNOWN), f"`{checksum}`"]
        for name, checksum in header.get("data", {}).items()
    ]
    if header.get("own_data"):
        rows.append(["the project's own facts, `instructedit data make`", OWN_LICENCE, "in the package"])
    return format_table(["File", "Licence", "SHA-256"], rows) or f"The data are {UNKNOWN}."


def _training(header: Mapping[str, Any], facts: CardFacts) -> str:
    config = header.get("config", {})
    seconds = UNKNOWN if facts.seconds is None else f"{facts.seconds / 60:.0f} minutes"
    score = header.get("validation", {}).get("score")
    rows = [
        ["Command", f"`{facts.command}`" if facts.command else UNKNOWN],
        ["Seed", header.get("seed", UNKNOWN)],
        [
            "Steps",
            f"{header.get('step', UNKNOWN)} of {config.get('steps', UNKNOWN)}",
        ],
        ["Edits a step", config.get("batch", UNKNOWN)],
        ["Validation score", UNKNOWN if score is None else f"{100 * score:.1f}"],
        ["Time", seconds],
        ["Machine", facts.machine or UNKNOWN],
        *_teaching(header),
        *([["Remark", facts.remark]] if facts.remark else []),
    ]
    return format_table(["", ""], [[name, str(value)] for name, value in rows])


def _teaching(header: Mapping[str, Any]) -> list[list[str]]:
    """How opinions, kinds and scopes were taught, where they were."""
    stance, read, rows = header.get("stance", {}), header.get("told", {}), []
    if stance:
        told = f"{stance['config']['steps']} steps on {stance['topics']} topics, seed {stance['seed']}"
        rows.append(["Opinions", told])
    if read:
        shares = ", ".join(f"{side} {100 * right:.0f} %" for side, right in read["validation"].items())
        taught = f"wordings of the banks and of people, seed {read['seed']}"
        rows.append(["Reading", f"{taught}; of unseen ones are read right: {shares}"])
    return rows


def _weakest(scores: Sequence[Score]) -> str:
    """The lowest measured value of each measure, so that a card names its own weak spots."""
    lowest: dict[str, Score] = {}
    for score in scores:
        if score.measure not in lowest or score.edited < lowest[score.measure].edited:
            lowest[score.measure] = score
    lines = [
        f"- {measure.replace('_', ' ')}: {100 * score.edited:.1f} % on {score.dataset}"
        for measure, score in lowest.items()
    ]
    return "\n".join(lines) or "- nothing was measured"
