"""`store export`: what a cut of ranks costs is said, and what cannot be cut is refused."""

import json
from functools import cache
from pathlib import Path

import pytest

from cli_run import Run
from instructedit.backbone.loading import load_backbone
from instructedit.cli import loading
from instructedit.editors.editor_file import save_editor
from tiny_editors import tiny_editor

pytestmark = pytest.mark.slow


@pytest.fixture
def store(cli: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store that INSTRUCTEDIT_STORE names, without edits."""
    editor = tmp_path / "editor.safetensors"
    backbone = load_backbone(str(folder), start="none")
    save_editor(tiny_editor(backbone), editor, backbone, {})
    monkeypatch.setattr(loading, "load_pair", cache(loading.load_pair))
    monkeypatch.setenv("INSTRUCTEDIT_STORE", str(tmp_path / "store"))
    assert cli("store", "init", tmp_path / "store", "--editor", editor).code == 0
    return tmp_path / "store"


def test_the_cut_of_a_store_is_reported(cli: Run, store: Path, tmp_path: Path) -> None:
    assert cli("store", "add", "The capital of France is", "Rome").code in (0, 8)
    found = {}
    for name, cut in {"whole": ("--energy", 1.0), "one": ("--rank", 1)}.items():
        code, text, _ = cli("store", "export", "--out", tmp_path / name, *cut, "--json")
        assert code == 0
        found[name] = json.loads(text)
    assert found["whole"]["rank_cut_difference"] < 1e-3 < found["one"]["rank_cut_difference"]
    assert found["one"]["largest_rank"] == 1 < found["whole"]["largest_rank"]
    record = json.loads((tmp_path / "one" / "instructedit.json").read_text())
    assert record["rank_cut_difference"] == found["one"]["rank_cut_difference"]


def test_what_cannot_be_written_is_refused(cli: Run, store: Path, tmp_path: Path) -> None:
    for cut in (("--rank", 2), ("--energy", 0.9)):
        code, _, error = cli("store", "export", "--to", "jsonl", *cut, "--out", tmp_path / "out.jsonl")
        assert (code, "no rank to cut" in error) == (3, True)
    for command in (("store", "export"), ("export", tmp_path / "delta.safetensors")):
        both = ("--rank", 2, "--energy", 0.9, "--out", tmp_path / "out")
        code, _, error = cli(*command, *both)
        assert (code, "Expected one of them" in " ".join(error.split())) == (3, True)
    code, _, error = cli("store", "export", "--to", "jsonl", "--out", store.parent, "--force")
    assert code == 6  # it holds the store
    code, _, error = cli("store", "export", "--out", tmp_path / "out")
    assert (code, "no edit is in force" in error) == (3, True)
    (tmp_path / "out").mkdir()
    code, _, error = cli("store", "export", "--to", "jsonl", "--out", tmp_path / "out", "--force")
    assert (code, "is a folder, and a file" in " ".join(error.split())) == (6, True)
    assert not list((tmp_path / "out").iterdir())
    assert not (tmp_path / "out.jsonl").exists()
