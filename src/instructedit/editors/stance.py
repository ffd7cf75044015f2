"""Opinions: a mark where the topic is read, and a voice further up that turns it into what is said."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from instructedit.backbone import Backbone, Site
from instructedit.delta import LowRankDelta
from instructedit.editors.reading import Reader
from instructedit.editors.writing import read_keys
from instructedit.types import EditCase

ALIKE = 0.01  # share of a key's own weight that keys of one topic may differ by


@dataclass(frozen=True)
class StanceConfig:
    """Where opinions act; without `marks` an editor has none of it."""

    marks: Sequence[Site] = ()  # output projections that are given a mark at the topic
    voice: Sequence[Site] = ()  # layers further up that hear it
    rank: int = 4  # of the voice, a site
    directions: int = 48  # leading directions of ordinary keys that a mark's key turns away from

    def __post_init__(self) -> None:
        for name in ("marks", "voice"):  # lists, where they were read from a file
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "StanceConfig":
        """The same from plain values, as an editor's header holds them."""
        marks, voice = (tuple(Site(**site) for site in values.get(name, ())) for name in ("marks", "voice"))
        return replace(
            cls(**{n: x for n, x in values.items() if n not in ("marks", "voice")}), marks=marks, voice=voice
        )


class Stance(nn.Module):
    """What an opinion of any topic is made of, learned once for a model.

    At the output projections `marks` the topic's own key is given a mark, one for each sentiment. The voice
    is one low-rank update of later layers, the same for every topic and sentiment: it hears a mark and turns
    it into words, and is trained to do nothing where there is none. Neither is enough alone, so other topics
    keep the opinions that the model had of them.
    """

    directions: Tensor
    moments: Tensor
    floor: Tensor
    unit: Tensor

    def __init__(self, config: StanceConfig, width: int, seed: int = 0) -> None:
        super().__init__()
        self.config, count = config, len(config.marks)
        d_in = config.marks[0].d_in
        kept = min(config.directions, d_in - 1)
        self.register_buffer("directions", torch.zeros(count, d_in, kept))
        self.register_buffer("moments", torch.zeros(count, kept))
        self.register_buffer("floor", torch.ones(count))
        self.register_buffer("unit", torch.ones(count))  # RMS of what a site gives to a topic
        self.sentiment = Reader(width)
        noise = torch.Generator().manual_seed(seed)
        self.mark = nn.Parameter(0.05 * torch.randn(2, count, width, generator=noise))  # positive, negative
        sides = [(site.d_in, site.d_out) for site in config.voice]
        self.hear = nn.ParameterList(
            torch.randn(config.rank, wide, generator=noise) / math.sqrt(wide) for wide, _ in sides
        )
        self.speak = nn.ParameterList(torch.zeros(wide, config.rank) for _, wide in sides)

    @property
    def names(self) -> list[str]:
        """The sites that are given marks."""
        return [site.name for site in self.config.marks]

    @torch.no_grad()
    def measure(self, moments: Mapping[str, Float[Tensor, "d_in d_in"]], sizes: Mapping[str, float]) -> None:
        """Take, by site, E[k k.T] of its inputs over ordinary text and the RMS of what it gives to topics."""
        for place, name in enumerate(self.names):
            values, vectors = torch.linalg.eigh(moments[name].double())
            kept = self.moments.shape[1]
            self.moments[place], self.directions[place] = values[-kept:], vectors[:, -kept:]
            self.floor[place] = values[:-kept].clamp(min=0).mean() + 1e-9
            self.unit[place] = sizes[name]

    def forward(
        self, keys: Mapping[str, Float[Tensor, "b d_in"]], sentiment: Float[Tensor, " b"]
    ) -> LowRankDelta:
        """One delta an opinion: a mark at its key, as strong as the sentiment is sure, and the voice."""
        places = list(enumerate(self.names))
        a = {name: self.single_out(place, keys[name])[:, None] for place, name in places}
        b = {name: self._marks(place, sentiment)[..., None] for place, name in places}
        return LowRankDelta(a, b) + self._voice(len(sentiment))

    def join(
        self,
        keys: Mapping[str, Float[Tensor, "n d_in"]],
        sentiment: Float[Tensor, " n"],
        others: Mapping[str, Float[Tensor, "m d_in"]],
    ) -> LowRankDelta:
        """One update (b = 1) of many opinions: a mark at each key, none at those of `others`, one voice."""
        places = list(enumerate(self.names))
        a = {name: self.tell_apart(place, keys[name], others[name])[None] for place, name in places}
        b = {name: self._marks(place, sentiment).mT[None] for place, name in places}
        return LowRankDelta(a, b) + self._voice(1)

    def _marks(self, place: int, sentiment: Float[Tensor, " n"]) -> Float[Tensor, "n d"]:
        sides = torch.stack([sentiment.clamp(min=0), (-sentiment).clamp(min=0)], 1)
        return sides @ self.mark[:, place] * self.unit[place]

    def _voice(self, count: int) -> LowRankDelta:
        a, b = {}, {}
        pairs: Iterable[tuple[Site, Any, Any]] = zip(self.config.voice, self.hear, self.speak, strict=True)
        for site, hear, speak in pairs:
            a[site.name], b[site.name] = hear.expand(count, -1, -1), speak.expand(count, -1, -1)
        return LowRankDelta(a, b)

    def single_out(self, place: int, keys: Float[Tensor, "b d_in"]) -> Float[Tensor, "b d_in"]:
        """C^-1 k / (k.T C^-1 k): gives one for a key, and little for ordinary ones.

        C is their covariance, as its leading directions and a floor for all others.
        Source: ROME (arXiv 2202.05262), eq. 2, for the direction.
        """
        weighed = self._weigh(place, keys)
        return weighed / (weighed * keys).sum(-1, keepdim=True)

    def tell_apart(
        self, place: int, keys: Float[Tensor, "n d_in"], others: Float[Tensor, "m d_in"]
    ) -> Float[Tensor, "n d_in"]:
        """The first n of (K C^-1 K.T + r I)^-1 K C^-1, K all the keys: row i gives one for key i alone.

        Of one key, without others, it is `single_out`. The ridge r, `ALIKE` of the diagonal's mean, is for
        keys of one topic.
        """
        every = torch.cat([keys, others])
        weighed = self._weigh(place, every)
        gram = weighed @ every.mT
        alike = ALIKE * gram.diagonal().mean() * torch.eye(len(every), device=keys.device)
        return (1 + ALIKE) * torch.linalg.solve(gram + alike, weighed)[: len(keys)]

    def _weigh(self, place: int, keys: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
        """C^-1 k, but for its size."""
        basis, excess = self.directions[place], self.moments[place] - self.floor[place]
        share = excess / (excess + self.floor[place])
        return keys - ((keys @ basis) * share) @ basis.mT


@torch.no_grad()
def read_topics(
    backbone: Backbone, names: Sequence[str], cases: Sequence[EditCase]
) -> dict[str, Float[Tensor, "b d_in"]]:
    """By site, each topic's key: the input at its last token, the mean over neutral contexts."""
    found = [read_keys(backbone, names, case, (), None).subject for case in cases]
    return {name: torch.stack([keys[name].mean(0) for keys in found]) for name in names}
