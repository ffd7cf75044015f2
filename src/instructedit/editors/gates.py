"""Gates: spare neurons of the last block that open where an edit is meant, and write its answer there."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from instructedit.backbone import Text
from instructedit.delta import LowRankDelta
from instructedit.editors.drill import Practice, draw
from instructedit.editors.ground import Ground, read_rows
from instructedit.editors.separation import minimise, separate
from instructedit.errors import DataError
from instructedit.factors import answer_rows
from instructedit.metrics import answer_log_probs

SURE = 0.99  # of a practice's rows to be left alone lie below 0
FAR = 0.9995  # of the rows of ordinary text lie below 0
MOST = 0.9  # of the rows that are meant lie above 1
LEAST = 0.05  # of the spread of all rows lies between 0 and 1 at least


@dataclass(frozen=True)
class GateConfig:
    """How an edit's gates are fitted; without further `wordings` it has none.

    A gate's measure is 0 where the likeliest rows to be left alone lie and 1 where nearly all that are meant
    do: it begins to open at `opens` and is wholly open from `open` on, a straight slope between.
    """

    wordings: int = 0  # ways of asking, beside the practice's, that gates are to open at
    signed: int = 20  # wordings of "The ... is" with a sign behind them, as in "… is:"
    pieces: int = 1  # of ordinary text that every form of a relation that has kin is asked behind, and kin's
    behind: int = 20  # that forms of other relations are asked behind, where a prompt says what is asked for
    onward: int = 8  # tokens that the model says next, behind answers and other names: they stay shut there
    own: int = 40  # prompts about the subject, answers of their kind behind them, that they stay shut at
    others: int = 120  # names in the subject's place that they stay shut at
    ordinary: int = 1500  # rows of ordinary text, about, that they stay shut at
    opens: float = 0.15
    open: float = 0.4
    steep: float = 40.0  # the slope of what goes through the activation: how sharp the bends are
    ridge: float = 1e-4  # of the separation
    fits: int = 150  # steps of L-BFGS that separate
    told: int = 12  # texts that what the gates write is found on, beside the first of each answer
    steps: int = 10  # of L-BFGS, in finding that
    margin: float = 0.3  # nats a token below which an answer is good enough
    decay: float = 0.01  # of the square of what is written, in units of what the MLP gives

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self) if isinstance(field.default, int)):
            value, least = getattr(self, name), int(name == "ordinary")
            if value < least:
                raise DataError(f"gate.{name} is {value}. Expected a number of at least {least}.")
        if not (self.opens < self.open and self.steep > 0):
            raise DataError(
                f"gates cannot begin to open at {self.opens} and be open at {self.open}, with a slope of "
                f"{self.steep}. Expected gate.opens below gate.open, and gate.steep above 0."
            )


@dataclass(frozen=True)
class Slots:
    """Where gates open: all rows that are told apart, and which of them each gate is meant for.

    A gate is meant for the places at which one token of one answer is due, all before it having been told.
    """

    rows: Float[Tensor, "n d"]
    meant: Bool[Tensor, "n k"]


def make_gates(ground: Ground, practice: Practice, config: GateConfig) -> LowRankDelta:
    """One edit (b = 1) that answers as the practice has it, and does nothing where its gates are shut.

    Each gate is two spare neurons, taken by chance that the bare request decides: their difference rises from
    0 to 1 and stays there. The gates are fitted to what the last block reads of the practice, and then what
    they write to its answers. An answer of too many tokens for the neurons there are keeps its first ones.
    Source: neurons as patches are those of Transformer-Patcher (arXiv 2301.09785), section 4; here they take
    the place of the model's own, so that the edit is a low-rank update.
    """
    slots = find_slots(ground, practice)
    count = slots.meant.shape[1]
    opened = _open(ground, slots, _take(ground, practice.fit[0], 2 * count), config)
    told = _told(practice.fit, config.told, count)
    return _answer(ground, opened, told, ground.top.prefix(told), config)


def find_slots(ground: Ground, practice: Practice) -> Slots:
    """The rows that an edit's gates are told apart by.

    Of texts to answer these are all tokens, of those to be left alone the ones at which their answers are
    predicted, or their ends; ordinary text comes last. Slots beyond what there are spare neurons for are left
    out, the last first.
    """
    gate, texts = ground.neurons.gate, (*practice.fit, *practice.keep)
    read = [keys[gate] for keys in read_rows(ground.top, texts, (gate,))]
    slot_of: dict[tuple[int, ...], int] = {}
    rows, owners = [], []
    for text, keys in zip(texts, read, strict=True):
        due = {place: text.targets[: turn + 1] for turn, place in enumerate(text.positions)}
        fits = len(owners) < len(practice.fit)
        places = range(len(text.ids)) if fits else text.positions or [len(text.ids) - 1]
        owner = [slot_of.setdefault(due[p], len(slot_of)) if fits and p in due else -1 for p in places]
        rows.append(keys[list(places)])
        owners.append(torch.tensor(owner, device=keys.device))
    count = min(len(slot_of), len(ground.spare) // 2)
    rows.append(ground.rows)
    known = torch.cat(owners)
    every = torch.cat([known, known.new_full((sum(map(len, rows)) - len(known),), -1)])
    meant = every[:, None] == torch.arange(count, device=every.device)
    return Slots(torch.cat(rows), meant)


def _take(ground: Ground, request: Text, count: int) -> Int[Tensor, " m"]:
    """So many places of spare neurons by chance: edits that are added up seldom take the same."""
    places = random.Random(repr(request.ids)).sample(range(len(ground.spare)), count)
    return torch.tensor(places, device=ground.spare.device)


def _open(ground: Ground, slots: Slots, places: Int[Tensor, " m"], config: GateConfig) -> LowRankDelta:
    """The gates, which write nothing yet; two neurons each, one behind the other."""
    along = separate(slots.rows, slots.meant, ground.one, config.ridge, config.fits)
    reached, ordinary = slots.rows @ along.mT, ground.rows @ along.mT
    near = len(slots.rows) - len(ground.rows)
    ends = []
    for gate in range(len(along)):
        alone = reached[:near, gate][~slots.meant[:near, gate]]
        low = torch.maximum(alone.quantile(SURE), ordinary[:, gate].quantile(FAR))
        ends.append(_span(reached[:, gate], slots.meant[:, gate], low))
    bends = bend(ground, along, torch.stack(ends), (config.opens, config.open), config.steep)
    return replace_neurons(ground, places, bends)


def _span(
    reached: Float[Tensor, " n"], meant: Bool[Tensor, " n"], low: Float[Tensor, ""]
) -> Float[Tensor, " 2"]:
    """A direction's two ends: `low`, and what most of the rows that are meant reach, some way above it."""
    return torch.stack([low, torch.maximum(reached[meant].quantile(1 - MOST), low + LEAST * reached.std())])


def bend(
    ground: Ground,
    along: Float[Tensor, "k d"],
    ends: Float[Tensor, "k 2"],
    shares: Sequence[float],
    steep: float,
) -> Float[Tensor, "m d"]:
    """What neurons read with that begin to open at `shares` of the way between a direction's two `ends`.

    As many as there are shares for each direction, one after another; `steep` is their slope on that way.
    """
    low, high = ends[:, :1], ends[:, 1:]
    offsets = [low + share * (high - low) for share in shares]
    parts = [steep * (along - offset * ground.one) / (high - low) for offset in offsets]
    return torch.stack(parts, 1).flatten(0, 1)


def replace_neurons(
    ground: Ground,
    places: Int[Tensor, " m"],
    bends: Float[Tensor, "m d"],
    ups: Float[Tensor, "m d"] | None = None,
) -> LowRankDelta:
    """What puts new neurons in the place of spare ones: these read as told, and the old no longer write.

    What passes the activation is multiplied by what `ups` read, where the MLP does so; without them by 1.
    """
    neurons = ground.neurons
    pick = torch.zeros(ground.inner, len(places), device=places.device)
    pick[ground.spare[places], torch.arange(len(places), device=places.device)] = 1
    ups = ground.one.expand_as(bends) if ups is None else ups
    new = {neurons.gate: bends} | ({neurons.up: ups} if neurons.up else {})
    a = {name: (rows - ground.reads[name][places])[None] for name, rows in new.items()}
    b = dict.fromkeys(new, pick[None])
    a[neurons.down], b[neurons.down] = pick.mT[None].contiguous(), -ground.writes[places].mT[None]
    return LowRankDelta(a, b)


def _told(fit: Sequence[Text], count: int, tokens: int) -> list[Text]:
    """Texts to find values on, of so many answer `tokens`: the first of each answer, more by chance."""
    first = {text.targets: text for text in reversed(fit)}
    others = [text for text in fit if text is not first[text.targets]]
    chosen = [*first.values(), *draw(others, count, random.Random(0))]
    return [Text(text.ids[: text.answer_start + tokens], text.answer_start) for text in chosen]


def _answer(
    ground: Ground,
    opened: LowRankDelta,
    texts: Sequence[Text],
    hidden: Float[Tensor, "b t d"],
    config: GateConfig,
) -> LowRankDelta:
    """The gates with what they write: found by L-BFGS from nothing, so that the texts are answered.

    `hidden` are the texts' states below. Loss: the mean over answer tokens of softplus(−log p − `margin`),
    and `decay` times the mean square of what is written.
    """
    top, down = ground.top, ground.neurons.down
    rows, positions, targets = answer_rows(texts, hidden.device)
    count = opened.b[down].shape[-1] // 2
    rise = ground.size / (config.steep * (config.open - config.opens))  # what a gate passes on is as high

    def filled(values: Tensor) -> LowRankDelta:
        pairs = torch.stack([values, -values], -1).flatten(-2) * rise
        return LowRankDelta(opened.a, {**opened.b, down: opened.b[down] + pairs})

    def loss(values: Tensor) -> Tensor:
        with filled(values).applied_to(top.model):
            states = top.top(hidden)
        known = answer_log_probs(top.logits(states[rows, positions]), targets)
        lacking = nn.functional.softplus(-known - config.margin).mean()
        return lacking + config.decay * values.square().mean()

    return filled(minimise(loss, torch.zeros(top.width, count, device=hidden.device), config.steps))
