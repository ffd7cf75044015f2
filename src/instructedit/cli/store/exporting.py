"""`instructedit store export`: the edits in force as one LoRA folder, or as a file of requests."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from instructedit.cli.keeping import check_folder
from instructedit.cli.options import COMMON, MODEL, Common, ModelChoice, Switch
from instructedit.cli.report import Report, make_facts
from instructedit.cli.store.options import STORE, StoreChoice
from instructedit.errors import OutputError

if TYPE_CHECKING:
    from instructedit.ledger.store import Store


def export_store(
    *,
    out: Annotated[Path, Parameter(help="Folder or file to write.")],
    to: Annotated[
        Literal["lora", "jsonl"], Parameter(help="A PEFT folder, or the requests, one a line.")
    ] = "lora",
    rank: Annotated[int | None, Parameter(help="Cut every layer's LoRA to this rank.")] = None,
    force: Annotated[Switch, Parameter(help="Replace what is there.")] = False,
    store: StoreChoice = STORE,
    model: ModelChoice = MODEL,
    common: Common = COMMON,
) -> Report:
    """Write the edits in force: for peft, loaded back and compared, or for another store."""
    from instructedit.ledger.requests import write_requests
    from instructedit.ledger.store import Store

    check_folder(out, force=force)
    kept = Store(store.store)
    _keep_apart(out.resolve(), kept.folder.resolve())
    plan: dict[str, Any] = {"out": str(out), "to": to, "edits": len(kept.in_force)}
    if common.dry_run:
        return Report(plan, [make_facts("Would write", plan)])
    if to == "lora":
        plan |= _write_lora(kept, out, model, rank=rank, force=force)
    else:
        write_requests(kept, out)
    return Report(plan, [make_facts("Written", plan)])


def _keep_apart(out: Path, folder: Path) -> None:
    """Refuse to write over a store, or into it."""
    if out == folder or out in folder.parents or folder in out.parents:
        raise OutputError(f"{out} is, holds or lies in the store {folder}. Choose a place outside of it.")


def _write_lora(
    store: "Store", out: Path, model: ModelChoice, *, rank: int | None, force: bool
) -> dict[str, float]:
    from instructedit.cli.store.opening import load_store_pair
    from instructedit.export import save_lora
    from instructedit.ledger.adding import solve_entries

    backbone, editor = load_store_pair(store, model)
    entries = store.in_force
    delta = solve_entries(store, backbone, editor, entries)
    written = save_lora(delta, out, backbone, rank=rank, cases=[e.case for e in entries], force=force)
    ranks = max(written.ranks.values())
    return {"logit_difference": written.difference, "energy_kept": written.energy, "largest_rank": ranks}
