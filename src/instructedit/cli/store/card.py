"""`instructedit store card`: one page that says what a store's edits did, to attach to a change request."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from instructedit.cli.data_files import find_text
from instructedit.cli.keeping import check_file
from instructedit.cli.options import COMMON, MODEL, SAMPLE, Common, ModelChoice, Sample, Switch
from instructedit.cli.report import Report, make_table
from instructedit.cli.store.options import STORE, StoreChoice
from instructedit.errors import DataError, OutputError

if TYPE_CHECKING:
    from instructedit.ledger.store import Store
    from instructedit.report.store_card import Measured

CARD_GROUP = Group("Card", sort_key=0)
PASSAGES = 100  # of the text that are asked as probes


@Parameter(name="*", group=CARD_GROUP)
@dataclass(frozen=True)
class Depth:
    """What is measured besides the edits themselves."""

    text: Path | None = None
    """Text file: perplexity before and after, and passages that should not move."""

    tokens: int = 20_000
    """How much of the text counts for the perplexity."""

    tasks: Path | None = None
    """Task of lm-eval (extra eval) whose data are local files: a YAML file, or a folder of them."""

    probes: int = 3
    """Probes of each sort that every edit is asked."""


DEPTH = Depth()


def write_store_card(
    folder: Annotated[Path | None, Parameter(help="The store; left out, as --store.")] = None,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="HTML file to write; left out, nothing is kept.")] = None,
    depth: Depth = DEPTH,
    force: Annotated[Switch, Parameter(help="Replace the file if it exists.")] = False,
    store: StoreChoice = STORE,
    model: ModelChoice = MODEL,
    sample: Sample = SAMPLE,
    common: Common = COMMON,
) -> Report:
    """Measure a store's edits, all in force at once, and write one page about them.

    What was asked and took, what moved that should not have, general ability before and after, and cases
    that failed: every edit, up to 100 other questions, the worst of what moved. The page needs no other
    file. --limit cuts every task of lm-eval. Ends with exit code 0 whatever was found: `store check` is the
    command that fails.
    """
    from instructedit.ledger.store import Store
    from instructedit.report.page import write_html
    from instructedit.report.store_card import make_store_card
    from instructedit.report.store_page import make_store_page
    from instructedit.storage import write_atomic

    kept = Store(folder or store.store)
    _check(kept, out, depth, force=force)
    if common.dry_run:
        edits = len(kept.in_force)
        return Report({"edits": edits, "out": str(out or "")}, [f"Would measure {edits} edits in force."])
    from instructedit.experiment.running import versions

    card = make_store_card(kept, _measure(kept, depth, model, sample), versions())
    if out is not None:
        write_atomic(out, write_html(make_store_page(card)))
    where = f"The card is in {out}" if out else "Not kept: name a file with --out to keep the page."
    return Report(card, [*_tables(card), where])


def _check(kept: "Store", out: Path | None, depth: Depth, *, force: bool) -> None:
    """Find what would fail before a model is loaded.

    Errors: `OutputError` for a page that exists or lies in the store, or without lm-eval; `DataError` for
    rows that are not whole, for a text or tasks that are not there, and for no tokens or probes.
    """
    check_file(out, force=force)
    if out is not None and kept.folder.resolve() in out.resolve().parents:
        raise OutputError(f"{out} lies in the store {kept.folder}. Name a file outside of it.")
    if depth.tokens < 1 or depth.probes < 1:
        raise DataError(
            f"found --tokens {depth.tokens} and --probes {depth.probes}. Expected 1 or more of each."
        )
    for entry in kept.in_force:
        kept.read_rows(entry)
    find_text(depth.text)
    if depth.tasks is not None:
        from instructedit.evaluation.abilities import check_tasks

        check_tasks(depth.tasks)


def _measure(kept: "Store", depth: Depth, model: ModelChoice, sample: Sample) -> "Measured":
    from instructedit.cli.ordinary_text import read_ordinary
    from instructedit.cli.store.opening import load_store_pair
    from instructedit.evaluation import measure_perplexity
    from instructedit.evaluation.abilities import measure_abilities
    from instructedit.evaluation.readings import measure_edits
    from instructedit.ledger.adding import solve_entries
    from instructedit.report.store_card import Measured
    from instructedit.report.store_card_measures import measure_beside
    from instructedit.storage import sha256_file

    entries = kept.in_force
    if not entries:
        return Measured()
    backbone, editor = load_store_pair(kept, model)
    delta = solve_entries(kept, backbone, editor, entries)
    cases = [entry.case for entry in entries]
    perplexity: dict[str, Any] = {}
    text = find_text(depth.text)
    if text is not None:
        found = measure_perplexity(backbone, text, delta, limit=depth.tokens)
        perplexity = {"file": text.name, "sha256": sha256_file(text), **found.as_dict()}
    passages = read_ordinary([text] if text else [], PASSAGES)
    ids = [entry.id for entry in entries]
    options = {"count": depth.probes, "seed": sample.seed}
    asked = {"limit": sample.limit, "seed": sample.seed}
    return Measured(
        measure_edits(backbone, delta, cases, [case.instruction for case in cases]),
        measure_beside(backbone, delta, ids, cases, passages, **options),
        perplexity,
        measure_abilities(backbone, delta, depth.tasks, **asked) if depth.tasks else {},
    )


def _tables(card: dict[str, Any]) -> list[Any]:
    """What a person sees on the terminal: how many took, and how much moved."""
    took = [edit["now"]["took"] for edit in card["edits"] if edit["now"]]
    rows = [
        (sort.replace("_", " "), part["probes"], part["changed"], part["tokens"]["mean"], part["kl"]["mean"])
        for sort, part in card["beside"].get("moved", {}).items()
        if part["probes"]
    ]
    columns = ("should not move", "probes", "changed", "tokens unchanged", "KL")
    failed = card["beside"].get("failed", {"count": 0})
    missed = f"{failed['count']} questions that the edits should have reached were missed"
    told = [f"{missed}; {failed['left_out']} of them are left out of the card."] if failed["count"] else []
    return [make_table(f"{sum(took)} of {len(took)} edits hold", columns, rows), *told]
