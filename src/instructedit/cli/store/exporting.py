"""`instructedit store export`: the edits in force as one LoRA folder, or as a file of requests."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from instructedit.cli.cut import Energy, Rank, cut_options
from instructedit.cli.keeping import LORA, check_file, check_folder
from instructedit.cli.options import COMMON, MODEL, Common, ModelChoice, Switch
from instructedit.cli.report import Report, make_facts
from instructedit.cli.store.options import STORE, StoreChoice
from instructedit.errors import DataError, OutputError
from instructedit.extras import require

if TYPE_CHECKING:
    from instructedit.ledger.store import Store

NO_RANK = "writes the requests, which have no rank to cut"


def export_store(
    *,
    out: Annotated[Path, Parameter(help="Folder or file to write.")],
    to: Annotated[
        Literal["lora", "jsonl"], Parameter(help="A PEFT folder, or the requests, one a line.")
    ] = "lora",
    rank: Rank = None,
    energy: Energy = None,
    force: Annotated[Switch, Parameter(help="Replace what is there.")] = False,
    store: StoreChoice = STORE,
    model: ModelChoice = MODEL,
    common: Common = COMMON,
) -> Report:
    """Write the edits in force: for peft, loaded back and compared, or for another store."""
    from instructedit.ledger.requests import write_requests
    from instructedit.ledger.store import Store

    _check_out(out, to, force=force)
    cut = cut_options(to, ("lora",), NO_RANK, rank, energy)
    kept = Store(store.store)
    _keep_apart(out.resolve(), kept.folder.resolve())
    plan: dict[str, Any] = {"out": str(out), "to": to, "edits": len(kept.in_force)}
    if common.dry_run:
        return Report(plan, [make_facts("Would write", plan)])
    if to == "lora":
        if not kept.in_force:
            raise DataError(f"no edit is in force in {kept.folder}. Make one, or put one back (store redo).")
        plan |= _write_lora(kept, out, model, force=force, **cut)
    else:
        write_requests(kept, out)
    return Report(plan, [make_facts("Written", plan)])


def _check_out(out: Path, to: str, *, force: bool) -> None:
    """Find what would fail once the work is done.

    Errors: `OutputError` as `check_folder` and `check_file`, or without peft for a LoRA folder.
    """
    if to != "lora":
        check_file(out, force=force)
        return
    check_folder(out, force=force)
    require("export", LORA)


def _keep_apart(out: Path, folder: Path) -> None:
    """Refuse to write over a store, or into it."""
    if out == folder or out in folder.parents or folder in out.parents:
        raise OutputError(f"{out} is, holds or lies in the store {folder}. Choose a place outside of it.")


def _write_lora(store: "Store", out: Path, model: ModelChoice, **options: Any) -> dict[str, float]:
    """Solve the edits in force and write them; what the comparison and the cut of ranks came to."""
    from instructedit.cli.store.opening import load_store_pair
    from instructedit.export import save_lora
    from instructedit.ledger.adding import solve_entries

    backbone, editor = load_store_pair(store, model)
    entries = store.in_force
    delta = solve_entries(store, backbone, editor, entries)
    written = save_lora(delta, out, backbone, cases=[entry.case for entry in entries], **options)
    return {
        "logit_difference": written.difference,
        "rank_cut_difference": written.approximation,
        "energy_kept": written.energy,
        "largest_rank": max(written.ranks.values()),
    }
