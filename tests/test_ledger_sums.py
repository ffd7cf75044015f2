"""The sums that a store keeps: adding reads the new rows only, and nothing stays of an edit undone."""

from pathlib import Path

import pytest

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.instructed import InstructedEditor
from instructedit.ledger import sums
from instructedit.ledger.adding import draft_edits, solve_entries, solve_with
from instructedit.ledger.entries import Entry, plan_edits
from instructedit.ledger.store import SUMS, Store, create_store
from instructedit.ledger.writer import StoreWriter, open_writer
from tiny_editors import distance, tiny_case, tiny_editor

pytestmark = pytest.mark.slow

NAMES = {"name": "tiny", "checksum": "c"}


@pytest.fixture
def editor(llama: Backbone, monkeypatch: pytest.MonkeyPatch) -> InstructedEditor:
    monkeypatch.setattr(sums, "WORTH", 2)
    monkeypatch.setattr(sums, "ROOM", 1e9)
    return tiny_editor(llama, others=2, own=1)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the edits whose rows are read."""
    names: list[str] = []
    whole = StoreWriter.read_rows

    def note(store: Store, entry: Entry) -> bytes:
        names.append(entry.id)
        return whole(store, entry)

    monkeypatch.setattr(Store, "read_rows", note)
    return names


def add(folder: Path, editor: InstructedEditor, backbone: Backbone, numbers: list[int]) -> LowRankDelta:
    """Add tiny edits together; the update that they were measured under."""
    if not folder.exists():
        create_store(folder, NAMES, NAMES)
    with open_writer(folder) as writer:
        plan = plan_edits(writer.in_force, [tiny_case(number) for number in numbers])
        drafts = draft_edits(writer, backbone, editor, plan, ["Change it."] * len(numbers))
        delta = solve_with(writer, backbone, editor, drafts)
        writer.add(drafts)
    return delta


def from_rows(folder: Path, backbone: Backbone, editor: InstructedEditor) -> LowRankDelta:
    kept = Store(folder)
    return solve_entries(kept, backbone, editor, kept.in_force)


def test_a_further_edit_reads_its_own_rows_only(
    llama: Backbone, editor: InstructedEditor, tmp_path: Path, read: list[str]
) -> None:
    folder = tmp_path / "store"
    add(folder, editor, llama, [0, 1])
    assert read == ["0001", "0002"]
    read.clear()
    third = add(folder, editor, llama, [2])
    assert read == ["0003"]
    assert distance(from_rows(folder, llama, editor), third) < 1e-6
    read.clear()
    add(folder, editor, llama, [3])
    assert read == ["0003", "0004"]  # two lie beyond the kept sums: they are written anew
    read.clear()
    add(folder, editor, llama, [4])
    assert read == ["0005"]


def test_nothing_stays_of_an_edit_undone(
    llama: Backbone, editor: InstructedEditor, tmp_path: Path, read: list[str]
) -> None:
    folder, never = tmp_path / "store", tmp_path / "never"
    add(folder, editor, llama, [0, 1])
    with open_writer(folder) as writer:
        writer.undo(["1"])
    read.clear()
    after = add(folder, editor, llama, [2])
    assert read == ["0002", "0003"]
    assert distance(from_rows(folder, llama, editor), after) < 1e-6
    assert distance(add(never, editor, llama, [1, 2]), after) < 1e-4  # read in other batches
    whole = add(tmp_path / "whole", editor, llama, [0, 1, 2])
    assert distance(whole, after) > 1e-3


@pytest.mark.parametrize("harm", ["a byte", "cut short", "no file", "another editor"])
def test_sums_that_are_not_as_they_were_written_are_left(
    llama: Backbone, editor: InstructedEditor, tmp_path: Path, read: list[str], harm: str
) -> None:
    folder = tmp_path / "store"
    add(folder, editor, llama, [0, 1])
    file = folder / SUMS
    data = bytearray(file.read_bytes())
    if harm == "a byte":
        data[-3] ^= 1
    file.write_bytes(data[:-9] if harm == "cut short" else data)
    if harm == "no file":
        file.unlink()
    if harm == "another editor":
        text = (folder / "store.json").read_text()
        (folder / "store.json").write_text(text.replace('"c"', '"d"'))
    read.clear()
    after = add(folder, editor, llama, [2])
    assert read == ["0001", "0002", "0003"]
    assert distance(from_rows(folder, llama, editor), after) < 1e-6


def test_sums_larger_than_the_rows_are_not_kept(
    llama: Backbone, editor: InstructedEditor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "ROOM", 1e-9)
    add(tmp_path / "store", editor, llama, [0, 1, 2])
    assert not (tmp_path / "store" / SUMS).exists()
