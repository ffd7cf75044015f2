"""The record of edits: nothing acknowledged is lost, undo is as if never made, contradictions are seen."""

import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.instructed import InstructedEditor
from instructedit.errors import DataError, EditorFileError, OutputError, UnknownNameError
from instructedit.ledger import solving
from instructedit.ledger.adding import draft_edits, require_solver, solve_entries
from instructedit.ledger.entries import plan_edits
from instructedit.ledger.kept import pack_edit, read_edit, unpack_edit
from instructedit.ledger.log import UnfinishedLine, append_log, encode_line, read_log
from instructedit.ledger.store import SUMS, Store, create_store
from instructedit.ledger.writer import open_writer
from instructedit.types import EditCase
from ledger_crashes import WEIGHTS, add
from ledger_solving import solve_together
from tiny_editors import distance, tiny_case, tiny_cases, tiny_editor, tiny_opinion

NAMES = {"name": "tiny", "checksum": "c"}
WORDS = "Change it."


@pytest.fixture
def store(tmp_path: Path) -> Path:
    create_store(tmp_path / "store", NAMES, NAMES, "float32")
    return tmp_path / "store"


def fill(folder: Path, editor: InstructedEditor, backbone: Backbone, numbers: list[int]) -> Path:
    """Add tiny edits one by one."""
    if not folder.exists():
        create_store(folder, NAMES, NAMES)
    for number in numbers:
        with open_writer(folder) as writer:
            plan = plan_edits(writer.in_force, [tiny_case(number)])
            writer.add(draft_edits(writer, backbone, editor, plan, [WORDS]))
    return folder


def solved(folder: Path, backbone: Backbone, editor: InstructedEditor) -> LowRankDelta:
    kept = Store(folder)
    return solve_entries(kept, backbone, editor, kept.in_force)


# --- what is solved


@pytest.mark.slow
def test_an_edit_undone_was_never_made(llama: Backbone, tmp_path: Path) -> None:
    editor = tiny_editor(llama, others=2, own=1)
    first = fill(tmp_path / "first", editor, llama, [0, 1, 2])
    never = fill(tmp_path / "never", editor, llama, [2, 0])  # in another order, too
    whole = solved(first, llama, editor)
    with open_writer(first) as writer:
        assert [entry.id for entry in writer.undo(["2"])] == ["0002"]
    assert distance(solved(never, llama, editor), solved(first, llama, editor)) < 1e-6
    assert distance(whole, solved(first, llama, editor)) > 1e-3
    with open_writer(first) as writer:
        assert writer.redo(["2"])
        assert not writer.redo(["2"])
    assert distance(whole, solved(first, llama, editor)) < 1e-9


def test_a_store_of_nothing_changes_nothing(llama: Backbone, store: Path) -> None:
    assert all(float(norm) == 0 for norm in solved(store, llama, tiny_editor(llama)).norms().values())


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [1, 2])
def test_one_edit_in_force_is_that_edit(llama: Backbone, rounds: int) -> None:
    editor, cases = tiny_editor(llama, others=2, own=1), tiny_cases(1)
    editor.config = replace(editor.config, rounds=rounds)
    found = read_edit(editor, llama, cases[0], WORDS)
    kept = [unpack_edit(pack_edit(found, "float32")).rounds]
    assert distance(editor.edit(llama, cases, [WORDS]), solve_together(editor.hypernetwork, kept)) < 1e-3
    small, large = (len(pack_edit(found, name)) for name in ("float16", "float32"))
    assert small < 0.7 * large


@pytest.mark.slow
def test_order_and_chunks_do_not_matter(llama: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = tiny_editor(llama, others=2, own=1)
    edits = [read_edit(editor, llama, case, WORDS).rounds for case in tiny_cases(5)]
    edits = [
        edit * (1 + index % 3) for index, edit in enumerate(edits)
    ]  # some went one or two rounds further
    expected = solve_together(editor.hypernetwork, edits)
    assert distance(expected, solve_together(editor.hypernetwork, edits[::-1])) < 1e-6
    monkeypatch.setattr(solving, "CHUNK", 2)
    assert distance(expected, solve_together(editor.hypernetwork, edits)) < 1e-6


def test_an_editor_that_sums_is_refused(llama: Backbone) -> None:
    with pytest.raises(EditorFileError, match="ridge"):
        require_solver(tiny_editor(llama, aggregation="sum"))


# --- conflicts


def test_contradictions_and_repetitions_are_seen(store: Path) -> None:
    add(store, [1])
    there = Store(store).in_force
    same = EditCase("prompt  1 IS?", "Rome")
    other, new = replace(same, target_new="Oslo"), EditCase("Something else is", "Oslo")
    assert plan_edits(there, [same, new, new]).repeated == [same, new]
    with pytest.raises(DataError, match=r"'Oslo' contradicts edit 0001, 'Prompt 1 is' -> 'Rome'"):
        plan_edits(there, [new, other])
    with pytest.raises(DataError, match="not 'Rome' contradicts"):
        plan_edits(there, [replace(same, kind="erase")])
    plan = plan_edits(there, [new, other], "replace")
    assert (plan.cases, plan.replaces) == ([new, other], [[], ["0001"]])
    assert plan_edits(there, [other], replacing=["0001"]).replaces == [[]]
    late = replace(new, target_new="Rome")
    assert plan_edits(there, [other, same], "replace").cases == []
    with pytest.raises(DataError, match="another of the requests"):
        plan_edits(there, [new, late])
    assert plan_edits(there, [new, late], "replace").cases == [late]


def test_opinions_of_one_subject_meet_in_whatever_words() -> None:
    good = replace(tiny_opinion(0), sentiment="positive")
    bad = replace(good, prompt="What do you think of it?", subject="france", sentiment="negative")
    with pytest.raises(DataError, match="'negative' contradicts another"):
        plan_edits([], [good, bad])
    again = replace(bad, sentiment="positive")
    assert plan_edits([], [good, again]).repeated == [again]
    fact = EditCase(good.prompt, "a land", "France")
    assert plan_edits([], [good, fact, tiny_opinion(1)]).repeated == []


# --- the log, the lock and the files


def test_a_torn_line_is_ignored_and_written_behind(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    whole = encode_line({"n": 1, "id": "0001"})
    last = encode_line({"n": 2, "id": 'Zoë\n", "check": "'})
    for cut in range(1, len(last) - 1):
        path.write_bytes(whole + last[:cut])
        with pytest.warns(UnfinishedLine):
            assert len(read_log(path)) == 1
        append_log(path, [{"id": "0003"}], after=1)
        assert [event["id"] for event in read_log(path)] == ["0001", "0003"]
    path.write_bytes(whole + last[:-1])  # whole but for its end: it counts, before and after
    append_log(path, [{"id": "0003"}], after=len(read_log(path)))
    assert [event["n"] for event in read_log(path)] == [1, 2, 3]


def test_a_line_that_counted_cannot_change_unseen(store: Path) -> None:
    add(store, [1, 2, 3])
    path = store / "log.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for broken in (lines[0] + lines[2], lines[0] + lines[1].replace(b"Rome", b"Oslo") + lines[2]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match="expected 2"):
            Store(store)


def test_rows_that_changed_or_went_are_seen(store: Path) -> None:
    add(store, [1])
    (entry,) = Store(store).in_force
    path = Store(store).rows_path(entry.id)
    path.write_bytes(b"other")
    with pytest.raises(DataError, match="checksum"):
        Store(store).read_rows(entry)
    path.unlink()
    with pytest.raises(DataError, match="cannot read"):
        Store(store).read_rows(entry)


def test_a_second_writer_is_told_of_the_first(store: Path) -> None:
    with open_writer(store), pytest.raises(OutputError, match=f"written by process {os.getpid()} on"):
        add(store, [1])
    add(store, [1])  # the lock is free again


@pytest.mark.parametrize("text", [None, "[]", '{"format": "instructedit-store-9"}', "{", "\xff"])
def test_what_is_no_store_is_one_error(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "store.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="store init"), open_writer(tmp_path):
        pass
    assert not (tmp_path / "lock").exists()


def test_an_unknown_id_changes_nothing(store: Path) -> None:
    add(store, [1])
    with open_writer(store) as writer:
        with pytest.raises(UnknownNameError, match="0001"):
            writer.undo(["1", "7"])
        assert len(writer.in_force) == 1


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "full", "readonly"])
def test_a_store_is_whole_wherever_its_writer_stops(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Path(__file__).parent / "ledger_crashes.py"
    subprocess.run([sys.executable, str(driver), str(tmp_path), how], check=True, timeout=240)
    monkeypatch.setattr(os, "fsync", lambda _handle: None)
    whole = tmp_path / "whole"
    expected = plain_events(whole / "store")
    assert [event["event"] for event in expected] == [*["added"] * 3, *["undone"] * 2, "redone", "replaced"]
    places = sorted(tmp_path.glob("[0-9]*"))
    assert len(places) > 80 or how == "readonly"
    torn = 0
    for place in places:
        said = (place / "said").read_text().split("\n")
        acknowledged = max([0, *(int(line) for line in said if line.isdecimal())])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            events = plain_events(place / "store")
        torn += any(warning.category is UnfinishedLine for warning in caught)
        assert events == expected[: len(events)]
        assert len(events) in (0, 1, 3, 5, 6, 7)  # all of a change, or none
        assert len(events) >= acknowledged
        if how != "kill":
            assert len(events) == acknowledged
            assert any(line.startswith(("error cannot write", "steps")) for line in said), said
        assert not (place / "out.jsonl").exists() or (
            (place / "out.jsonl").read_text() == (whole / "out.jsonl").read_text()
        )
        assert not (place / "lora").exists() or len(list((place / "lora").iterdir())) == 2
        if how == "kill" or int(place.name) % 8 == 1:
            goes_on(place / "store", events)
    assert (torn > 0) == (how == "kill")


def plain_events(folder: Path) -> list[dict]:
    """The events of a store without their times; the rows of all its edits are there and whole."""
    kept = Store(folder)
    assert all(kept.read_rows(entry) for entry in kept.entries.values())
    return [{key: value for key, value in event.items() if key != "time"} for event in kept.events]


def goes_on(folder: Path, events: list[dict]) -> None:
    """The next writer finds no lock, leaves no rubbish, and adds to what was acknowledged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        add(folder, [9])
    after = plain_events(folder)
    assert after[:-1] == events
    assert after[-1]["request"]["prompt"] == "Prompt 9 is"
    assert not list((folder / "edits").glob(".*"))
    assert not list(folder.glob(f".{SUMS}*"))
    assert not (folder / SUMS).exists() or (folder / SUMS).read_bytes() == WEIGHTS


# --- the commands


def test_solving_is_in_double_precision(llama: Backbone) -> None:
    assert solving._metrics(tiny_editor(llama).hypernetwork)[llama.sites[0].name].dtype == torch.float64
