"""Written edits: what the model shall add where it has read the subject, found by descent from nothing."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.data.subjects import subject_of
from instructedit.delta import LowRankDelta
from instructedit.editors.location import CONTEXTS, last_of, output_projections
from instructedit.editors.polish import PolishConfig, Practice, descend
from instructedit.factors import watch_sites
from instructedit.hypernetwork import Hypernetwork
from instructedit.site_rows import SiteRows
from instructedit.types import EditCase


@dataclass(frozen=True)
class WriteConfig(PolishConfig):
    """How an edit is written; `steps` of zero leaves it to the pass of the hypernetwork."""

    rate: float = 0.6  # Adam's, in units of the root mean square of what the site gives there
    sites: int = 5  # of the editor's output projections the first so many
    scale: float = 4.0  # of keys, in units of the site's statistics: how exactly they are solved for


def write(
    backbone: Backbone,
    network: Hypernetwork,
    case: EditCase,
    practice: Practice,
    near: Sequence[str],
    config: WriteConfig,
    under: LowRankDelta | None = None,
) -> dict[str, SiteRows]:
    """What an edit is solved from, by site, when it is written: one key and one value.

    The key is the site's input at the subject's last token, the mean over neutral contexts; those of the
    names `near` are held fixed. The value is what `descend` finds, from zero, for the update that the site
    alone makes of the key, with the edits `under` it in force.
    Source: ROME (arXiv 2202.05262), section 3.1, for place and key. There one site takes one vector that
    answers one prompt; here several sites share it, and it answers for the whole practice.
    """
    with under.applied_to(backbone.model) if under is not None else nullcontext():
        keys, fixed = _subject_keys(backbone, case, near)
    statistics, rows, rates = network.statistics(), {}, {}
    for name in [site.name for site in output_projections(backbone)[: config.sites]]:
        unit = config.scale / statistics[name].spread
        nothing = keys[name].new_zeros(1, 1, backbone.width)
        rows[name] = SiteRows((keys[name] * unit)[None, None], nothing, (fixed[name] * unit)[None])
        size = backbone.modules[name](keys[name].to(backbone.dtype)).float().square().mean().sqrt()
        rates[name] = config.rate * float(size)
    start = network.solve(rows)
    for name, a in start.a.items():
        rates[name] /= float((a[0] @ keys[name]).abs().clamp(min=1e-6))
    found = descend(backbone, start, rates, practice, config, under)
    return {
        name: replace(row, values=found.b[name].mT / statistics[name].output_size)
        for name, row in rows.items()
    }


@torch.no_grad()
def _subject_keys(
    backbone: Backbone, case: EditCase, near: Sequence[str]
) -> tuple[dict[str, Float[Tensor, " d_in"]], dict[str, Float[Tensor, "m d_in"]]]:
    """Every site's input at the subject's last token, the mean over contexts, and at those of other names."""
    subject = subject_of(case)
    asked = [(f"{context} {case.prompt}".lstrip(), subject) for context in CONTEXTS]
    asked += [(case.prompt.replace(subject, name), name) for name in near]
    texts = [backbone.text(prompt) for prompt, _ in asked]
    places = [last_of(backbone, *pair, text.ids) for pair, text in zip(asked, texts, strict=True)]
    with watch_sites(backbone) as (inputs, _):
        backbone.top(backbone.prefix(texts))
    read = {name: x[range(len(texts)), places].float() for name, x in inputs.items()}
    count = len(CONTEXTS)
    return {name: x[:count].mean(0) for name, x in read.items()}, {n: x[count:] for n, x in read.items()}
