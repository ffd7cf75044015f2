"""CaliNet: a few neurons beside an FFN that calibrate what it says, and the weights stay as they are."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from instructedit.backbone import Backbone
from instructedit.editors.batches import Batches
from instructedit.editors.descent import Descent, descend, edit_texts
from instructedit.editors.epochs import descend_together
from instructedit.editors.location import output_projections
from instructedit.editors.registry import Result
from instructedit.errors import ModelError
from instructedit.types import EditCase


@dataclass(frozen=True)
class Calibration:
    """`b` side networks of n neurons beside one FFN: ``FFN'(x) = FFN(x) + act(x keys.T) values``.

    `reads` is the layer that takes the FFN's input and `writes` the one that gives its output; act is the
    FFN's own nonlinearity. Shapes: keys and values ``[b n d]``, d the model's width.
    """

    reads: str
    writes: str
    keys: Float[Tensor, "b n d"]
    values: Float[Tensor, "b n d"]

    def __len__(self) -> int:
        return len(self.keys)

    def merge(self) -> "Calibration":
        """One side network with the neurons of all: it adds what all of them add."""
        return replace(self, keys=self.keys.flatten(0, 1)[None], values=self.values.flatten(0, 1)[None])

    @property
    def memory(self) -> int:
        """How many numbers one edit adds to the model: 2 n d."""
        return self.keys[0].numel() + self.values[0].numel()

    @contextmanager
    def applied_to(self, model: Any, rows: Int[Tensor, " rows"] | None = None) -> Iterator[None]:
        """Let the model answer as calibrated for as long as the block lasts; no weight is written.

        `model` and `rows` are as in `LowRankDelta.applied_to`.
        """
        root: nn.Module = getattr(model, "model", model) if not isinstance(model, nn.Module) else model
        act = _nonlinearity(root.get_submodule(self.writes.rpartition(".")[0]))
        keys, values = self.keys, self.values
        if rows is not None and len(self) > 1:
            keys, values = keys.index_select(0, rows), values.index_select(0, rows)
        inputs: list[Tensor] = []
        write = partial(_write, inputs, keys, values, act)
        reader = root.get_submodule(self.reads).register_forward_pre_hook(partial(_read, inputs))
        writer = root.get_submodule(self.writes).register_forward_hook(write)
        try:
            yield
        finally:
            reader.remove()
            writer.remove()


def _read(inputs: list[Tensor], _module: nn.Module, args: tuple[Tensor, ...]) -> None:
    """Keep what the FFN reads until it writes."""
    inputs[:] = args[:1]


def _write(
    inputs: list[Tensor],
    keys: Tensor,
    values: Tensor,
    act: nn.Module,
    _module: nn.Module,
    _args: tuple[Tensor, ...],
    output: Tensor,
) -> Tensor:
    """Add what the calibration neurons make of it to what the FFN writes."""
    x = inputs.pop()
    grouped = x.reshape(len(keys), -1, x.shape[-1])
    keys, values = keys.to(x.device, x.dtype), values.to(x.device, x.dtype)
    return output + (act(grouped @ keys.mT) @ values).reshape(output.shape)


def _nonlinearity(ffn: nn.Module) -> nn.Module:
    """The FFN's own activation; the paper's GELU where it has none that is a module."""
    plain = [child for child in ffn.children() if next(child.parameters(), None) is None]
    return next((child for child in plain if not isinstance(child, nn.Dropout | nn.Identity)), nn.GELU())


@dataclass(frozen=True)
class CaliNet:
    """Calibration neurons (memory slots) beside the last block's FFN, trained on the edit's answer.

    The neurons have the form of an FFN of n instead of thousands of inner units and are added to it, as in
    Dong et al. Number, place and rate are those of the authors' run on T5-base; they train on
    many wordings of 100 facts for 5,000 steps of Adafactor, here it is the one request and Adam. Keys start
    Gaussian and values at zero. A sentiment's target is its carrier, the same for both sentiments.
    """

    name: ClassVar[str] = "calinet"
    paper: ClassVar[str] = "Dong et al. 2022, arXiv 2210.03329"
    result: ClassVar[Result] = "codebook"
    depth: ClassVar[float | None] = 1.0

    neurons: int = 64
    lr: float = 1e-2
    steps: int = 100
    weight_decay: float = 0.0
    loss: float = 0.01  # nats a token
    seed: int = 0  # of the keys

    def edit(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str] | None = None
    ) -> Calibration:
        """One side network a case; instructions are not read.

        Errors: `ModelError` when the backbone's sites do not hold the FFN's first and last layer.
        """
        return descend(
            backbone, edit_texts(backbone, cases), *self._start(backbone, len(cases)), self._settings
        )

    def in_sequence(self, backbone: Backbone) -> Batches[Calibration]:
        """The method for many edits: one side network for all of them, as the authors train it."""
        return Batches(self.name, self.edit_together)

    def edit_together(self, backbone: Backbone, cases: Sequence[EditCase]) -> Calibration:
        """One side network for all cases (b = 1), `steps` epochs long; errors as `edit`."""
        return descend_together(
            backbone, edit_texts(backbone, cases), *self._start(backbone, 1), self._settings
        )

    @property
    def _settings(self) -> Descent:
        return Descent(self.steps, self.lr, self.weight_decay, self.loss)

    def _start(
        self, backbone: Backbone, count: int
    ) -> tuple[dict[str, Tensor], Callable[[dict[str, Tensor]], Calibration]]:
        """The numbers of so many side networks before training, and how they make a change."""
        writes, width = output_projections(backbone)[0], backbone.width
        reads = [site for site in backbone.sites if site.block == writes.block and site.d_in == width]
        if not reads:
            raise ModelError(
                f"no site of block {writes.block} reads the FFN's input of {width} numbers. "
                "Leave out --sites, or name the MLP's first layer as well."
            )
        generator = torch.Generator().manual_seed(self.seed)
        keys = torch.randn(self.neurons, width, generator=generator) / width**0.5
        keys = keys.to(backbone.device).repeat(count, 1, 1)
        start = {"keys": keys, "values": torch.zeros_like(keys)}
        return start, lambda parameters: Calibration(reads[0].name, writes.name, **parameters)
