"""The moments of a site's inputs over ordinary text, kept in the cache, and edits in closed form by them."""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone, PrefixCache, Text
from instructedit.editors.kept import Shelf
from instructedit.editors.ordinary import ordinary_texts
from instructedit.factors import Factors, watch_sites
from instructedit.progress import track
from instructedit.statistics import SiteStatistics, scale_by_edit

GUARD = 1e-4  # share of the mean eigenvalue added to each, so that few texts give no singular matrix

Made = TypeVar("Made")
_KNOWN: WeakKeyDictionary[Backbone, dict[Any, Any]] = WeakKeyDictionary()


def remember(backbone: Backbone, key: object, make: Callable[[], Made]) -> Made:
    """What `make` gave for this backbone and key before; made once while it lives."""
    known = _KNOWN.setdefault(backbone, {})
    if key not in known:
        known[key] = make()
    return known[key]


def covariances(backbone: Backbone, names: Sequence[str], text: str = "") -> dict[str, Float[Tensor, "_ _"]]:
    """E[k k.T], uncentred, of the inputs of some sites over ordinary text: from the cache, or measured.

    A model without a checksum is measured every time. Source: ROME (arXiv 2202.05262), section 3.1.
    Errors: as `ordinary_texts`; `OutputError` when the cache cannot be written.
    """
    texts = ordinary_texts(backbone, text)
    digest = hashlib.sha256(str([text.ids for text in texts]).encode()).hexdigest()
    shelf = Shelf(backbone, "covariance")
    found = {name: kept["moment"] for name in names if (kept := shelf.find((name, digest)))}
    missing = [name for name in names if name not in found]
    measured = second_moments(backbone, texts, names=missing) if missing else {}
    for name, moment in measured.items():
        shelf.put((name, digest), {"moment": moment})
    return {name: moment.to(backbone.device) for name, moment in {**found, **measured}.items()}


@torch.no_grad()
def second_moments(
    backbone: Backbone,
    texts: Sequence[Text],
    cache: PrefixCache | None = None,
    batch: int = 16,
    names: Collection[str] | None = None,
) -> dict[str, torch.Tensor]:
    """E[x x.T] of every site's input over the tokens of texts, the start token left out.

    Only the sites `names`, where they are given. No more than `batch` texts are held at one time.
    """
    sums: dict[str, torch.Tensor] = {}
    until = backbone.above(names)
    rows = 0
    skip = len(backbone.start_ids)
    for start in track(range(0, len(texts), batch), "Reading ordinary text"):
        part = texts[start : start + batch]
        hidden = backbone.prefix(part, cache)
        with watch_sites(backbone) as (inputs, _):
            backbone.top(hidden, until)
        lengths = torch.tensor([len(text.ids) for text in part], device=hidden.device)
        positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
        mask = (positions < lengths[:, None]) & (positions >= skip)
        rows += int(mask.sum())
        grams: dict[int, torch.Tensor] = {}  # gate and up read the same tensor: one product for both
        for name in inputs if names is None else names:
            x = inputs[name]
            if x.data_ptr() not in grams:
                flat = x[mask.to(x.device)].float()
                grams[x.data_ptr()] = (flat.mT @ flat).to(hidden.device)
            sums[name] = sums.get(name, 0) + grams[x.data_ptr()]
    return {name: total / max(rows, 1) for name, total in sums.items()}


@torch.no_grad()
def update_statistics(statistics: Mapping[str, SiteStatistics], backbone: Backbone, factors: Factors) -> None:
    """Merge the factors of some edits into the running moments of their sites."""
    for name, stats in statistics.items():
        inputs = factors.inputs[name][factors.mask]
        gradients = scale_by_edit(factors.gradients[name], factors.mask)[factors.mask]
        outputs = backbone.modules[name](inputs.to(backbone.dtype)).float().to(inputs.device)
        stats.update(inputs, gradients, outputs)


def ordinary_factors(backbone: Backbone, names: Sequence[str], text: str) -> dict[str, Float[Tensor, "_ _"]]:
    """The Cholesky factor, in float64, of each site's covariance with a small guard on its diagonal."""

    def make() -> dict[str, Tensor]:
        return {name: factorise(moment) for name, moment in covariances(backbone, names, text).items()}

    return remember(backbone, ("factors", tuple(names), text), make)


def factorise(moment: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """The lower Cholesky factor of a covariance in float64, guarded."""
    return torch.linalg.cholesky(guard(moment))


def guard(moment: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """A covariance in float64 with `GUARD` of its mean eigenvalue added to each."""
    least = GUARD * moment.double().diagonal().mean().clamp(min=1e-12)
    return moment.double() + least * torch.eye(len(moment), device=moment.device)


def divide(keys: Float[Tensor, "b n d"], factor: Float[Tensor, "d d"]) -> Float[Tensor, "b n d"]:
    """Every key times the inverse of the covariance whose Cholesky factor is given, in float64."""
    rows = keys.double().flatten(0, 1)
    return torch.cholesky_solve(rows.mT, factor).mT.reshape(keys.shape)


def insert_pairs(
    keys: Float[Tensor, "b n d_in"],
    weighed: Float[Tensor, "b n d_in"],
    residuals: Float[Tensor, "b n d_out"],
    ridge: float,
) -> tuple[Float[Tensor, "b n d_in"], Float[Tensor, "b d_out n"]]:
    """The update A, B that adds to the output of key j its residual, as far as the ridge allows.

    With K the keys and M the same under a symmetric metric, dW = R.T (M K.T + ridge I)^-1 M: the dual
    form of ROME, MEMIT, AlphaEdit and UltraEdit, which differ in M and the ridge alone. Solved in float64.
    """
    k, m = keys.double(), weighed.double()
    gram = m @ k.mT
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve(gram + ridge * eye, m).to(keys.dtype), residuals.mT.to(keys.dtype)
