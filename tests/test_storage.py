"""What is stored appears whole or not at all, and a refused write is one message."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instructedit.errors import OutputError
from instructedit.processes import started
from instructedit.storage import (
    _beside,
    cannot_write,
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


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "full"])
def test_a_folder_is_whole_wherever_its_replacement_stops(tmp_path: Path, how: str) -> None:
    driver = Path(__file__).parent / "storage_crashes.py"
    subprocess.run([sys.executable, str(driver), str(tmp_path), how], check=True, timeout=240)
    places = sorted(tmp_path.iterdir())
    assert len(places) > 10
    gone = 0
    for place in places:
        target = place / "result"
        before = names(place)
        gone += not target.exists()
        with pytest.raises(OutputError, match="exists already"):
            check_place(target, force=False)
        assert names(place) == before  # a check moves nothing
        with pytest.raises(OutputError, match="exists already"), new_folder(target):
            pass
        assert names(place) == ["result"]  # what the stopped process had begun is gone
        assert names(target) in (["old"], ["new"])
        assert read_json(next(target.iterdir())) == ["whole"]
        with new_folder(target, force=True) as folder:
            (folder / "newer").touch()
        assert names(target) == ["newer"]
    assert gone < 3


@pytest.mark.parametrize("inside", ["store.json", "office/store.json", "of/all/offices/store.json"])
def test_a_store_is_never_replaced(tmp_path: Path, inside: str) -> None:
    write_json(tmp_path / "result" / inside, {})
    with pytest.raises(OutputError, match="is a store"), new_folder(tmp_path / "result", force=True):
        pass
    assert (tmp_path / "result" / inside).is_file()


def test_what_other_processes_are_at_is_left_alone(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    begun, mine = _beside(tmp_path / "result", "new").name, f"-{os.getpid()}-{started(os.getpid())}."
    places = {
        "begun": begun.replace(mine, f"-{child.pid}-{started(child.pid)}."),
        "elsewhere": begun.replace(mine, "x-1-1."),  # another machine's
        "other": f".result{begun.removeprefix('.result')}.old",  # of another name
        "mine": ".result.notes",
    }
    again = begun.replace(mine, f"-{os.getpid()}-1.")  # of another process that had this one's number
    for name in (*places.values(), again):
        (tmp_path / name).mkdir()
    with new_folder(tmp_path / "result"):
        pass
    assert names(tmp_path) == sorted([*places.values(), "result"])
    child.communicate(b"\n")
    with new_folder(tmp_path / "result", force=True):
        pass
    assert names(tmp_path) == sorted([*(places[name] for name in ("elsewhere", "other", "mine")), "result"])


@pytest.mark.parametrize("where", ["os.fsync", "os.fdopen"])
def test_an_interruption_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    write_atomic(tmp_path / "file.txt", "old")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"instructedit.storage.{where}", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file.txt", "new")
    assert names(tmp_path) == ["file.txt"]
    assert (tmp_path / "file.txt").read_text() == "old"


def test_an_interrupted_replacement_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomic(tmp_path / "result" / "old", "")
    real, calls = Path.replace, []

    def replace(source: Path, goal: Path) -> Path:
        calls.append(source)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(source, goal)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "result", force=True):
        pass
    assert names(tmp_path) == ["result"]
    assert names(tmp_path / "result") == ["old"]


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o077, 0o600, 0o700), (0o002, 0o664, 0o775)])
def test_the_umask_says_who_may_read(tmp_path: Path, mask: int, file: int, folder: int) -> None:
    before = os.umask(mask)
    try:
        with new_folder(tmp_path / "result") as place:
            write_atomic(place / "file", "1")
    finally:
        os.umask(before)
    assert (tmp_path / "result").stat().st_mode & 0o777 == folder
    assert (tmp_path / "result" / "file").stat().st_mode & 0o777 == file


def test_space_is_to_be_made_only_where_there_is_none(tmp_path: Path) -> None:
    for number, wanted in ((errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EACCES, False)):
        said = str(cannot_write(tmp_path, OSError(number, os.strerror(number))))
        assert ("Free some space" in said) == wanted
        assert "run it again" in said
    assert "Free some space" in str(cannot_write(tmp_path, RuntimeError("I/O error (os error 28)")))


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
