"""Where a model came from: the GGUF file behind the default model, or the one that was loaded."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from instructedit.backbone.default_model import SOURCE_FILE, fetch_gguf, find_gguf
from instructedit.backbone.loading import resolve
from instructedit.errors import ModelError
from instructedit.storage import read_json, sha256_file


@contextmanager
def original_gguf(model: str | None, *, download: bool = False) -> Iterator[Path | None]:
    """The GGUF file that a model's weights come from, for as long as the block lasts.

    `model` is what the user typed. None where the weights come from elsewhere, or where the file is not at
    hand and `download` is not given. Errors: `ModelError` when it cannot be fetched, or is not the file that
    the model was converted from.
    """
    source = resolve(model) if model else None
    if not isinstance(source, Path) or source.is_file():
        yield source if isinstance(source, Path) else None
        return
    record = source / SOURCE_FILE
    if not record.is_file():
        yield None
        return
    with tempfile.TemporaryDirectory() as place:
        file = find_gguf() or (fetch_gguf(Path(place)) if download else None)
        if file is not None and sha256_file(file) != read_json(record)["sha256"]:
            raise ModelError(
                f"{file.name} is not the file that {source} was converted from. Remove that folder and run "
                "`instructedit model` to convert it anew."
            )
        yield file
