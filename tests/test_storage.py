"""What is stored appears whole or not at all, and a refused write is one message."""

import errno
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instructedit.errors import OutputError
from instructedit.storage import (
    load_tensors,
    new_folder,
    read_json,
    save_tensors,
    sha256_file,
    write_atomic,
    write_json,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write_atomic(path, "first")
    write_atomic(path, b"second")
    assert path.read_bytes() == b"second"
    assert names(path.parent) == ["file.txt"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    path = tmp_path / "file.txt"
    write_atomic(path, "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        "instructedit.storage.os.fsync" if broken == "fsync" else "pathlib.Path.replace", full
    )
    with pytest.raises(OutputError, match=r"cannot write .*file\.txt: No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="cannot write"):
        write_atomic(tmp_path / "file" / "inside", "new")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=25, deadline=None)
@given(value=values)
def test_json_comes_back(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert read_json(path) == value


def test_a_folder_appears_at_the_end_only(tmp_path: Path) -> None:
    target = tmp_path / "result"
    with new_folder(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
    assert (target / "a").read_text() == "1"
    assert names(tmp_path) == ["result"]


def test_a_failure_leaves_no_folder(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        write_atomic(folder / "a", "1")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "result") as folder:
        fail(folder)
    assert names(tmp_path) == []


def test_a_folder_is_replaced_only_on_request(tmp_path: Path) -> None:
    target = tmp_path / "result"
    for content in ("old", "new"):
        with new_folder(target, force=content == "new") as folder:
            (folder / content).touch()
    assert names(target) == ["new"]
    with pytest.raises(OutputError, match="exists already"), new_folder(target):
        pass
    with pytest.raises(OutputError), new_folder(target, force=True) as folder:
        (folder / "missing").rename(tmp_path)
    assert names(target) == ["new"]
    assert names(tmp_path) == ["result"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_tensors_come_back_to_the_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "whole": torch.randn(3, 4, generator=generator).to(dtype),
        "empty": torch.zeros(0, 2, dtype=dtype),
    }
    tensors["turned"] = tensors["whole"].T
    save_tensors(tmp_path / "x.safetensors", tensors, {"note": "ä"})
    loaded, header = load_tensors(tmp_path / "x.safetensors")
    assert header == {"note": "ä"}
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)
    assert all(loaded[name].dtype == dtype for name in tensors)


def test_the_sum_is_the_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
