"""`instructedit export`: an edit in a form that other programs load, loaded back and compared."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from instructedit.cli.cut import Energy, Rank, cut_options
from instructedit.cli.keeping import LORA, check_folder
from instructedit.cli.loading import load_model
from instructedit.cli.options import COMMON, MODEL, Common, ModelChoice, Switch
from instructedit.cli.report import Report, make_facts
from instructedit.errors import ModelError
from instructedit.extras import require

if TYPE_CHECKING:
    from instructedit.backbone import Backbone
    from instructedit.cli.stored import Record
    from instructedit.export import ExportReport

Form = Literal["lora", "merged", "gguf", "gguf-merged"]
CUT_FORMS = ("lora", "gguf")
NO_RANK = "adds the whole edit to the weights, so there is no rank to cut"


def export_edit(
    edit: Annotated[Path, Parameter(help="A LoRA folder that `edit --out` wrote, or a delta file.")],
    /,
    *,
    to: Annotated[
        Form,
        Parameter(
            help="A PEFT folder, the whole edited model, a GGUF adapter for llama.cpp, or the GGUF file "
            "that the model came from with the edit in it."
        ),
    ] = "lora",
    out: Annotated[Path, Parameter(help="Folder to write.")],
    rank: Rank = None,
    energy: Energy = None,
    force: Annotated[Switch, Parameter(help="Replace the folder if it exists.")] = False,
    model: ModelChoice = MODEL,
    common: Common = COMMON,
) -> Report:
    """Write an edit in a form that other programs load, load it back, and check that the logits agree."""
    from instructedit import export
    from instructedit.cli.stored import read_edit, read_record

    check_folder(out, force=force)
    if to == "lora":
        require("export", LORA)
    cut = cut_options(to, CUT_FORMS, NO_RANK, rank, energy)
    delta = read_edit(edit)
    record = read_record(edit)
    choice = replace(model, model=record.base) if record.base and model.model == MODEL.model else model
    if common.dry_run:
        plan = {"edit": str(edit), "model": choice.model, "to": to, "out": str(out), "layers": len(delta.a)}
        return Report(plan, [make_facts("Would export", plan)])
    save = {
        "lora": export.save_lora,
        "merged": export.save_merged,
        "gguf": export.save_gguf,
        "gguf-merged": export.save_gguf_merged,
    }[to]
    backbone = _load_base(choice, record, edit)
    return _report(save(delta, out, backbone, cases=record.cases, force=force, **cut), to)


def _load_base(choice: ModelChoice, record: "Record", edit: Path) -> "Backbone":
    """The model that an edit was made for, as far as its record says.

    Errors: `ModelError` when the weights are others; as `load_model`.
    """
    backbone, wanted = load_model(choice), record.checksum
    if wanted is None or wanted == backbone.checksum:
        return backbone
    if choice.dtype == "float16" and wanted == load_model(replace(choice, dtype="float32")).checksum:
        return backbone  # float16 is rounded before it is summed up
    raise ModelError(
        f"{edit} was made for {record.base!r} with the checksum {wanted[:12]}; {choice.model!r} has "
        f"{backbone.checksum[:12]}. Load that model (--model), or make the edit again for this one."
    )


def _report(written: "ExportReport", to: Form) -> Report:
    data = {
        "folder": str(written.folder),
        "to": to,
        "logit_difference": written.difference,
        "rank_cut_difference": written.approximation,
        "energy_kept": written.energy,
        "largest_rank": max(written.ranks.values()),
        "loaded_back_by": list(written.checks),
        "not_tried": list(written.untried),
    }
    shown = {name: "; ".join(value) if isinstance(value, list) else value for name, value in data.items()}
    return Report(data, [make_facts("Written and loaded back", {k: v for k, v in shown.items() if v != ""})])
