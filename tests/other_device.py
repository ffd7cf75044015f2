"""A device that needs no hardware: tensors that claim to lie elsewhere, so that mixing is an error here too.

`Elsewhere` wraps a tensor of the CPU, where all is computed. Inside `elsewhere()` an operation that takes
tensors of both places raises, as it would with a GPU; indices may lie on the CPU, as they may there.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("lazy", 0)  # the only kind that autograd runs without a driver
CROSSING = ("_to_copy", "copy_", "_pack_padded_sequence")  # take both; the last wants lengths on the CPU
READS = ("_local_scalar_dense", "is_same_size", "equal")  # give no tensor
INDEXES = ("index", "index_put", "_index_put_impl", "_unsafe_index")


class Elsewhere(Tensor):
    """A tensor on `DEVICE`; `here` is the tensor of the CPU that holds its values."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "Elsewhere":
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype}
        return Tensor._make_wrapper_subclass(cls, here.shape, device=DEVICE, **layout)

    def __init__(self, here: Tensor) -> None:
        self.here = here

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(_listed(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        super().__setitem__(_listed(index), value)

    def data_ptr(self) -> int:
        return self.here.data_ptr()

    def tolist(self) -> Any:
        return self.here.tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Elsewhere({self.here})"

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, kwargs or {})


@contextmanager
def elsewhere() -> Iterator[torch.device]:
    """The device, for as long as the block lasts."""
    with _Made(), _Watched(), patch.object(torch, DEVICE.type, SimpleNamespace(), create=True):
        yield DEVICE


class _Watched(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _run(func, args, kwargs or {})


class _Made(TorchFunctionMode):
    """`torch.tensor` writes to a device by itself, where no dispatch is seen."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and _is_away(given.get("device")):
            return func(*args, **{**given, "device": "cpu"}).to(DEVICE)
        if getattr(func, "__name__", "") == "new_tensor" and isinstance(args[0], Elsewhere):
            return torch.tensor(args[1], dtype=given.get("dtype") or args[0].dtype).to(DEVICE)
        return func(*args, **given)


def _run(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    name = func.overloadpacket.__name__
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    away = any(isinstance(x, Elsewhere) for x in tensors)
    asked = kwargs.get("device")
    here = {**kwargs, "device": torch.device("cpu")} if _is_away(asked) else kwargs
    if name not in (*CROSSING, *READS):
        _refuse_mixed(name, args, tensors if away else [])
    found = func(*tree_map(_take, args), **tree_map(_take, here))
    if name in READS:
        return found
    if name.endswith("_") and isinstance(args[0], Tensor):
        return args[0]
    if name == "_pack_padded_sequence":  # whose lengths stay
        return _put(found[0]), found[1]
    goes = _is_away(asked) if asked is not None else away
    return tree_map(_put, found) if goes else found


def _refuse_mixed(name: str, args: Sequence[Any], tensors: Sequence[Tensor]) -> None:
    """A single number of the CPU goes with anything, and so do indices."""
    if name.rstrip("_") in INDEXES:
        if tensors and not isinstance(args[0], Elsewhere):
            raise RuntimeError(f"{name} takes tensors of two devices: the indices lie elsewhere")
        tensors = [x for x in args if isinstance(x, Tensor)] if tensors else []
    places = {isinstance(x, Elsewhere) for x in tensors if x.dim()}
    if len(places) > 1:
        shapes = [tuple(x.shape) for x in tensors if x.dim() and not isinstance(x, Elsewhere)]
        raise RuntimeError(f"{name} takes tensors of two devices: {shapes} lie on the CPU")


def _is_away(device: Any) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type


def _listed(index: Any) -> Any:
    """An index with its lists as tensors, which a device would make by itself."""
    parts = index if isinstance(index, tuple) else (index,)
    made = tuple(torch.tensor([*x], dtype=torch.long) if isinstance(x, list | range) else x for x in parts)
    return made if isinstance(index, tuple) else made[0]


def _put(x: Any) -> Any:
    return Elsewhere(x) if isinstance(x, Tensor) and not isinstance(x, Elsewhere) else x


def _take(x: Any) -> Any:
    return x.here if isinstance(x, Elsewhere) else x
