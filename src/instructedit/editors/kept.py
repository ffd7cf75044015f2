"""What a model gives once and for all, such as what it reads in ordinary text, kept in the user's cache."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.backbone.checksum import weights_checksum
from instructedit.backbone.default_model import cache_folder
from instructedit.errors import OutputError
from instructedit.storage import load_tensors, save_tensors

Tensors = dict[str, Tensor]


class Shelf:
    """A folder of the cache, for one model with the weights that it has now.

    Nothing lies there for a model without a checksum, and nothing is put there while something is hung into
    one, such as an edit: what is found is of the model itself.
    """

    def __init__(self, backbone: Backbone, folder: str) -> None:
        self.folder = cache_folder() / folder if backbone.checksum else None
        self._model = f"{weights_checksum(backbone.model)}|{backbone.dtype}" if self.folder else ""
        self._hung = any(module._forward_hooks for module in backbone.model.modules())

    def find(self, told: object) -> Tensors | None:
        """What was put there for what is `told`, on the CPU; None where that is absent or broken."""
        try:
            return load_tensors(path)[0] if (path := self._place(told)) else None
        except (OSError, SafetensorError):
            return None

    def put(self, told: object, tensors: Tensors) -> None:
        """Keep tensors for what is `told`. Errors: `OutputError` where they cannot be written."""
        if (path := self._place(told)) and not self._hung:
            save_tensors(path, tensors)

    def _place(self, told: object) -> Path | None:
        key = hashlib.sha256(f"{self._model}|{told}".encode()).hexdigest()
        return self.folder / f"{key[:32]}.safetensors" if self.folder else None


def keep(backbone: Backbone, folder: str, told: object, make: Callable[[], Tensors]) -> Tensors:
    """The tensors that `make` gives for a model and what is `told`: from the cache, or made and kept there.

    Where the cache cannot be written they are made every time.
    """
    shelf = Shelf(backbone, folder)
    found = shelf.find(told)
    if found is None:
        found = make()
        with suppress(OutputError):
            shelf.put(told, found)
    return {name: tensor.to(backbone.device) for name, tensor in found.items()}
