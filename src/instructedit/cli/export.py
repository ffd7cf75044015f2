"""`instructedit export`: an edit as a LoRA folder or as a merged model, loaded back and compared."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from instructedit.cli.keeping import check_folder
from instructedit.cli.loading import load_model
from instructedit.cli.options import COMMON, MODEL, Common, ModelChoice, Switch
from instructedit.cli.report import Report, make_facts


def export_edit(
    edit: Annotated[Path, Parameter(help="A LoRA folder that `edit --out` wrote, or a delta file.")],
    /,
    *,
    to: Annotated[
        Literal["lora", "merged"], Parameter(help="A PEFT folder, or the whole edited model.")
    ] = "lora",
    out: Annotated[Path, Parameter(help="Folder to write.")],
    rank: Annotated[int | None, Parameter(help="Cut every layer's LoRA to this rank.")] = None,
    force: Annotated[Switch, Parameter(help="Replace the folder if it exists.")] = False,
    model: ModelChoice = MODEL,
    common: Common = COMMON,
) -> Report:
    """Write an edit in a form that other programs load, load it back, and check that the logits agree."""
    from instructedit.cli.stored import read_edit, read_record
    from instructedit.export import save_lora, save_merged

    check_folder(out, force=force)
    delta = read_edit(edit)
    base, cases = read_record(edit)
    choice = replace(model, model=base) if base and model.model == MODEL.model else model
    if common.dry_run:
        plan = {"edit": str(edit), "model": choice.model, "to": to, "out": str(out), "layers": len(delta.a)}
        return Report(plan, [make_facts("Would export", plan)])
    backbone = load_model(choice)
    if to == "lora":
        written = save_lora(delta, out, backbone, rank=rank, cases=cases, force=force)
    else:
        written = save_merged(delta, out, backbone, cases=cases, force=force)
    data = {
        "folder": str(written.folder),
        "to": to,
        "logit_difference": written.difference,
        "rank_cut_difference": written.approximation,
        "energy_kept": written.energy,
        "largest_rank": max(written.ranks.values()),
    }
    return Report(data, [make_facts("Written and loaded back", data)])
