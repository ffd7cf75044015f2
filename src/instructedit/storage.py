"""Everything the project stores goes through here: safetensors and JSON, written whole or not at all."""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instructedit.errors import DataError, InstructEditError, OutputError, one_line
from instructedit.processes import runs, started

if TYPE_CHECKING:
    from torch import Tensor


STORE = "store.json"  # marks the record of edits, which is never replaced
FORCED = "Choose another place, or pass --force to replace it."
SPACE = (errno.ENOSPC, errno.EDQUOT)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part.

    Errors: `OutputError` when the disk is full or writing is not allowed; the old file is kept.
    """
    path = Path(path)
    payload = data.encode() if isinstance(data, str) else data
    temporary = _beside(path, "new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:  # Ctrl-C too
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise


def cannot_write(path: Path, error: Exception) -> OutputError:
    """The one message for a write that the system refused."""
    reason = getattr(error, "strerror", None) or one_line(error) or type(error).__name__
    full = getattr(error, "errno", None) in SPACE or any(f"(os error {number})" in reason for number in SPACE)
    instead = (
        "Free some space or choose another place" if full else "Choose another place, or let it be written"
    )
    return OutputError(f"cannot write {path}: {reason}. {instead}, then run it again.")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file. Errors: `OSError` when it cannot be read; `ValueError` when it is broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_yaml(path: Path, what: str, expected: str = "Expected a YAML file.") -> Any:
    """Read a YAML file that a person wrote; `what` names it in the error.

    Errors: `DataError` when it cannot be read, or is no YAML.
    """
    import yaml

    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"cannot read {what} {path}: {one_line(error)}. {expected}") from error


@contextmanager
def new_folder(path: Path, *, force: bool = False, hint: str = FORCED) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` when the block ends well and vanishes when it does not.

    What processes that were killed had begun there is removed first, and what they had set aside put back.
    Errors: `OutputError` as `check_place`, and when `path` is a file or cannot be written.
    """
    path = Path(path)
    _clear(path)
    check_place(path, force=force, hint=hint)
    if path.is_file():
        raise OutputError(f"{path} is a file, and a folder is to be written. Choose another place.")
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _beside(path, "new")
        temporary.mkdir()
        yield temporary
        _replace_folder(temporary, path)
    except InstructEditError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and "(os error " not in str(error):
            raise
        raise cannot_write(path, error) from error  # safetensors and tokenizers hand on Rust's errors
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def check_place(path: Path, *, force: bool, hint: str = FORCED) -> Path | None:
    """See that something new may be written at `path`; with `force`, in the place of what is there.

    Gives what is there: at `path`, or set aside by a process that was killed as it replaced it. Nothing is
    moved. Errors: `OutputError` when there is something and `force` is not given, `hint` says what to try
    then; and when it is a store or holds one, however deep.
    """
    waiting = (place / path.name for place in _stopped(path, "old"))
    try:
        there = path if path.exists() else next((old for old in waiting if old.exists()), None)
    except OSError as error:  # what lies around it may not be looked into
        raise cannot_write(path, error) from error
    if there is not None and not force:
        aside = (
            "" if there == path else f", set aside as {there} by a process that was killed: move it back, or"
        )
        raise OutputError(f"{path} exists already{aside or '.'} {hint}")
    if there is not None and there.is_dir() and (store := next(there.rglob(STORE), None)):
        raise OutputError(
            f"{store.parent} is a store, the record of edits, and is not replaced. Choose another place, or "
            "remove it yourself."
        )
    return there


def _beside(path: Path, sort: str) -> Path:
    """A name beside `path` for what is being made (new) or replaced (old); it says by which process."""
    own = f"{_host()}-{os.getpid()}-{started(os.getpid())}"
    return path.parent / f".{path.name}.{own}.{secrets.token_hex(4)}.{sort}"


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "", socket.gethostname())[:32]


def _stopped(path: Path, sort: str) -> list[Path]:
    """What `_beside` named for `path` in processes of this machine that are gone."""
    own = rf"{re.escape(_host())}-([0-9]{{1,9}})-([0-9]*)"
    form = re.compile(rf"\.{re.escape(path.name)}\.{own}\.[0-9a-f]+\.{sort}")
    with suppress(OSError):  # the folder around it is not there, or cannot be read
        found = [(place, form.fullmatch(place.name)) for place in path.parent.iterdir()]
        return [place for place, made in found if made and not runs(int(made[1]), made[2])]
    return []


def _clear(path: Path) -> None:
    """Put back what killed processes had set aside to replace it, and remove what else they left there."""
    for place in _stopped(path, "old"):
        with suppress(OSError):
            if (place / path.name).exists() and not path.exists():
                (place / path.name).replace(path)
            shutil.rmtree(place)
    for place in _stopped(path, "new"):
        with suppress(OSError):
            if place.is_dir():
                shutil.rmtree(place)
            else:
                place.unlink()


def _replace_folder(source: Path, path: Path) -> None:
    """Rename `source` to `path`; an older `path` steps aside first, comes back on failure, and goes last."""
    if not path.exists():
        source.replace(path)
        return
    place = _beside(path, "old")
    place.mkdir()
    aside = place / path.name
    try:
        path.replace(aside)
        source.replace(path)
    except BaseException:
        if aside.exists() and not path.exists():
            aside.replace(path)
        with suppress(OSError):
            place.rmdir()
        raise
    aside.replace(place / "replaced")  # half removed, it must not be put back
    shutil.rmtree(place, ignore_errors=True)


def save_tensors(
    path: Path, tensors: Mapping[str, "Tensor"], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors and a string-to-string header as one safetensors file, atomically."""
    from safetensors.torch import save

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(Path(path), save(contiguous, dict(metadata or {})))


def load_tensors(path: Path) -> tuple[dict[str, "Tensor"], dict[str, str]]:
    """Read a safetensors file with its header.

    Errors: `OSError` when it cannot be read; `safetensors.SafetensorError` when it is broken.
    """
    from safetensors import safe_open

    with safe_open(str(path), framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
