"""Everything the project stores goes through here: safetensors and JSON, written whole or not at all."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instructedit.errors import DataError, OutputError, one_line

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


def cannot_write(path: Path, error: OSError) -> OutputError:
    """The one message for a write that the system refused."""
    reason = error.strerror or type(error).__name__
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

    Errors: `OutputError` when `path` exists and `force` is not given, or cannot be written.
    """
    path = Path(path)
    if path.exists() and not force:
        raise OutputError(f"{path} exists already. Choose another folder, or pass --force to replace it.")
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        yield temporary
        temporary.chmod(0o755)
        _replace_folder(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _replace_folder(source: Path, path: Path) -> None:
    """Rename `source` to `path`; an older `path` steps aside first and is removed last."""
    if not path.exists():
        source.replace(path)
        return
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old.")) / path.name
    path.replace(aside)
    source.replace(path)
    shutil.rmtree(aside.parent, ignore_errors=True)


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
