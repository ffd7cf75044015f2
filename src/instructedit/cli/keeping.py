"""Writing what a command made: whole, or not at all."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from instructedit.errors import OutputError
from instructedit.storage import FORCED, STORE, check_place, read_json
from instructedit.types import EditCase

if TYPE_CHECKING:
    from instructedit.backbone import Backbone
    from instructedit.delta import LowRankDelta

LORA = "a LoRA folder, which is loaded back to check it,"  # what needs the extra `export`
RECORD = "instructedit.json"  # beside every exported edit
RESULTS = {  # what marks a folder written here: a JSON file, fields in it, and a file beside it
    RECORD: (("version", "base_checksum", "edits"), "README.md"),
    "summary.json": (("tasks",), "rows.parquet"),
    "numbers.json": (("tasks", "rows", "turns"), "vectors.safetensors"),
}


def check_folder(path: Path | None, *, force: bool, hint: str = FORCED) -> None:
    """Refuse a folder that cannot be written, before any work is done.

    Errors: `OutputError` as `check_place`; for a file, or a place where nothing may be written; and with
    `force` for a folder that no command here has written.
    """
    if path is None:
        return
    if force and path.exists() and not (path / STORE).exists():
        _check_result(path, path)  # before a store is looked for in all that it holds
    there = check_place(path, force=force, hint=hint)
    _check_around(path)
    if there is not None:
        _check_result(there, path)


def _check_result(there: Path, path: Path) -> None:
    if not there.is_dir():
        raise OutputError(f"{path} is a file, and a folder is to be written. Choose another place.")
    if any(there.iterdir()) and not _is_result(there):
        raise OutputError(
            f"{path} holds something else than a result of this program (none of {', '.join(RESULTS)}, as "
            "its commands write them), so --force does not replace it. Choose another folder, or remove it "
            "yourself."
        )


def check_file(path: Path | None, *, force: bool) -> None:
    """Refuse a file that cannot be written, before any work is done.

    Errors: `OutputError` as `check_place`; for a folder, or a place where nothing may be written.
    """
    if path is None:
        return
    if path.is_dir():
        raise OutputError(f"{path} is a folder, and a file is to be written. Name another place.")
    check_place(path, force=force)
    _check_around(path)


def _check_around(path: Path) -> None:
    """See that something may be made in the folder around `path`, or in the first one above that is there."""
    around = next((folder for folder in path.absolute().parents if folder.exists()), path)
    if not around.is_dir():
        raise OutputError(f"cannot write {path}: {around} is a file. Choose another place.")
    if not os.access(around, os.W_OK | os.X_OK):
        raise OutputError(
            f"cannot write {path}: writing in {around} is not allowed. Choose another place, or let it be "
            "written to."
        )


def _is_result(folder: Path) -> bool:
    """Whether a command here has written it: one result, or numbered folders with an edit each."""
    if any(_is_marked(folder, name) for name in RESULTS):
        return True
    parts = list(folder.iterdir())
    return all(re.fullmatch(r"[0-9]{4,}", part.name) and _is_marked(part, RECORD) for part in parts)


def _is_marked(folder: Path, name: str) -> bool:
    fields, beside = RESULTS[name]
    if not (folder / beside).is_file():
        return False
    try:
        found = read_json(folder / name)
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and all(field in found for field in fields)


def keep_edits(
    out: Path | None,
    backbone: "Backbone",
    delta: "LowRankDelta",
    cases: Sequence[EditCase],
    instructions: Sequence[str],
    *,
    force: bool,
) -> dict[Path, float]:
    """Write a delta as a LoRA folder, or each of its edits as one; by folder, what its cut of ranks cost.

    That is the largest difference of a logit, as `ExportReport.approximation`.
    Errors: `OutputError` as `save_lora`.
    """
    from instructedit.export import save_lora
    from instructedit.storage import new_folder

    if out is None:
        return {}
    made = [replace(case, instruction=words) for case, words in zip(cases, instructions, strict=True)]
    if len(delta) == 1:
        return {out: save_lora(delta, out, backbone, cases=made, force=force).approximation}
    names = [f"{number:04d}" for number in range(1, len(made) + 1)]
    kept = {}
    with new_folder(out, force=force) as place:
        for index, name in enumerate(names):
            written = save_lora(delta[index], place / name, backbone, cases=made[index : index + 1])
            kept[out / name] = written.approximation
    return kept
