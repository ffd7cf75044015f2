"""Facts that share a model, each with neurons of its own, which open where its subject has been read."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from instructedit.backbone import Backbone, Text
from instructedit.backbone.neurons import Neurons, find_neurons
from instructedit.data.subjects import subject_of
from instructedit.delta import LowRankDelta
from instructedit.editors.course import Company, plan_course
from instructedit.editors.covariance import remember
from instructedit.editors.drill import Practice
from instructedit.editors.gates import MOST, bend, replace_neurons
from instructedit.editors.ground import Ground, reorder, survey_blocks
from instructedit.editors.heard import Heard, find_subjects, hear_subjects, read_ends
from instructedit.editors.location import early_blocks
from instructedit.editors.neuron_config import NeuronConfig
from instructedit.editors.opened import drop_unheard, prepare_opened
from instructedit.editors.requests import EditorConfig
from instructedit.editors.separation import separate
from instructedit.editors.together import FactWriter, Page, Pair, descend_together
from instructedit.errors import DataError
from instructedit.types import EditCase

SPARE = "spare:"  # before a layer's name: the neurons that may be taken, in order
ENOUGH = 4.0  # as `Fit` has it: nine facts in ten stand out by more, in any of the blocks
RIDGE, FITS = 1e-3, 60  # of the separation, and its steps of L-BFGS
SHUT = 0.01  # of what is passed on at a subject: less moves nothing
DECAY = 0.002  # of the square of what is written, in units of its steps


@dataclass(frozen=True)
class Fit:
    """What the neurons of some facts read with in one block, and by how much each stands out there.

    A margin is the way from the likeliest row that a neuron is to stay shut at to where nine tenths of its
    subject's rows lie, in standard deviations of all rows. A neuron measures in no smaller unit than one of
    these: what does not stand out would else be read many times louder elsewhere.
    """

    bends: Float[Tensor, "k d"]
    margins: Float[Tensor, " k"]


@dataclass
class GateWriter:
    """Writes batches of facts into one model, each by neurons that ordinary text uses least.

    A fact takes `config.each` of them, in as many blocks: they read whether its subject ends here, and
    write what the model shall add then. Elsewhere they are shut, so that the facts neither add up nor wear
    each other down. `past` are the rows at which the subjects of earlier facts end, by layer: one a fact;
    `taken` is how many neurons of each block are in use. Both are bounded by the spare neurons there are.
    `backbone` is given as any, and kept as one that reaches the sites: the layers of the `neurons` of each
    block that is written to.
    Source: ROME (arXiv 2202.05262), section 3.1, for the place; Transformer-Patcher (arXiv 2301.09785),
    section 4, for neurons as patches.
    """

    backbone: Backbone
    config: NeuronConfig
    neurons: Sequence[Neurons]
    text: str = ""
    past: dict[str, Float[Tensor, "n d"]] = field(default_factory=dict)
    taken: list[int] = field(init=False)
    found: list[Ground] = field(default_factory=list)  # the grounds of a sequence that goes on
    systems: dict[str, Tensor] = field(default_factory=dict)  # none: there is nothing to solve for

    def __post_init__(self) -> None:
        self.own = self.backbone
        self.backbone = self.own.reaching([name for neurons in self.neurons for name in neurons.names])
        self.taken = [0] * len(self.neurons)

    @property
    def memory(self) -> dict[str, Tensor]:
        """What is known of earlier edits, and which neurons they have taken, the first of `SPARE`."""
        orders = {f"{SPARE}{ground.neurons.gate}": ground.spare for ground in self.grounds}
        return {**self.past, **orders, "taken": torch.tensor(self.taken)}

    @memory.setter
    def memory(self, tensors: dict[str, Tensor]) -> None:
        self.past = {name: rows for name, rows in tensors.items() if name in self._names}
        pairs = [(ground, tensors[f"{SPARE}{ground.neurons.gate}"]) for ground in self.grounds]
        self.found = [reorder(ground, spare) for ground, spare in pairs]  # rounding may order them otherwise
        used = [spare[:count] for (_, spare), count in zip(pairs, tensors["taken"].tolist(), strict=True)]
        known = zip(used, self.found, strict=True)
        self.taken = [int(torch.isin(some, ground.spare).sum()) for some, ground in known]

    @property
    def grounds(self) -> list[Ground]:
        """What the blocks of the unedited model read of ordinary text, and their spare neurons; read once."""
        settings = (tuple(self.neurons), self.config.ordinary, self.text, self.config.share)
        return self.found or remember(self.own, settings, lambda: survey_blocks(self.own, *settings))

    def read_ordinary(self) -> None:
        """Read what has to be known of the unedited model, which takes some seconds."""
        assert self.grounds

    @torch.no_grad()
    def write(
        self,
        cases: Sequence[EditCase],
        practices: Sequence[Practice],
        near: Sequence[Sequence[str]],
        earlier: Sequence[Text],
        under: LowRankDelta,
    ) -> LowRankDelta:
        """One update (b = 1) that is added to those in force `under` it.

        What the neurons write is found by `descend_together` from zero. `near` are names like each subject,
        `earlier` texts that edits before answer.
        Errors: `DataError` where there are no spare neurons left.
        """
        heard = hear_subjects(self.backbone, self._names, cases, near, under)
        opened, page = self._open(cases, heard)
        change, least = under + opened, SHUT * self.passed
        moved = drop_unheard(self.backbone, heard.spare(practices), page.reads, least, change)
        company = Company(earlier, (), self.config.replay, 0, 0.0)
        course = plan_course(moved, company, self.config, random.Random(cases[0].prompt))
        drill = prepare_opened(self.backbone, course.practice, page.reads, least, change)
        return opened + descend_together(self.backbone, page, drill, course.steps, self.config, change)

    def related(self, cases: Sequence[EditCase], past: Sequence[Pair]) -> Sequence[Pair]:
        """The edits `past` that some facts are practised beside: shut neurons keep other subjects apart."""
        subjects = {subject_of(case) for case in cases}
        return [pair for pair in past if subject_of(pair[0]) in subjects]

    @torch.no_grad()
    def hold(self, cases: Sequence[EditCase], under: LowRankDelta) -> None:
        """Later facts shall leave the subjects of these alone."""
        for name, rows in read_ends(self.backbone, self._names, cases, under).items():
            self.past[name] = torch.cat([self.past.get(name, rows[:0]), rows])

    @property
    def _names(self) -> list[str]:
        """The layers that neurons read with."""
        return [neurons.gate for neurons in self.neurons]

    def _open(self, cases: Sequence[EditCase], heard: Heard) -> tuple[LowRankDelta, Page]:
        """The neurons of a batch, which write nothing yet, and where what they write goes."""
        page, opened = Page(), LowRankDelta({}, {})
        fit = cache(lambda place: self.fit(self.grounds[place], heard))
        for place, facts in self._assign(cases, lambda place: fit(place).margins).items():
            ground = self.grounds[place]
            first, down = self.taken[place], ground.neurons.down
            neurons = torch.arange(first, first + len(facts), device=ground.spare.device)
            replaced = self.take(ground, neurons, fit(place).bends[facts])
            opened = opened + replaced
            self.taken[place] += len(facts)
            page.reads[down] = replaced.a[down][0]  # what the neurons pass on
            unit = torch.full((len(facts),), ground.usual / self.passed, device=ground.spare.device)
            page.rates[down] = self.config.rate * unit
            page.drifts[down] = DECAY / page.rates[down].square()
        return opened, page

    @property
    def room(self) -> int:
        """How many more facts there are spare neurons for."""
        free = [len(ground.spare) - taken for ground, taken in zip(self.grounds, self.taken, strict=True)]
        return min(sum(free[place] for place in stretch) for stretch in self._stretches)

    @property
    def _stretches(self) -> list[list[int]]:
        """Places of blocks that follow one another: a fact takes a neuron in each stretch."""
        places = torch.arange(len(self.taken))
        return [part.tolist() for part in places.tensor_split(min(self.config.each, len(places)))]

    @property
    def passed(self) -> float:
        """What a neuron passes on where its subject ends."""
        return self.config.steep * (1 - self.config.opens)

    def take(self, ground: Ground, places: Int[Tensor, " k"], bends: Float[Tensor, "k d"]) -> LowRankDelta:
        """The change that puts neurons which read so in the place of spare ones; they write nothing yet.

        With r what one reads, 1 at its subject, it passes on r (1 + `fade` - `fade` r) where the MLP
        multiplies: what reads much more than that is not heard as much louder. Elsewhere it passes on r.
        """
        fade = self.config.fade
        return replace_neurons(ground, places, bends, (1 + fade) * ground.one - fade / self.passed * bends)

    def _assign(
        self, cases: Sequence[EditCase], margins: Callable[[int], Float[Tensor, " k"]]
    ) -> dict[int, list[int]]:
        """By place of a block the facts that take a neuron of it, one in each stretch.

        A fact takes the first block with room in which it stands out by `ENOUGH`, or the one in which it
        does best. `margins` are those of all facts in one block, found when that is looked at.
        """
        found: dict[int, list[int]] = {}
        for stretch, (fact, case) in product(self._stretches, enumerate(cases)):
            used = {place: self.taken[place] + len(found.get(place, ())) for place in stretch}
            room = {place: count for place, count in used.items() if count < len(self.grounds[place].spare)}
            if not room:
                raise no_room(sum(self.taken))
            clear = (place for place in self.order(case, room) if margins(place)[fact] >= ENOUGH)
            place = next(clear, None)
            if place is None:
                place = max(room, key=lambda place: float(margins(place)[fact]))
            found.setdefault(place, []).append(fact)
        return found

    def order(self, case: EditCase, taken: Mapping[int, int]) -> list[int]:
        """The blocks, of which it is told how many neurons are `taken`, as a fact looks at them: the fewest
        first."""
        return sorted(taken, key=lambda place: taken[place])

    def fit(self, ground: Ground, heard: Heard) -> Fit:
        """What the neurons of a batch's facts would read with in one block, each at its own subject alone."""
        rows, owner = heard.rows[ground.neurons.gate], heard.owner
        past = self.past.get(ground.neurons.gate, rows[:0])
        every = torch.cat([rows, past[~_among(past, rows, owner)], ground.rows])
        ordinary = find_subjects(ground.ids, heard.forms)
        between = owner.new_full((len(every) - len(owner) - len(ordinary),), -1)
        whose = torch.cat([owner, between, ordinary])
        meant = whose[:, None] == torch.tensor(heard.subjects, device=whose.device)
        along = separate(every, meant, ground.one, RIDGE, FITS)
        pairs = list(zip((every @ along.mT).mT, meant.mT, strict=True))
        low = torch.stack([reached[~mine].max() for reached, mine in pairs])
        high = torch.stack([reached[mine].quantile(1 - MOST) for reached, mine in pairs])
        spread = torch.stack([reached.std() for reached, _ in pairs])
        ends = torch.stack([low, torch.maximum(high, low + spread)], 1)
        bends = bend(ground, along, ends, (self.config.opens,), self.config.steep)
        return Fit(bends, (high - low) / spread)


def no_room(count: int) -> DataError:
    """That no more facts can be taken, `count` neurons being in use."""
    return _lacking(f"no neurons are left for more facts in one model: {count} are in use")


def check_room(writer: "Writer | None", count: int) -> None:
    """See that there is room for so many more facts before the first of them is made.

    Errors: `DataError` where there is not.
    """
    room = None if writer is None or not count else writer.room
    if room is not None and count > room:
        raise _lacking(f"{count} facts are to be in one model that has neurons for {room} more")


def _lacking(found: str) -> DataError:
    return DataError(
        f"{found}. Make fewer edits (in a store, undo some), or raise neurons.sites, the number of blocks "
        "written to, or neurons.share, how many of the neurons of each may be taken."
    )


Writer = FactWriter | GateWriter


def start_writer(
    backbone: Backbone, config: EditorConfig, gated: type[GateWriter] = GateWriter
) -> Writer | None:
    """What writes facts that share a model as an editor's config has it; without steps nothing does.

    A `gated` one where they have neurons of their own. Where the MLPs are built otherwise than `find_neurons`
    knows, they have none.
    """
    own = config.neurons
    blocks = early_blocks(backbone, own.depth, own.sites) if own.each and own.steps else ()
    found = remember(backbone, ("neurons", *blocks), lambda: [find_neurons(backbone, n) for n in blocks])
    known = [neurons for neurons in found if neurons]
    if known and len(known) == len(blocks):
        return gated(backbone, own, known, config.text)
    return FactWriter(backbone, config.together, config.text) if config.together.steps else None


def _among(
    past: Float[Tensor, "m d"], rows: Float[Tensor, "n d"], owner: Int[Tensor, " n"]
) -> Bool[Tensor, " m"]:
    """Which rows are no farther from the middle of those of one owner than one of these is."""
    groups = [rows[owner == fact] for fact in range(int(owner.max()) + 1)]
    middles = torch.stack([own.mean(0) for own in groups])
    reach = torch.stack([(own - own.mean(0)).norm(dim=1).max() for own in groups])
    return (torch.cdist(past, middles) <= reach).any(1)
