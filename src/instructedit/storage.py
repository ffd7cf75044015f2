"""Everything the project stores goes through here: safetensors and JSON, written whole or not at all."""

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instructedit.errors import DataError, InstructEditError, OutputError, one_line

if TYPE_CHECKING:
    from torch import Tensor


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part.

    Errors: `OutputError` when the disk is full or writing is not allowed; the old file is kept.
    """
    path = Path(path)
    payload = data.encode() if isinstance(data, str) else data
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: Exception) -> OutputError:
    """The one message for a write that the system refused."""
    reason = getattr(error, "strerror", None) or one_line(error) or type(error).__name__
    return OutputError(
        f"cannot write {path}: {reason}. Free some space or choose another place, then run it again."
    )


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
def new_folder(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` when the block ends well and vanishes when it does not.

    Errors: `OutputError` as `check_place`, and when `path` is a file or cannot be written.
    """
    path = Path(path)
    check_place(path, force=force)
    if path.is_file():
        raise OutputError(f"{path} is a file, and a folder is to be written. Choose another place.")
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        yield temporary
        temporary.chmod(0o755)
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


def check_place(path: Path, *, force: bool) -> None:
    """See that something new may be written at `path`; with `force`, in the place of what is there.

    What a killed process had set aside to replace it is put back first.
    Errors: `OutputError` when it exists and `force` is not given, or when it is a store or holds one.
    """
    old = next(path.parent.glob(f"{_aside(glob.escape(path.name))}*/{glob.escape(path.name)}"), None)
    if old is not None and not path.exists():
        with suppress(OSError):
            old.replace(path)
            old.parent.rmdir()
    if path.exists() and not force:
        raise OutputError(f"{path} exists already. Choose another folder, or pass --force to replace it.")
    if store := next((found for depth in ("", "*/") for found in path.glob(f"{depth}store.json")), None):
        raise OutputError(
            f"{store.parent} is a store, the record of edits, and is not replaced. Choose another place, or "
            "remove it yourself."
        )


def _aside(name: str) -> str:
    """How the folder is called, but for an ending, in which what was at `name` waits to be replaced."""
    return f".{name}.old."


def _replace_folder(source: Path, path: Path) -> None:
    """Rename `source` to `path`; an older `path` steps aside first, comes back on failure, and goes last."""
    if not path.exists():
        source.replace(path)
        return
    place = Path(tempfile.mkdtemp(dir=path.parent, prefix=_aside(path.name)))
    aside = place / path.name
    try:
        path.replace(aside)
        source.replace(path)
    except OSError:
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
