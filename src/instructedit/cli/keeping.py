"""Writing what a command made: whole, or not at all."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from instructedit.errors import OutputError
from instructedit.types import EditCase

if TYPE_CHECKING:
    from instructedit.backbone import Backbone
    from instructedit.delta import LowRankDelta


def check_folder(path: Path | None, *, force: bool) -> None:
    """Refuse a folder that exists before any work is done.

    Errors: `OutputError` when it exists and `force` is not given.
    """
    if path is not None and path.exists() and not force:
        raise OutputError(f"{path} exists already. Choose another folder, or pass --force to replace it.")


def keep_edits(
    out: Path | None,
    backbone: "Backbone",
    delta: "LowRankDelta",
    cases: Sequence[EditCase],
    instructions: Sequence[str],
    *,
    force: bool,
) -> list[Path]:
    """Write a delta as a LoRA folder, or each of its edits as one; return the folders.

    Errors: `OutputError` as `save_lora`.
    """
    from instructedit.export import save_lora
    from instructedit.storage import new_folder

    if out is None:
        return []
    made = [replace(case, instruction=words) for case, words in zip(cases, instructions, strict=True)]
    if len(delta) == 1:
        save_lora(delta, out, backbone, cases=made, force=force)
        return [out]
    names = [f"{number:04d}" for number in range(1, len(made) + 1)]
    with new_folder(out, force=force) as place:
        for index, name in enumerate(names):
            save_lora(delta[index], place / name, backbone, cases=made[index : index + 1])
    return [out / name for name in names]
