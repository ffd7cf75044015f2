"""What lies beside an exported edit: which edits it holds, and how to load it."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from instructedit.backbone import Backbone
from instructedit.storage import write_atomic, write_json
from instructedit.types import EditCase

RECORD_FILE = "instructedit.json"


def write_record(
    folder: Path,
    backbone: Backbone,
    cases: Sequence[EditCase],
    usage: str,
    details: Mapping[str, Any],
    *,
    language: str = "python",
) -> None:
    """Write ``instructedit.json`` (edits, base model, ranks) and a README.md on loading the folder.

    `usage` is code in `language`.
    """
    edits = [_edit(case) for case in cases]
    base = {"base_model": backbone.name, "base_checksum": backbone.checksum}
    start = list(backbone.start_ids)
    write_json(
        folder / RECORD_FILE,
        {"version": version("instructedit"), **base, "start_ids": start, **details, "edits": edits},
    )
    write_atomic(folder / "README.md", _readme(backbone, edits, f"```{language}\n{usage}\n```"))


def base_path(backbone: Backbone) -> str:
    """Where the base model can be loaded from: a folder or a hub id."""
    return str(getattr(backbone.model, "name_or_path", "") or backbone.name)


def _edit(case: EditCase) -> dict[str, str]:
    fields = {"prompt": case.prompt, "target_new": case.target_new, "subject": case.subject}
    fields |= {"kind": case.kind, "scope": case.scope, "sentiment": case.sentiment or ""}
    fields |= {"instruction": case.instruction, "case_id": case.case_id}
    return {name: value for name, value in fields.items() if value}


def _readme(backbone: Backbone, edits: Sequence[Mapping[str, str]], usage: str) -> str:
    rows = [
        f"| {_cell(edit.get('prompt', ''))} | {_cell(edit.get('target_new', ''))} | {edit['kind']} |"
        for edit in edits
    ]
    table = ["| prompt | new answer | kind |", "|---|---|---|", *rows] if rows else ["Not recorded."]
    start = backbone.tokenizer.convert_ids_to_tokens(list(backbone.start_ids))
    opening = f"Texts begin with `{start[0]}`: put it in front of a prompt." if start else ""
    lines = [
        "# An edited language model",
        "",
        f"Made by instructedit {version('instructedit')} for `{backbone.name}`",
        "",
    ]
    lines[2] += f" (weights' checksum `{backbone.checksum[:16]}`). {opening}".rstrip()
    return "\n".join([*lines, usage, "", "## The edits", "", *table, ""])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
