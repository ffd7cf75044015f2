"""The neurons of an MLP: which of its layers they read with, and which they write with."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from instructedit.backbone.backbone import Backbone
from instructedit.backbone.hooks import catch_input
from instructedit.backbone.sites import find_sites, weight_shape


@dataclass(frozen=True)
class Neurons:
    """The layers of one block's MLP by dotted name: neuron j is row j of the first two, column j of `down`.

    What the row of `gate` reads goes through the activation. Where there is an `up`, it is multiplied by what
    that row reads.
    """

    gate: str
    up: str | None
    down: str

    @property
    def names(self) -> tuple[str, ...]:
        """The layers there are."""
        return tuple(name for name in (self.gate, self.up, self.down) if name)


def find_neurons(backbone: Backbone, block: int) -> Neurons | None:
    """The neurons of a block's MLP; None where its layers are of another build, such as two merged in one.

    Errors: `ModelError` as `find_sites`.
    """
    names = [site.name for site in find_sites(backbone.model, f"blocks={block}")]
    shapes = {name: weight_shape(backbone.model.get_submodule(name)) for name in names}
    down = next((name for name in reversed(names) if shapes[name][0] == backbone.width), "")
    if not down:
        return None
    readers = [name for name in names if name != down and shapes[name] == shapes[down][::-1]]
    if len(readers) == 1:
        return Neurons(readers[0], None, down)
    gates = [name for name in readers if not _keeps_sign(backbone, name, down)]
    if len(readers) != 2 or len(gates) != 1:
        return None
    return Neurons(gates[0], next(name for name in readers if name != gates[0]), down)


@torch.no_grad()
def _keeps_sign(backbone: Backbone, reader: str, down: str) -> bool:
    """Whether what reaches `down` merely turns its sign with what `reader` gives: no activation is there."""
    noise = torch.randn(1, 4, backbone.width, generator=torch.Generator().manual_seed(0))
    hidden = noise.to(backbone.device, backbone.dtype)
    plain, turned = (_reaching(backbone.model, reader, down, sign, hidden) for sign in (1.0, -1.0))
    return torch.allclose(plain, -turned, rtol=1e-2, atol=1e-4)


def _reaching(model: nn.Module, reader: str, down: str, sign: float, hidden: Tensor) -> Tensor:
    """What reaches `down` where the MLP reads `hidden` and what `reader` gives is multiplied by a sign."""
    caught: list[Tensor] = []
    with ExitStack() as hooks:
        turn = model.get_submodule(reader).register_forward_hook(lambda _m, _a, output: sign * output)
        look = model.get_submodule(down).register_forward_pre_hook(
            partial(catch_input, caught), with_kwargs=True
        )
        hooks.enter_context(turn)
        hooks.enter_context(look)
        model.get_submodule(down.rpartition(".")[0])(hidden)
    return caught[0]
