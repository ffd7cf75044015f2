"""New edits for a store: each is read on the unedited model, and all in force are solved together."""

from collections.abc import Collection, Iterable, Sequence

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.many import CHUNK
from instructedit.errors import EditorFileError
from instructedit.ledger.entries import Entry, Plan
from instructedit.ledger.solving import pack_rounds, read_rounds, solve_sums, solve_together, unpack_rounds
from instructedit.ledger.store import Store
from instructedit.ledger.sums import sum_up
from instructedit.ledger.writer import Draft, StoreWriter
from instructedit.progress import track


def draft_edits(
    writer: StoreWriter,
    backbone: Backbone,
    editor: InstructedEditor,
    plan: Plan,
    instructions: Sequence[str],
    replacing: Collection[str] = (),
) -> list[Draft]:
    """Read the new edits of a plan and keep their rows; `StoreWriter.add` then makes them count.

    The first one replaces `replacing` as well. Errors: `EditorFileError` for an editor that does not solve;
    `OutputError` when rows cannot be written.
    """
    require_solver(editor)
    ids = writer.new_ids(len(plan.cases))
    drafts: list[Draft] = []
    for start in track(range(0, len(ids), CHUNK), "Reading edits"):
        part = slice(start, start + CHUNK)
        found = read_rounds(editor, backbone, plan.cases[part], instructions[part])
        for place, rounds in enumerate(found, start):
            rows = writer.keep_rows(ids[place], pack_rounds(rounds, writer.facts["precision"]), len(rounds))
            old = [*(replacing if place == 0 else ()), *plan.replaces[place]]
            drafts.append(Draft(ids[place], plan.cases[place], instructions[place], rows, old))
    return drafts


def solve_entries(store: Store, editor: InstructedEditor, entries: Iterable[Entry]) -> LowRankDelta:
    """The one update of some edits of a store, b = 1.

    Errors: `EditorFileError` for an editor that does not solve; `DataError` when rows are missing or broken.
    """
    require_solver(editor)
    edits = (unpack_rounds(store.read_rows(entry)) for entry in track(list(entries), "Solving"))
    return solve_together(editor.hypernetwork, edits)


def solve_with(store: StoreWriter, editor: InstructedEditor, drafts: Sequence[Draft]) -> LowRankDelta:
    """The one update of a store as it will be once `drafts` count, from the sums that it keeps.

    Errors: as `solve_entries`.
    """
    require_solver(editor)
    gone = {name for draft in drafts for name in draft.replaces}
    stay = [entry for entry in store.in_force if entry.id not in gone]
    entries = [*stay, *(Entry(draft.line()) for draft in drafts)]
    return solve_sums(editor.hypernetwork, sum_up(store, editor.hypernetwork, entries))


def require_solver(editor: object) -> None:
    """Refuse an editor whose edits cannot be solved together.

    Errors: `EditorFileError`.
    """
    network = getattr(editor, "hypernetwork", None)
    if network is None or not network.solves:
        raise EditorFileError(
            f"the editor {getattr(editor, 'name', '')!r} sums its edits. A store solves them together: "
            "expected an editor trained with aggregation ridge."
        )
