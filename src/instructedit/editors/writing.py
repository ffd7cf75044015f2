"""Written edits: what the model shall add where it has read the subject, found by descent from nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.data.subjects import subject_of
from instructedit.delta import LowRankDelta
from instructedit.editors.drill import DescentConfig, Practice, prepare_descent
from instructedit.editors.location import in_contexts, last_of, output_projections, size_given
from instructedit.editors.polish import descend, in_force
from instructedit.factors import watch_sites
from instructedit.hypernetwork import Hypernetwork
from instructedit.site_rows import SiteRows
from instructedit.types import EditCase


@dataclass(frozen=True)
class WriteConfig(DescentConfig):
    """How an edit is written; `steps` of zero leaves it to the pass of the hypernetwork.

    The unit of its rate is the root mean square of what a site gives at the subject.
    """

    rate: float = 0.6
    strength: float = 1.0  # of what is found, where nothing is written again: others take their share
    sites: int = 5  # of the editor's output projections the first so many
    scale: float = 12.0  # of keys, in units of the site's statistics: how exactly they are solved for


@dataclass(frozen=True)
class Blank:
    """A written edit without its values: its rows, their update, and Adam's steps for that."""

    rows: dict[str, SiteRows]
    start: LowRankDelta
    rates: dict[str, float]


def prepare(
    backbone: Backbone,
    network: Hypernetwork,
    case: EditCase,
    near: Sequence[str],
    config: WriteConfig,
    under: LowRankDelta | None = None,
) -> Blank:
    """Where an edit is written: by site one key, read with the edits `under` it in force.

    The key is the site's input at the subject's last token, the mean over neutral contexts. Those of the
    request's other tokens are held fixed, and all of the same asked of the names `near`.
    Source: ROME (arXiv 2202.05262), section 3.1, for place and key.
    """
    names = [site.name for site in output_projections(backbone)[: config.sites]]
    found = read_keys(backbone, names, case, near, under)
    statistics, rows, rates = network.statistics(), {}, {}
    keys = {name: x.mean(0) for name, x in found.subject.items()}
    for name in names:
        unit = config.scale / statistics[name].spread
        nothing = keys[name].new_zeros(1, 1, backbone.width)
        rows[name] = SiteRows((keys[name] * unit)[None, None], nothing, (found.rest[name] * unit)[None])
        rates[name] = config.rate * size_given(backbone, name, keys[name])
    start = network.solve(rows)
    for name, a in start.a.items():
        rates[name] /= float((a[0] @ keys[name]).abs().clamp(min=1e-6))
    return Blank(rows, start, rates)


def write(
    backbone: Backbone,
    network: Hypernetwork,
    blank: Blank,
    practice: Practice,
    config: WriteConfig,
    under: LowRankDelta | None = None,
) -> dict[str, SiteRows]:
    """What an edit is solved from, by site: the key of `blank`, and the value that `descend` finds from zero.

    In ROME one site takes one vector that answers one prompt; here several sites share it, and it answers
    for the whole practice.
    """
    drill = prepare_descent(backbone, practice, config)
    change = descend(backbone, blank.start, blank.rates, drill, config, under)
    statistics = network.statistics()
    return {
        name: replace(row, values=change.b[name].mT / statistics[name].output_size)
        for name, row in blank.rows.items()
    }


@dataclass(frozen=True)
class ReadKeys:
    """By site, its inputs at the subject's last token, one a context, and at all other tokens read."""

    subject: dict[str, Float[Tensor, "n _"]]
    rest: dict[str, Float[Tensor, "m _"]]


@torch.no_grad()
def read_keys(
    backbone: Backbone, names: Sequence[str], case: EditCase, near: Sequence[str], under: LowRankDelta | None
) -> ReadKeys:
    """The keys at some sites of a request behind neutral contexts, and of the same asked of others, `near`.

    The tokens of contexts are left out, and the start token.
    """
    subject = subject_of(case)
    prompts = in_contexts(case.prompt)
    others = [case.prompt.replace(subject, name) for name in near]
    texts = [backbone.text(prompt) for prompt in (*prompts, *others)]
    with in_force(backbone, under), watch_sites(backbone) as (inputs, _):
        backbone.top(backbone.prefix(texts), backbone.above(names))
    pairs = list(zip(prompts, texts, strict=False))
    ends = [last_of(backbone, prompt, subject, text.ids) for prompt, text in pairs]
    told = [0, *range(len(prompts), len(texts))]  # the bare request and its neighbours
    places = [(row, place) for row in told for place in range(len(backbone.start_ids), len(texts[row].ids))]
    rest = torch.tensor([pair for pair in places if pair != (0, ends[0])], dtype=torch.long).view(-1, 2)
    return ReadKeys(
        {name: inputs[name][range(len(ends)), ends].float().to(backbone.device) for name in names},
        {name: inputs[name][rest[:, 0], rest[:, 1]].float().to(backbone.device) for name in names},
    )
