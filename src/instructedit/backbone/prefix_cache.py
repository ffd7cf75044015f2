"""A folder of prefix states: what enters the first edited block, computed once for every text."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from instructedit.backbone.backbone import Backbone, Text
from instructedit.errors import OutputError
from instructedit.storage import save_tensors

SHARD_TEXTS = 512  # texts a file: at most this much work is lost in a crash
HALF_LIMIT = 60_000.0  # beyond this float16 overflows and the shard is kept in bfloat16

Encode = Callable[[Sequence[Text]], list[Tensor]]
Track = Callable[[list[list[Text]]], Iterable[list[Text]]]


class PrefixCache:
    """Prefix states in half precision, keyed by model, first edited block and token ids.

    Files appear whole (temporary name, then rename), so a crash loses at most the shard in work.
    A state comes back rounded to half precision even when it has just been computed, so a run is
    the same whether its cache was warm or cold. Errors: `OutputError` when its folder cannot be made.
    """

    def __init__(self, folder: Path, backbone: Backbone) -> None:
        key = f"{backbone.checksum}|{backbone.first_block}|{backbone.dtype}|{backbone.start_ids}"
        self.folder = Path(folder) / hashlib.sha256(key.encode()).hexdigest()[:16]
        _make(self.folder)
        self.dtype = backbone.dtype
        self._where: dict[bytes, tuple[int, int, int]] = {}  # digest -> shard, first row, past-last row
        self._shards: list[Any] = []
        for path in sorted(self.folder.glob("*.safetensors")):
            self._open(path)

    def of(self, backbone: Backbone) -> "PrefixCache":
        """The cache beside this one of a model that is cut elsewhere; this one where it is not."""
        other = PrefixCache(self.folder.parent, backbone)
        return self if other.folder == self.folder else other

    def __len__(self) -> int:
        return len(self._where)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))

    def _open(self, path: Path) -> None:
        try:
            shard = safe_open(str(path), framework="pt")
            digests, ends = shard.get_tensor("digests"), shard.get_tensor("ends").tolist()
        except (SafetensorError, OSError):  # a file cut short by a broken disk is computed again
            path.unlink(missing_ok=True)
            return
        starts = [0, *ends[:-1]]
        for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
            self._where[bytes(digests[row].tolist())] = (len(self._shards), start, end)
        self._shards.append(shard.get_slice("hidden"))

    def missing(self, texts: Iterable[Text]) -> list[Text]:
        """The texts that are not stored yet, each once."""
        return [text for key, text in {_digest(t): t for t in texts}.items() if key not in self._where]

    def fill(self, texts: Sequence[Text], encode: Encode, track: Track = iter) -> None:
        """Compute and store what is missing, a shard at a time.

        Texts that begin alike stand side by side, so that `encode` has their beginnings together. Shards are
        cut before what is stored is left out, so a run that was killed computes the rest in the same batches,
        to the bit. `track` may show progress over the shards.
        """
        ordered = sorted({text.ids: text for text in texts}.values(), key=lambda text: text.ids)
        shards = [ordered[start : start + SHARD_TEXTS] for start in range(0, len(ordered), SHARD_TEXTS)]
        for todo in track([todo for todo in map(self.missing, shards) if todo]):
            self._write(todo, encode)

    def _write(self, texts: Sequence[Text], encode: Encode) -> None:
        rows = encode(texts)
        hidden = torch.cat(rows)
        half = torch.bfloat16 if hidden.abs().max() > HALF_LIMIT else torch.float16
        digests = [_digest(text) for text in texts]
        name = hashlib.sha256(b"".join(digests)).hexdigest()[:24]
        tensors = {
            "hidden": hidden.to(half),
            "digests": torch.tensor([list(d) for d in digests], dtype=torch.uint8),
            "ends": torch.tensor([len(row) for row in rows]).cumsum(0),
        }
        path = self.folder / f"{name}.safetensors"
        save_tensors(path, tensors)
        self._open(path)

    def fetch(self, texts: Sequence[Text], encode: Encode) -> list[Tensor]:
        """One tensor ``[tokens, d]`` a text; what is missing is computed and stored first."""
        self.fill(texts, encode)
        return [self._read(_digest(text)) for text in texts]

    def _read(self, digest: bytes) -> Tensor:
        shard, start, end = self._where[digest]
        return self._shards[shard][start:end].to(self.dtype)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot keep prefix states in {folder.parent}: {error.strerror}. Expected a folder, or a place "
            "where one can be made."
        ) from error


def _digest(text: Text) -> bytes:
    return hashlib.sha256(str(text.ids).encode()).digest()[:16]
