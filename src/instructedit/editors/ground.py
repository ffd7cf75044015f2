"""The ground that gates are built on: the neurons of a block, and what ordinary text reads there."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor

from instructedit.backbone import Backbone, Text, like_length
from instructedit.backbone.neurons import Neurons, find_neurons
from instructedit.backbone.sites import is_transposed
from instructedit.editors.kept import keep
from instructedit.editors.ordinary import ordinary_texts
from instructedit.factors import watch_sites

TOKENS = 600  # of one pass, padding counted
SPARE = 0.25  # of all neurons, those that ordinary text uses least, may be taken for gates
RIDGE = 1e-3  # of the mean square of what ordinary text reads


@dataclass(frozen=True)
class Ground:
    """The `neurons` of a block, and the model cut below it, or below the first of several.

    `rows` is what its MLP reads in ordinary text, whose tokens are `ids`, `one` the direction along which
    every such row is about 1, `size` the root mean square of what the MLP gives, and `usual` that of its
    median row. `spare` are the neurons that ordinary text uses least, the least used first, of `inner` that
    there are: by layer what each `reads` with, constants told by way of `one`, and what each `writes`.
    """

    top: Backbone
    neurons: Neurons
    rows: Float[Tensor, "n d"]
    ids: Int[Tensor, " n"]
    one: Float[Tensor, " d"]
    size: float
    usual: float
    inner: int
    spare: Int[Tensor, " m"]
    reads: dict[str, Float[Tensor, "m d"]]
    writes: Float[Tensor, "m d"]


def reorder(ground: Ground, spare: Int[Tensor, " m"]) -> Ground:
    """The same with its spare neurons in another order; those that it does not have itself are left out."""
    own = {neuron: place for place, neuron in enumerate(ground.spare.tolist())}
    places = torch.tensor([own[neuron] for neuron in spare.tolist() if neuron in own], dtype=torch.long)
    places = places.to(ground.spare.device)
    reads = {name: rows[places] for name, rows in ground.reads.items()}
    return replace(ground, spare=ground.spare[places], reads=reads, writes=ground.writes[places])


class Grounds:
    """The grounds under backbones, each surveyed once for one number of rows and one text, on first use."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Backbone, dict[tuple[int, str], Ground | None]] = WeakKeyDictionary()

    def of(self, backbone: Backbone, count: int, text: str = "") -> Ground | None:
        """As `survey`."""
        known = self._known.setdefault(backbone, {})
        if (count, text) not in known:
            known[count, text] = survey(backbone, count, text)
        return known[count, text]


@torch.no_grad()
def survey(backbone: Backbone, count: int, text: str = "") -> Ground | None:
    """The ground under a model, by about `count` rows of ordinary text; None for an MLP of another build.

    `text` is a file of such text: none is the package's own.
    """
    neurons = find_neurons(backbone, len(backbone.blocks) - 1)
    return survey_blocks(backbone, [neurons], count, text)[0] if neurons else None


@torch.no_grad()
def survey_blocks(
    backbone: Backbone, known: Sequence[Neurons], count: int, text: str = "", share: float = SPARE
) -> list[Ground]:
    """As `survey`, the grounds of several blocks whose neurons are known, read at once.

    A `share` of all neurons is spare.
    """
    top = backbone.cut_at([name for neurons in known for name in neurons.names])
    texts = ordinary_texts(backbone, text)
    some = texts[:: max(1, sum(len(passage.ids) for passage in texts) // count)]
    ids = torch.tensor([token for passage in some for token in passage.ids], device=backbone.device)
    told = [[neurons.names for neurons in known], [passage.ids for passage in some]]
    read = keep(backbone, "ground", told, lambda: _read(top, known, some))
    return [_ground(top, neurons, read, ids, share) for neurons in known]


def _read(top: Backbone, known: Sequence[Neurons], texts: Sequence[Text]) -> dict[str, Tensor]:
    """What blocks read in some texts, `[n d]`, how much their neurons pass on, `[m]`, and the square of what
    they give, `[n]`."""
    read = read_rows(top, texts, [name for neurons in known for name in (neurons.gate, neurons.down)])
    found: dict[str, Tensor] = {}
    for neurons in known:
        rows, used = (torch.cat([keys[name] for keys in read]) for name in (neurons.gate, neurons.down))
        squares = (used @ _linear(top, neurons.down)[0]).square().mean(1)
        found |= zip(_parts(neurons), (rows, used.abs().mean(0), squares), strict=True)
    return found


def _parts(neurons: Neurons) -> tuple[str, str, str]:
    return f"{neurons.gate}:rows", f"{neurons.down}:used", f"{neurons.down}:squares"


def _ground(
    top: Backbone, neurons: Neurons, read: Mapping[str, Tensor], ids: Int[Tensor, " n"], share: float
) -> Ground:
    rows, used, squares = (read[part] for part in _parts(neurons))
    one, writes = _constant(rows), _linear(top, neurons.down)[0]
    spare = (used * writes.norm(dim=1)).argsort()[: int(share * len(writes))]
    layers = {name: _linear(top, name) for name in neurons.names if name != neurons.down}
    reads = {name: w.mT[spare] + bias[spare, None] * one for name, (w, bias) in layers.items()}
    size, usual = float(squares.mean().sqrt()), float(squares.median().sqrt())
    return Ground(top, neurons, rows, ids, one, size, usual, len(writes), spare, reads, writes[spare])


def _constant(rows: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
    """The direction along which rows are most nearly 1: a ridge solution."""
    square = rows.mT.double() @ rows.double() / len(rows)
    damped = square + RIDGE * square.diagonal().mean() * torch.eye(len(square), device=rows.device)
    return torch.linalg.solve(damped, rows.double().mean(0)).float()


def _linear(backbone: Backbone, name: str) -> tuple[Float[Tensor, "d_in d_out"], Float[Tensor, " d_out"]]:
    """A layer's weights, transposed, and its constants, however they are stored.

    What stands there in half precision is read as it is: in its units, w + b - b is another number than w.
    """
    module = backbone.modules[name]
    site = next(site for site in backbone.sites if site.name == name)
    bias, device = getattr(module, "bias", None), backbone.device
    constants = torch.zeros(site.d_out, device=device) if bias is None else bias.float().to(device)
    weight: Any = module.weight
    if weight.is_floating_point() and weight.element_size() > 1:
        rows = weight.float() if is_transposed(module) else weight.float().mT
        return rows.to(device).contiguous(), constants
    told = module(torch.eye(site.d_in, device=device, dtype=backbone.dtype))  # a quantised one says it itself
    return told.float().to(device) - constants, constants


@torch.no_grad()
def read_rows(
    backbone: Backbone, texts: Sequence[Text], names: Collection[str]
) -> list[dict[str, Float[Tensor, "t _"]]]:
    """The inputs of some sites at every token of each text."""
    states = backbone.encode(texts)
    found: dict[int, dict[str, Tensor]] = {}
    for part in like_length(range(len(texts)), texts, TOKENS):
        with watch_sites(backbone) as (inputs, _):
            backbone.top(backbone.pad_states([states[place] for place in part]), backbone.above(names))
        for row, place in enumerate(part):
            length = len(texts[place].ids)
            found[place] = {n: inputs[n][row, :length].float().to(backbone.device) for n in names}
    return [found[place] for place in range(len(texts))]
