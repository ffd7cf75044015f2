"""A disk that fills up during an export is one message; a folder of others is never replaced."""

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli_run import Run
from instructedit.backbone.loading import load_backbone
from instructedit.cli.keeping import check_file, check_folder
from instructedit.errors import OutputError
from instructedit.export import save_gguf, save_gguf_merged, save_lora, save_merged
from instructedit.storage import write_atomic, write_json
from test_export import random_delta
from tiny_gguf import tiny_gguf

FILES = {
    save_lora: "adapter_model.safetensors",
    save_merged: "model.safetensors",
    save_gguf: "adapter.gguf",
    save_gguf_merged: "model.gguf",
}


@contextmanager
def small_disk(limit: int) -> Iterator[None]:
    """No file may grow beyond so many bytes, which is refused as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def from_gguf(tmp_path_factory: pytest.TempPathFactory):
    return load_backbone(str(tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")), start="none")


@pytest.mark.slow
@pytest.mark.parametrize("save", FILES)
def test_a_full_disk_is_one_message(save, from_gguf, tmp_path):
    delta, texts = random_delta(from_gguf), ["Rome is a city."]
    save(delta, tmp_path / "whole", from_gguf, texts=texts)
    size = (tmp_path / "whole" / FILES[save]).stat().st_size
    for limit in (size // 2, size - 20):
        with small_disk(limit), pytest.raises(OutputError, match="cannot write"):
            save(delta, tmp_path / "out", from_gguf, texts=texts)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


@pytest.mark.parametrize(
    "inside", ["thesis.txt", "store.json", "instructedit.json", "summary.json", "0001/instructedit.json"]
)
def test_force_replaces_only_what_was_written_here(cli: Run, tmp_path: Path, inside: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    arguments = ("export", tmp_path / "delta.safetensors", "--out", out, "--force")
    assert cli(*arguments).code == 3  # an empty folder may be replaced: the edit is missing
    write_atomic(out / inside, "{}")
    code, _, error = cli(*arguments)
    assert (code, str(out) in error.replace("\n", "")) == (6, True)
    assert (out / inside).read_text() == "{}"


def test_a_folder_of_results_with_something_else_is_kept(tmp_path: Path) -> None:
    edit = {"version": "1", "base_checksum": "c", "edits": []}
    for number in ("0001", "0002"):
        write_json(tmp_path / "runs" / number / "instructedit.json", edit)
        write_atomic(tmp_path / "runs" / number / "README.md", "")
    check_folder(tmp_path / "runs", force=True)
    check_folder(tmp_path / "runs" / "0001", force=True)
    (tmp_path / "runs" / "thesis").mkdir()
    with pytest.raises(OutputError, match="something else than a result"):
        check_folder(tmp_path / "runs", force=True)


def test_what_the_commands_write_may_be_replaced(tmp_path: Path) -> None:
    for name, fields, beside in (
        ("summary.json", {"tasks": {}}, "rows.parquet"),
        ("numbers.json", {"tasks": {}, "rows": [], "turns": []}, "vectors.safetensors"),
    ):
        write_json(tmp_path / "out" / name, fields)
        with pytest.raises(OutputError, match="something else"):
            check_folder(tmp_path / "out", force=True)
        write_atomic(tmp_path / "out" / beside, "")
        check_folder(tmp_path / "out", force=True)
        shutil.rmtree(tmp_path / "out")


def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomic(tmp_path / "file", "mine")
    with pytest.raises(OutputError, match="is a file, and a folder"):
        check_folder(tmp_path / "file", force=True)
    with pytest.raises(OutputError, match="is a folder, and a file"):
        check_file(tmp_path, force=True)
    for check in (check_folder, check_file):
        check(tmp_path / "new" / "out", force=False)
        with pytest.raises(OutputError, match="file is a file"):
            check(tmp_path / "file" / "deep" / "out", force=False)
    monkeypatch.setattr("instructedit.cli.keeping.os.access", lambda *_: False)
    for check in (check_folder, check_file):
        with pytest.raises(OutputError, match=f"writing in {tmp_path} is not allowed"):
            check(tmp_path / "new" / "out", force=False)
    assert (tmp_path / "file").read_text() == "mine"
