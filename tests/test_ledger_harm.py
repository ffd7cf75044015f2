"""Stores that people, other versions or a stop in the middle have harmed: one error, and nothing is lost."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from instructedit.editors.patches import start_patches
from instructedit.errors import DataError
from instructedit.ledger import log
from instructedit.ledger.kept import pack_edit, read_edit, unpack_edit
from instructedit.ledger.log import UnfinishedLine, append_log, encode_line, read_log
from instructedit.ledger.room import count_neurons, read_head
from instructedit.ledger.store import Store, create_store
from instructedit.ledger.writer import Draft, open_writer
from instructedit.types import EditCase
from ledger_crashes import add
from test_gates import levelled
from test_subject_gates import CONFIG, made
from tiny_editors import tiny_case

NAMES = {"name": "tiny", "checksum": "c"}
READING = {"group": "prompt", "prompt": "A", "before": "a", "after": "b", "probability_before": 0}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    create_store(tmp_path / "store", NAMES, NAMES, "float32")
    return tmp_path / "store"


def log_lines(store: Path) -> list[bytes]:
    return (store / "log.jsonl").read_bytes().splitlines(keepends=True)


def write_log(store: Path, lines: list[bytes]) -> None:
    (store / "log.jsonl").write_bytes(b"".join(lines))


# --- what the files say


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", None),
        ("model", "tiny"),
        ("editor", {"name": "tiny"}),
        ("editor", {"name": 1, "checksum": "c"}),
        ("precision", None),
        ("precision", "float64"),
        ("created", 3),
    ],
)
def test_a_wrong_field_of_the_store_is_named(store: Path, field: str, value: object) -> None:
    facts = json.loads((store / "store.json").read_text())
    (store / "store.json").write_text(json.dumps({**facts, field: value}))
    with pytest.raises(DataError, match=rf"store\.json, field '{field}[^']*': found .* Correct it"):
        Store(store)


def test_endless_nesting_is_no_json(store: Path) -> None:
    (store / "store.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="no JSON"):
        Store(store)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("event", "renamed"),
        ("id", "0001"),
        ("id", "../a"),
        ("id", 2),
        ("request", "words"),
        ("rows", {"sha256": "c", "bytes": 1}),
        ("rows", {"sha256": "c", "bytes": 1, "rounds": True}),
        ("measured", {"took": True}),
        ("measured", {"took": True, "readings": [READING]}),
        ("replaces", ["0009"]),
        ("replaces", "0001"),
        ("time", None),
    ],
)
def test_a_line_that_no_version_known_wrote_is_named(store: Path, field: str, value: object) -> None:
    add(store, [1, 2])
    event: dict[str, Any] = read_log(store / "log.jsonl")[1]
    write_log(store, [log_lines(store)[0], encode_line({**event, field: value})])
    with pytest.raises(DataError, match=rf"log\.jsonl, event 2, field '{field}[^']*': found .* that version"):
        assert Store(store).entries


def test_a_line_of_what_is_no_json_is_no_line(store: Path) -> None:
    body = b'{"n": 1, "a": ' + b"[" * 100_000 + b"}"
    write_log(store, [body[:-1] + log.MARK + log._digest(body) + log.END + b"\n"])
    with pytest.raises(DataError, match="checksum differs"):
        Store(store)


def test_rows_of_another_version_are_refused() -> None:
    head = b'{"__metadata__": {"format": "instructedit-rows-9"}}'
    for data in (len(head).to_bytes(8, "little") + head, b"w" * 300, b""):
        with pytest.raises(DataError, match="instructedit-rows-1"):
            unpack_edit(data)


# --- the end of the log


def test_a_last_line_that_was_changed_is_an_error(store: Path) -> None:
    add(store, [1])
    add(store, [2])
    first, last = log_lines(store)
    write_log(store, [first, last.replace(b"Rome", b"Oslo")])
    with pytest.raises(DataError, match="line 2: its checksum differs"):
        Store(store)
    write_log(store, [first, last[: last.index(b"}") + 1]])  # cut short where an object ends
    for _ in range(2):
        with pytest.warns(UnfinishedLine):
            assert len(Store(store).events) == 1
        with (store / "log.jsonl").open("ab") as file:
            file.write(b" \n")  # what the next writer begins with
    append_log(store / "log.jsonl", [{"id": "0002"}], 1)
    assert len(read_log(store / "log.jsonl")) == 2


def test_rows_of_a_line_that_was_lost_are_not_written_over(store: Path) -> None:
    add(store, [1])
    add(store, [2])
    lines, rows = log_lines(store), (store / "edits" / "0002.safetensors").read_bytes()
    write_log(store, lines[:1])
    assert [path.name for path in Store(store).strays()] == ["0002.safetensors"]
    add(store, [3])
    assert list(Store(store).entries) == ["0001", "0003"]
    assert (store / "edits" / "0002.safetensors").read_bytes() == rows
    write_log(store, lines)
    kept = Store(store)
    assert all(map(kept.read_rows, kept.in_force))


def test_a_change_of_several_lines_counts_with_the_last(store: Path) -> None:
    add(store, [1])
    add(store, [2, 3, 4])
    lines = log_lines(store)
    for cut in (2, 3):
        write_log(store, lines[:cut])
        with pytest.warns(UnfinishedLine, match="the change that event 2 begins"):
            assert list(Store(store).entries) == ["0001"]
        with pytest.warns(UnfinishedLine):
            add(store, [5, 6])
        assert [event["n"] for event in Store(store).events] == [1, 2, 3]
        assert list(Store(store).entries) == ["0001", "0005", "0006"]
        for name in ("0005", "0006"):
            (store / "edits" / f"{name}.safetensors").unlink()
    write_log(store, [*lines[:2], *lines[3:]])
    with pytest.raises(DataError, match="found event 4, expected 3"):
        Store(store)


def test_a_log_from_before_there_were_batches_is_read(store: Path) -> None:
    add(store, [1, 2, 3])
    old = [{k: v for k, v in event.items() if k not in ("batch", "of")} for event in Store(store).events]
    write_log(store, [encode_line(event) for event in old[:2]])
    assert list(Store(store).entries) == ["0001", "0002"]


# --- what is not written


def stop_at_work(store: Path) -> None:
    with open_writer(store) as writer:
        (name,) = writer.new_ids(1)
        writer.keep_rows(name, b"rows")
        raise KeyboardInterrupt


def test_rows_of_edits_that_do_not_come_about_are_gone(store: Path) -> None:
    add(store, [1])
    with pytest.raises(KeyboardInterrupt):
        stop_at_work(store)
    assert [path.stem for path in (store / "edits").iterdir()] == ["0001"]


def rows_of(taken: int, room: int) -> bytes:
    """A file whose head says that an edit has neurons in the layer x.y, and how many there are for all."""
    facts = {"format": "instructedit-rows-1", "room": json.dumps({"x.y": room})}
    tensor = {"dtype": "F16", "shape": [taken, 4], "data_offsets": [0, 8 * taken]}
    head = json.dumps({"__metadata__": facts, "neurons.x.y.reads": tensor}).encode()
    return len(head).to_bytes(8, "little") + head + bytes(8 * taken)


def test_redo_does_not_take_more_neurons_than_there_are(store: Path) -> None:
    for number, taken in enumerate((1, 2, 1, 1)):
        with open_writer(store) as writer:
            (name,) = writer.new_ids(1)
            rows = writer.keep_rows(name, rows_of(taken, 3), 0)
            writer.add([Draft(name, EditCase(f"Prompt {number} is", "Rome"), "Change it.", rows)])
            if number == 1:
                writer.undo(["2"])
    with open_writer(store) as writer:
        with pytest.raises(DataError, match=r"0002 finds no neurons: of the 3 of x\.y too few"):
            writer.redo(["2"])
        writer.undo(["1", "3"])
        assert writer.redo(["2"])
        with pytest.raises(DataError, match="0001 finds no neurons"):
            writer.redo(["1"])
        assert [entry.id for entry in writer.in_force] == ["0002", "0004"]
        writer.undo(["2", "4"])
        with pytest.raises(DataError, match="the 3 edits find no neurons"):
            writer.redo(["1", "2", "3"])  # each of them would
        assert [entry.id for entry in writer.redo(["1", "2", "1"])] == ["0001", "0002"]


def test_redo_of_several_is_one_change_or_none(store: Path) -> None:
    add(store, [1, 2])
    with open_writer(store) as writer:
        writer.undo(["1", "2"])
        (name,) = writer.new_ids(1)
        rows = writer.keep_rows(name, rows_of(1, 9), 0)
        other = replace(writer.find("2").case, target_new="Elsewhere")
        writer.add([Draft(name, other, "Change it.", rows)])
        before = len(writer.events)
        with pytest.raises(DataError, match="contradicts edit 0003"):
            writer.redo(["1", "2"])
        assert [entry.id for entry in Store(store).in_force] == ["0003"]
        assert len(writer.events) == before
        assert [entry.id for entry in writer.redo(["1", "2"], "replace")] == ["0001", "0002"]
        assert [entry.id for entry in Store(store).in_force] == ["0001", "0002"]
        assert [event["of"] for event in writer.events[before:]] == [2, 2]


def test_redo_of_rows_that_are_gone_changes_nothing(store: Path) -> None:
    add(store, [1])
    with open_writer(store) as writer:
        writer.undo(["1"])
        writer.rows_path("0001").unlink()
        with pytest.raises(DataError, match=r"Put it back from a copy\.$"):
            writer.redo(["1"])
        assert writer.in_force == []


@pytest.mark.slow
def test_a_fact_says_how_many_neurons_there_are() -> None:
    model = levelled("llama")
    kept = read_edit(made(model), model, tiny_case(0), "Change it.")
    maker = start_patches(model, CONFIG)
    assert maker is not None
    assert kept.room == {ground.neurons.gate: len(ground.spare) for ground in maker.writer.grounds}
    head = read_head(pack_edit(kept))
    assert json.loads(head["__metadata__"]["room"]) == kept.room
    assert count_neurons(head) == {name: len(patch.reads) for name, patch in kept.patches.items()}
