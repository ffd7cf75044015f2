"""Facts that share a model: a batch is written where the model reads its subjects, all of it at once."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone, Text
from instructedit.delta import LowRankDelta
from instructedit.editors.course import Company, as_answer, plan_course
from instructedit.editors.covariance import covariances, guard, remember
from instructedit.editors.drill import DescentConfig, Drill, Practice, prepare_drill
from instructedit.editors.location import early_outputs
from instructedit.editors.ordinary import ordinary_texts
from instructedit.editors.polish import add_gradients, in_force, rate_at
from instructedit.editors.writing import read_keys
from instructedit.types import EditCase

Pair = tuple[EditCase, str]  # an edit and its instruction


@dataclass(frozen=True)
class TogetherConfig(DescentConfig):
    """How facts that share a model are written; `steps` of zero leaves them to the editor's rows.

    The unit of `rate` is the root mean square of what a site gives at the subject.
    """

    fit: int = 2
    keep: int = 1
    margin: float = 0.1
    rate: float = 0.8
    depth: float = 0.17  # share of the blocks that lie before the first that is written to
    sites: int = 8  # blocks from there on
    ridge: float = 20.0  # of ordinary keys' covariance, beside one for every key of an edit
    rest: float = 0.3  # size of the other keys of a request, and of near names' keys, beside the subject's
    drift: float = 2000.0  # weight, a site, of what ordinary keys are given, squared, as a share of its size
    texts: int = 4  # ordinary texts a step
    exchange: float = 50.0  # what their KL divergence weighs beside the facts' losses, all of them added up
    replay: int = 4  # earlier edits a step
    rounds: int = 2  # what has not taken is written again, up to so many times
    asked: int = 16  # earlier edits that are tried after each batch, and written again where they are lost


@dataclass(frozen=True)
class Page:
    """A batch before it is written, by site: directions that single out each fact's key, and sizes.

    `reads` ``[n d_in]`` gives one for a fact's own key and nothing for others, as far as the ridge allows;
    `rates` ``[n]`` are the steps of what is written, `drifts` ``[n]`` what its square costs.
    """

    reads: dict[str, Float[Tensor, "n _"]] = field(default_factory=dict)
    rates: dict[str, Float[Tensor, " n"]] = field(default_factory=dict)
    drifts: dict[str, Float[Tensor, " n"]] = field(default_factory=dict)


@dataclass
class FactWriter:
    """Writes batches of facts into one model, each leaving the keys of those before alone.

    Each site keeps P = ridge C + sum of k k.T (float64, ``[d_in d_in]``): C the covariance of ordinary keys,
    k the keys of the edits so far. `backbone` is given as any, and kept as one that reaches the sites; `text`
    is a file of ordinary text, or none for the package's.
    Source: ROME (arXiv 2202.05262), section 3.1, for place and keys; MEMIT (arXiv 2210.07229), eq. 14, for P.
    """

    backbone: Backbone
    config: TogetherConfig
    text: str = ""
    systems: dict[str, Float[Tensor, "_ _"]] = field(default_factory=dict)

    @property
    def memory(self) -> dict[str, Tensor]:
        """What is known of earlier edits."""
        return self.systems

    @memory.setter
    def memory(self, tensors: dict[str, Tensor]) -> None:
        self.systems = tensors

    @property
    def room(self) -> None:
        """How many more facts there is room for: any number, keys never run out."""

    def __post_init__(self) -> None:
        self.names = early_outputs(self.backbone, self.config.depth, self.config.sites)
        self.backbone = self.backbone.reaching(self.names)

    @torch.no_grad()
    def write(
        self,
        cases: Sequence[EditCase],
        practices: Sequence[Practice],
        near: Sequence[Sequence[str]],
        earlier: Sequence[Text],
        under: LowRankDelta | None,
    ) -> LowRankDelta:
        """One update (b = 1, a row a fact) that is added to those in force `under` it.

        The values are found by `descend_together` from zero, with all facts of the batch in force, so that
        what they do to one another is part of the loss. `near` are names like each subject, `earlier` texts
        that edits before answer.
        """
        page, config = self._open(cases, near, under), self.config
        rng = random.Random(cases[0].prompt)  # other texts for every batch, the same for the same one
        plain = [as_answer(text) for text in ordinary_texts(self.backbone, self.text)]
        company = Company(earlier, plain, config.replay, config.texts, config.exchange)
        course = plan_course(practices, company, config, rng)
        drill = prepare_drill(self.backbone, course.practice)
        return descend_together(self.backbone, page, drill, course.steps, config, under)

    @torch.no_grad()
    def hold(self, cases: Sequence[EditCase], under: LowRankDelta) -> None:
        """Later batches shall leave the keys of these facts alone, as they are with all edits in force.

        They are not those that were written from: every site but the first reads what those before it wrote.
        """
        for case in cases:
            for name, keys in read_keys(self.backbone, self.names, case, (), under).subject.items():
                self.systems[name] = self.systems[name] + keys.double().mT @ keys.double()

    def related(self, cases: Sequence[EditCase], past: Sequence[Pair]) -> Sequence[Pair]:
        """The edits `past` that some facts are practised beside: keys add up, so any of them."""
        return past

    def _open(
        self, cases: Sequence[EditCase], near: Sequence[Sequence[str]], under: LowRankDelta | None
    ) -> Page:
        found = [read_keys(self.backbone, self.names, *pair, under) for pair in zip(cases, near, strict=True)]
        ordinary, page = self.read_ordinary(), Page()
        for name in self.names:
            keys = torch.stack([read.subject[name].mean(0) for read in found])
            rest = torch.cat([read.rest[name] for read in found]).double() * self.config.rest
            known = self.systems.get(name)
            system = (self.config.ridge * ordinary[name] if known is None else known) + rest.mT @ rest
            self.systems[name] = system
            reads = single_out(keys, system)
            given = self.backbone.modules[name](keys.to(self.backbone.dtype)).float().to(keys.device)
            given = given.square().mean(-1)
            own = (reads * keys).sum(-1).abs().clamp(min=1e-6)
            page.reads[name], page.rates[name] = reads, self.config.rate * given.sqrt() / own
            felt = (reads.double() @ ordinary[name] * reads.double()).sum(-1).float()
            page.drifts[name] = self.config.drift * felt / (given.mean() * self.backbone.width)
        return page

    def read_ordinary(self) -> dict[str, Float[Tensor, "_ _"]]:
        """Each site's covariance of ordinary keys in float64, with a small guard on its diagonal.

        They are those of the unedited model, read once: which takes minutes where the cache has none.
        """

        def make() -> dict[str, Tensor]:
            return {name: guard(x) for name, x in covariances(self.backbone, self.names, self.text).items()}

        return remember(self.backbone, ("ordinary", self.text, tuple(self.names)), make)


def single_out(keys: Float[Tensor, "n d"], system: Float[Tensor, "d d"]) -> Float[Tensor, "n d"]:
    """(K P^-1 K.T + I)^-1 K P^-1: row i answers to key i, and as little as can be to what P knows."""
    rows = keys.double()
    weighed = torch.cholesky_solve(rows.mT, torch.linalg.cholesky(system)).mT
    eye = torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
    return torch.linalg.solve(weighed @ rows.mT + eye, weighed).to(keys.dtype)


def descend_together(
    backbone: Backbone,
    page: Page,
    drill: Drill,
    steps: Sequence[Mapping[int, float]],
    config: DescentConfig,
    under: LowRankDelta | None,
) -> LowRankDelta:
    """The update (b = 1) after `config.steps` steps of Adam on what every fact writes, from nothing.

    Loss: as `text_losses` of the texts that each of the `steps` asks, by their weights, and for every fact
    and site its drift times the square of what is written. Texts of which `drill` has no states cannot be
    moved, and are not asked. A fact's gradient at a site is taken for its direction alone. The edits `under`
    it are in force all the while.
    """
    reads = {name: rows[None] for name, rows in page.reads.items()}
    moved = {name: rate.new_zeros(backbone.width, len(rate)) for name, rate in page.rates.items()}
    for leaf in moved.values():
        leaf.requires_grad_().grad = torch.zeros_like(leaf)
    optimiser = torch.optim.Adam(moved.values(), 1.0, betas=(0.8, 0.95))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_at(step, config.steps))
    with in_force(backbone, under):
        for weights in steps:
            asked = {place: weight for place, weight in weights.items() if place in drill.states}
            add_gradients(backbone, lambda: LowRankDelta(reads, _written(moved, page)), drill, asked, config)
            for name, leaf in moved.items():
                assert leaf.grad is not None
                leaf.grad += 2 * page.drifts[name] * page.rates[name].square() * leaf.detach()
                leaf.grad /= leaf.grad.norm(dim=0) + 1e-9
            optimiser.step()
            optimiser.zero_grad(set_to_none=False)
            schedule.step()
    return LowRankDelta(reads, {name: b.detach() for name, b in _written(moved, page).items()})


def _written(moved: Mapping[str, Float[Tensor, "d n"]], page: Page) -> dict[str, Float[Tensor, "1 d n"]]:
    return {name: (leaf * page.rates[name])[None] for name, leaf in moved.items()}
