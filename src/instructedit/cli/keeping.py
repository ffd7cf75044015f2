"""Writing what a command made: whole, or not at all."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from instructedit.errors import OutputError
from instructedit.storage import check_place
from instructedit.types import EditCase

if TYPE_CHECKING:
    from instructedit.backbone import Backbone
    from instructedit.delta import LowRankDelta

RESULTS = (
    "instructedit.json",
    "0001/instructedit.json",
    "summary.json",
    "numbers.json",
)  # one marks a folder


def check_folder(path: Path | None, *, force: bool) -> None:
    """Refuse a folder that exists before any work is done.

    Errors: `OutputError` as `check_place`, and with `force` for a folder that no command here has written.
    """
    if path is None:
        return
    check_place(path, force=force)
    if path.is_dir() and any(path.iterdir()) and not any((path / name).is_file() for name in RESULTS):
        raise OutputError(
            f"{path} holds something else than a result of this program (none of {', '.join(RESULTS)}), so "
            "--force does not replace it. Choose another folder, or remove it yourself."
        )


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
