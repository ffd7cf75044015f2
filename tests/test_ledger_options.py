"""The store's commands where files are missing or broken, and what their options promise."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from cli_run import Run
from instructedit.backbone.loading import load_backbone
from instructedit.cli import loading
from instructedit.data import load_cases
from instructedit.editors.editor_file import save_editor
from instructedit.editors.instructed import InstructedEditor
from instructedit.ledger.lock import is_held
from instructedit.ledger.requests import read_told
from instructedit.ledger.store import Store
from instructedit.ledger.writer import open_writer
from instructedit.types import EditCase
from ledger_crashes import add
from tiny_editors import tiny_editor

ERASE = {"prompt": "The capital of France is", "target_new": "Rome", "kind": "erase"}


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    """An editor that moves next to nothing: erasing what was never said takes."""
    place = tmp_path_factory.mktemp("editor")
    backbone = load_backbone(str(folder), start="none")
    save_editor(tiny_editor(backbone, log_step=-30.0), place / "editor.safetensors", backbone, {})
    return place / "editor.safetensors"


@pytest.fixture
def store(cli: Run, editor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store, with an editor that may be harmed; the one of all commands."""
    monkeypatch.setattr(loading, "load_pair", cache(loading.load_pair))
    own = tmp_path / "editor.safetensors"
    own.write_bytes(editor.read_bytes())
    assert cli("store", "init", tmp_path / "store", "--editor", own).code == 0
    monkeypatch.setenv("INSTRUCTEDIT_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


def test_a_model_in_a_folder_here_is_kept_by_its_whole_path(
    cli: Run, editor: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    for name, model in (("one", folder.name), ("two", "some/hub-id")):
        assert cli("store", "init", tmp_path / name, "--editor", editor, "--model", model).code == 0
    assert Store(tmp_path / "one").facts["model"]["name"] == str(folder.resolve())
    assert Store(tmp_path / "two").facts["model"]["name"] == "some/hub-id"


def test_an_empty_store_without_its_editor_is_not_whole(cli: Run, store: Path) -> None:
    assert "files whole" in cli("store", "check").out
    (store.parent / "editor.safetensors").unlink()
    code, _, error = cli("store", "check")
    assert (code, "store.json" in error) == (5, True)


def test_another_editor_leaves_a_way_that_can_be_gone(cli: Run, store: Path) -> None:
    add(store, [1])
    (store.parent / "editor.safetensors").write_bytes(b"another")
    assert "store export --to jsonl --out FILE" in " ".join(cli("store", "check").err.split())
    assert cli("store", "export", "--to", "jsonl", "--out", store.parent / "edits.jsonl").code == 0


def test_check_reads_what_is_not_in_force_and_names_what_belongs_to_none(cli: Run, store: Path) -> None:
    add(store, [1, 2])
    assert cli("store", "undo", "1").code == 0
    (store / "edits" / "0001.safetensors").write_bytes(b"other")
    (store / "edits" / "0007.safetensors").write_bytes(b"stray")
    code, text, _ = cli("store", "check", "--dry-run")
    text = " ".join(text.split())
    assert code == 0
    assert "Edit 0001 is undone and cannot be redone" in text
    assert "1 file(s) of rows belong to no edit (0007.safetensors)" in text
    assert json.loads(cli("store", "check", "--dry-run", "--json").out)["broken"] == ["0001"]
    (store / "edits" / "0002.safetensors").write_bytes(b"other")
    assert cli("store", "check", "--dry-run").code == 3


def test_an_edit_that_is_named_twice_is_undone_once(cli: Run, store: Path) -> None:
    add(store, [1])
    assert cli("store", "undo", "--dry-run", "1", "0001").out.strip() == "Would undo 0001"


def test_the_last_events_are_one_or_more(cli: Run, store: Path) -> None:
    add(store, [1, 2])
    for last in (0, -3):
        code, _, error = cli("store", "log", f"--last={last}")
        assert (code, f"--last {last}" in error) == (3, True)
    events = json.loads(cli("store", "log", "--last", "1", "--json").out)["events"]
    assert [event["id"] for event in events] == ["0002"]


@pytest.mark.slow
def test_import_leaves_broken_records_out_and_keeps_who_asked(cli: Run, store: Path) -> None:
    file = store.parent / "edits.jsonl"
    said = {"by": "the desk", "note": "a complaint"}
    records = [ERASE | said, {"prompt": "A \ud800 is", "target_new": "b"}]
    file.write_text("\n".join(map(json.dumps, records)))
    assert cli("store", "import", file).code == 3
    with pytest.warns(UserWarning, match="1 broken record"):
        assert cli("store", "import", file, "--skip-bad", "--note", "moved").code == 0
    (entry,) = Store(store).in_force
    assert (entry.made["by"], entry.made["note"]) == ("the desk", "moved")
    assert cli("store", "export", "--to", "jsonl", "--out", store.parent / "out.jsonl").code == 0
    (record,) = map(json.loads, (store.parent / "out.jsonl").read_text().splitlines())
    assert (record["by"], record["note"]) == ("the desk", "moved")


def forget(_editor: object, _backbone: object, cases: list[EditCase], words: list[str]) -> list[EditCase]:
    """An editor that reads the word Forget as an erasure."""
    said = zip(cases, words, strict=True)
    return [replace(case, kind="erase") if "Forget" in text else case for case, text in said]


@pytest.mark.slow
@pytest.mark.parametrize("command", [("import",), ("add", "--file")])
def test_who_asked_is_kept_where_words_make_another_edit_of_it(
    cli: Run, store: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr(InstructedEditor, "told", forget)
    plain = {"prompt": ERASE["prompt"], "target_new": "Rome", "instruction": "Forget this."}
    other = {"prompt": "The capital of Spain is", "target_new": "Rome", "instruction": "Forget it."}
    records = [plain | {"by": "legal", "note": "order 12"}, other, plain | {"by": "somebody else"}]
    file = store.parent / "edits.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert cli("store", *command, file).code == 0
    found = [(e.case.kind, e.made["by"], e.made["note"]) for e in Store(store).in_force]
    assert found == [("erase", "legal", "order 12"), ("erase", "", "")]


def test_what_a_file_says_of_who_asked_is_found_by_its_records(tmp_path: Path) -> None:
    opinion = {"ent": "Rome", "pos": ["It is good."], "neg": ["It is bad."], "by": "a fan"}
    records = [
        {"prompt": "A is", "target_new": "b", "by": ["x"]},
        opinion,
        {"prompt": "A is", "target_new": "c"},
    ]
    file = tmp_path / "edits.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    for seed in range(4):
        cases = load_cases(file, seed=seed)
        assert [told.by for told in read_told(file, cases, seed=seed)] == ["x", "a fan", ""]
        assert [told.by for told in read_told(file, cases[1:2], seed=seed)] == ["a fan"]


@pytest.mark.slow
def test_a_replacement_that_would_change_nothing_is_refused(cli: Run, store: Path) -> None:
    spain = ("The capital of Spain is", "Rome", "--kind", "erase")
    assert cli("store", "add", ERASE["prompt"], "Rome", "--kind", "erase").code == 0
    assert cli("store", "add", *spain).code == 0
    for more in ((), ("--dry-run",)):
        code, _, error = cli("store", "replace", "1", *spain, *more)
        assert (code, "in the place of edit 0001" in " ".join(error.split())) == (3, True)
    assert [entry.id for entry in Store(store).in_force] == ["0001", "0002"]
    assert cli("store", "undo", "1").code == 0
    for more in ((), ("--dry-run",)):
        code, _, error = cli("store", "replace", "1", "The capital of Peru is", "Rome", *more)
        assert (code, "edit 0001 is undone" in " ".join(error.split())) == (3, True)
    assert [entry.id for entry in Store(store).in_force] == ["0002"]


def test_a_dry_run_says_that_no_model_has_read_the_words(cli: Run, store: Path) -> None:
    code, text, _ = cli("store", "add", ERASE["prompt"], "Rome", "--instruction", "Forget this.", "--dry-run")
    assert (code, "No model has read the instructions yet" in " ".join(text.split())) == (0, True)


def test_a_writer_at_work_is_no_false_alarm(cli: Run, store: Path) -> None:
    add(store, [1])
    with open_writer(store) as writer:
        writer.keep_rows(*writer.new_ids(1), b"rows")
        text = " ".join(cli("store", "check", "--dry-run").out.split())
        assert "A writer is at work" in text
        assert "belong to no edit" not in text
        (store / "edits" / "0007.safetensors").write_bytes(b"stray")
    text = " ".join(cli("store", "check", "--dry-run").out.split())
    assert "1 file(s) of rows belong to no edit (0007.safetensors)" in text
    assert not is_held(store)


def test_a_store_that_exists_is_not_made_anew(cli: Run, store: Path) -> None:
    code, _, error = cli("store", "init", store, "--editor", store.parent / "editor.safetensors")
    assert (code, "Choose another folder" in " ".join(error.split())) == (6, True)
    assert "--force" not in error


def test_an_add_that_is_refused_leaves_no_rows(
    cli: Run, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("no")

    monkeypatch.setattr("instructedit.evaluation.readings.measure_edits", refuse)
    with pytest.raises(ValueError, match="no"):
        cli("store", "add", ERASE["prompt"], "Rome", "--kind", "erase", "--debug")
    assert list((store / "edits").iterdir()) == []
