"""What is stored appears whole or not at all, and a refused write is one message."""

import errno
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instructedit.errors import OutputError
from instructedit.storage import (
    check_place,
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


@pytest.mark.parametrize("failing", [1, 2])
def test_a_folder_that_cannot_be_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    target = tmp_path / "result"
    with new_folder(target) as folder:
        (folder / "old").touch()
    real, calls = Path.replace, []

    def replace(source: Path, goal: Path) -> Path:
        calls.append(source)
        if len(calls) == failing:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return real(source, goal)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OutputError, match="Invalid cross-device link"), new_folder(target, force=True):
        pass
    assert names(tmp_path) == ["result"]
    assert names(target) == ["old"]


@pytest.mark.parametrize("how", ["kill", "full"])
def test_a_folder_is_whole_wherever_its_replacement_stops(tmp_path: Path, how: str) -> None:
    driver = Path(__file__).parent / "storage_crashes.py"
    subprocess.run([sys.executable, str(driver), str(tmp_path), how], check=True, timeout=240)
    places = sorted(tmp_path.iterdir())
    assert len(places) > 10
    gone = 0
    for place in places:
        target = place / "result"
        gone += not target.exists()
        with suppress(OutputError):
            check_place(target, force=False)
        assert names(target) in (["old"], ["new"])
        assert read_json(next(target.iterdir())) == ["whole"]
        with new_folder(target, force=True) as folder:
            (folder / "newer").touch()
        assert names(target) == ["newer"]
    assert gone < 3


@pytest.mark.parametrize("inside", ["store.json", "office/store.json"])
def test_a_store_is_never_replaced(tmp_path: Path, inside: str) -> None:
    write_json(tmp_path / "result" / inside, {})
    with pytest.raises(OutputError, match="is a store"), new_folder(tmp_path / "result", force=True):
        pass
    assert (tmp_path / "result" / inside).is_file()


def test_the_current_folder_is_refused_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError), new_folder(Path(), force=True):
        pass
    assert names(tmp_path) == []


def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="is a file"), new_folder(tmp_path / "notes.txt", force=True):
        pass
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_errors_of_other_libraries_say_that_the_disk_is_full(tmp_path: Path) -> None:
    said = "Error while serializing: I/O error: No space left on device (os error 28)"
    for error, kind in ((RuntimeError(said), OutputError), (RuntimeError("other"), RuntimeError)):
        with pytest.raises(kind), new_folder(tmp_path / "result"):
            raise error
    assert names(tmp_path) == []


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
