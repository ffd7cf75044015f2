"""The store on the command line: its life, and an editor that is not its own."""

import json
from functools import cache
from pathlib import Path

import pytest

from cli_run import Run
from instructedit.backbone.loading import load_backbone
from instructedit.cli import loading
from instructedit.editors.editor_file import save_editor
from instructedit.ledger.store import Store
from tiny_editors import tiny_editor

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    """An editor that moves next to nothing: erasing what was never said takes, a change does not."""
    place = tmp_path_factory.mktemp("place")
    backbone = load_backbone(str(folder), start="none")
    save_editor(tiny_editor(backbone, log_step=-30.0), place / "editor.safetensors", backbone, {})
    return place


def test_the_life_of_a_store(cli: Run, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "load_pair", cache(loading.load_pair))  # one model for all commands
    folder, other = tmp_path / "store", tmp_path / "other"
    for name in (folder, other):
        assert cli("store", "init", name, "--editor", place / "editor.safetensors").code == 0
    assert cli("store", "init", folder, "--editor", place / "editor.safetensors").code == 6
    monkeypatch.setenv("INSTRUCTEDIT_STORE", str(folder))
    erase = ("The capital of France is", "Rome", "--kind", "erase")
    code, text, _ = cli("store", "add", *erase, "--by", "the desk", "--note", "a complaint", "--json")
    assert code == 0
    (made,) = json.loads(text)["edits"]
    assert (made["id"], made["by"], made["measured"]["took"]) == ("0001", "the desk", True)
    code, text, _ = cli("store", "add", *erase)
    assert (code, "not applied twice" in text) == (0, True)
    code, _, error = cli("store", "add", "the capital of France is", "Madrid")
    assert code == 3
    assert "Madrid" in error
    assert "0001" in error
    spain = ("The capital of Spain is", "Madrid")
    assert cli("store", "replace", "1", *spain).code == 8  # kept, and did not take
    assert cli("store", "check").code == 8
    assert cli("store", "undo", "2").code == 0
    assert cli("store", "redo", "1").code == 0
    code, text, _ = cli("store", "check", "--json")
    assert (code, json.loads(text)["holds"]) == (0, True)
    assert "the desk" in cli("store", "show", "1").out
    events = json.loads(cli("store", "log", "--json").out)["events"]
    assert [event["event"] for event in events] == ["added", "replaced", "undone", "redone"]
    assert cli("store", "diff", "1", "2").out.splitlines() == [
        "- 0001  'The capital of France is' -> not 'Rome'",
        "+ 0002  'The capital of Spain is' -> 'Madrid'",
    ]
    for out in (folder, tmp_path, folder / "edits" / "lora"):
        assert cli("store", "export", "--force", "--out", out).code == 6
    assert cli("store", "export", "--to", "jsonl", "--out", tmp_path / "edits.jsonl").code == 0
    assert cli("store", "import", tmp_path / "edits.jsonl", "--store", other).code == 0
    assert "The same edits" in cli("store", "diff", folder, other).out
    assert cli("store", "export", "--out", tmp_path / "lora").code == 0
    assert (tmp_path / "lora" / "adapter_model.safetensors").is_file()


def test_a_store_of_another_editor_is_refused(cli: Run, place: Path, tmp_path: Path) -> None:
    editor = tmp_path / "editor.safetensors"
    editor.write_bytes((place / "editor.safetensors").read_bytes())
    assert cli("store", "init", tmp_path / "store", "--editor", editor).code == 0
    editor.write_bytes(editor.read_bytes()[:-4] + b"\0\0\0\1")
    request = ("A is", "B", "--kind", "erase", "--store", tmp_path / "store")
    assert cli("store", "add", *request, "--dry-run").code == 0
    code, _, error = cli("store", "add", *request)
    assert (code, "checksum" in error) == (5, True)
    assert Store(tmp_path / "store").entries == {}
