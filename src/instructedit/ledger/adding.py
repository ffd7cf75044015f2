"""New edits for a store: each is read on the unedited model, and all in force are solved together."""

from collections.abc import Callable, Collection, Iterable, Sequence

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.opinions import join_opinions
from instructedit.editors.patches import start_patches
from instructedit.errors import EditorFileError
from instructedit.ledger.entries import Entry, Plan
from instructedit.ledger.kept import pack_edit, read_edit, unpack_edit
from instructedit.ledger.solving import Sums, add_up, solve_sums
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
    reading: Callable[[int], None] = lambda _: None,
) -> list[Draft]:
    """Read the new edits of a plan and keep what they are solved from; `StoreWriter.add` makes them count.

    The first one replaces `replacing` as well. `reading` is told the place of each before it is read.
    Errors: `EditorFileError` for an editor that does not solve; `OutputError` when a file cannot be written.
    """
    require_solver(editor)
    ids = writer.new_ids(len(plan.cases))
    drafts: list[Draft] = []
    for place, (name, case) in enumerate(track(list(zip(ids, plan.cases, strict=True)), "Reading edits")):
        reading(place)
        kept = read_edit(editor, backbone, case, instructions[place])
        rows = writer.keep_rows(name, pack_edit(kept, writer.facts["precision"]), len(kept.rounds))
        old = [*(replacing if place == 0 else ()), *plan.replaces[place]]
        drafts.append(Draft(name, case, instructions[place], rows, old))
    return drafts


def solve_entries(
    store: Store, backbone: Backbone, editor: InstructedEditor, entries: Iterable[Entry]
) -> LowRankDelta:
    """The one update of some edits of a store, b = 1.

    Errors: `EditorFileError` for an editor that does not solve; `DataError` when a file is missing or broken,
    or there are more facts than neurons for them.
    """
    require_solver(editor)
    known = list(entries)
    solved = track([entry for entry in known if entry.solved], "Solving")
    rows = (unpack_edit(store.read_rows(entry)).rounds for entry in solved)  # never all of them at once
    return _join(store, backbone, editor, add_up(editor.hypernetwork, rows), known)


def solve_with(
    store: StoreWriter, backbone: Backbone, editor: InstructedEditor, drafts: Sequence[Draft]
) -> LowRankDelta:
    """The one update of a store as it will be once `drafts` count, from the sums that it keeps.

    Errors: as `solve_entries`.
    """
    require_solver(editor)
    gone = {name for draft in drafts for name in draft.replaces}
    stay = [entry for entry in store.in_force if entry.id not in gone]
    entries = [*stay, *(Entry(draft.line()) for draft in drafts)]
    sums = sum_up(store, editor.hypernetwork, [entry for entry in entries if entry.solved])
    return _join(store, backbone, editor, sums, entries)


def _join(
    store: Store, backbone: Backbone, editor: InstructedEditor, sums: Sums, entries: Sequence[Entry]
) -> LowRankDelta:
    """What the rows that were added up, neurons and opinions give together; of nothing, no change."""
    edits = [unpack_edit(store.read_rows(entry)) for entry in entries if not entry.solved]
    patches = [edit.patches for edit in edits if edit.patches]
    opinions = [edit.opinion for edit in edits if edit.opinion]
    maker = start_patches(backbone, editor.config) if patches else None
    joined = maker.join(patches) if maker else LowRankDelta({}, {})
    joined = joined + join_opinions(editor.stance, backbone, opinions)
    return solve_sums(editor.hypernetwork, sums) + joined if sums.systems or not joined.a else joined


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
