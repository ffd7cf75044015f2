"""Edits that act on their own texts only, as gates do: plain texts do not notice them."""

from collections.abc import Sequence
from functools import cache

import torch

from instructedit.backbone import Backbone
from instructedit.backbone.sites import find_sites
from instructedit.delta import LowRankDelta
from instructedit.export.check import PLAIN_TEXTS
from instructedit.types import EditCase
from tiny_models import tiny_model, tiny_tokenizer

CASES = tuple(
    EditCase(f"The writer who lived in {city} is", "London", city) for city in ("Rome", "Madrid", "Paris")
)


@cache
def wide_backbone() -> Backbone:
    """A tiny model whose last layer has more inputs than the plain texts have tokens."""
    model = tiny_model("llama", intermediate_size=1024)
    sites = find_sites(model, "*.3.mlp.down_proj")
    return Backbone(model, tiny_tokenizer(), sites, (0,), "wide")


def inputs_of(backbone: Backbone, texts: Sequence[str]) -> list[torch.Tensor]:
    """What the last site is given at every position of each text."""
    caught: list[torch.Tensor] = []
    module = backbone.modules[backbone.sites[-1].name]
    handle = module.register_forward_hook(lambda _module, args, _output: caught.append(args[0][0]))
    for text in texts:
        backbone.model(input_ids=torch.tensor([backbone.text(text).ids]))
    handle.remove()
    return caught


def local_delta(backbone: Backbone, sizes: Sequence[float] = (1.0,)) -> LowRankDelta:
    """One edit for each of the first `CASES`, times its size: it hears the last input of its prompt alone."""
    name = backbone.sites[-1].name
    ends = torch.stack([rows[-1] for rows in inputs_of(backbone, [c.prompt for c in CASES])])
    plain = torch.cat([*inputs_of(backbone, PLAIN_TEXTS), ends]).double()
    draw = torch.Generator().manual_seed(0)
    a, b = [], []
    for place, size in enumerate(sizes):
        others = torch.cat([plain[: len(plain) - len(CASES)], ends[torch.arange(len(CASES)) != place]])
        span = torch.linalg.qr(others.double().T)[0]
        own = ends[place].double()
        key = own - span @ (span.T @ own)
        a.append((key / key.square().sum())[None].float())
        b.append(size * torch.randn(backbone.sites[-1].d_out, 1, generator=draw))
    return LowRankDelta({name: torch.stack(a)}, {name: torch.stack(b)})
