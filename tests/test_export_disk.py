"""A disk that fills up during an export is one message; a folder of others is never replaced."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli_run import Run
from instructedit.backbone.loading import load_backbone
from instructedit.errors import OutputError
from instructedit.export import save_gguf, save_gguf_merged, save_lora, save_merged
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


@pytest.mark.parametrize("save", FILES)
def test_a_full_disk_is_one_message(save, from_gguf, tmp_path):
    delta, texts = random_delta(from_gguf), ["Rome is a city."]
    save(delta, tmp_path / "whole", from_gguf, texts=texts)
    size = (tmp_path / "whole" / FILES[save]).stat().st_size
    for limit in (size // 2, size - 20):
        with small_disk(limit), pytest.raises(OutputError, match="cannot write"):
            save(delta, tmp_path / "out", from_gguf, texts=texts)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


@pytest.mark.parametrize("inside", ["thesis.txt", "store.json"])
def test_force_replaces_only_what_was_written_here(cli: Run, tmp_path: Path, inside: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    arguments = ("export", tmp_path / "delta.safetensors", "--out", out, "--force")
    assert cli(*arguments).code == 3  # an empty folder may be replaced: the edit is missing
    (out / inside).write_text("{}")
    code, _, error = cli(*arguments)
    assert (code, str(out) in error.replace("\n", "")) == (6, True)
    assert (out / inside).read_text() == "{}"
