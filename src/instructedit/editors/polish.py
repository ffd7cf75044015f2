"""Polish: a few steps of descent on an edit that has been made, against what it is there for."""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone, Text, like_length
from instructedit.delta import LowRankDelta
from instructedit.editors.apart import tell_apart
from instructedit.errors import DataError
from instructedit.factors import answer_rows, watch_sites
from instructedit.metrics import answer_log_probs, kl_divergence, mean_per_text, soften

TOKENS = 288  # of one pass, padding counted: small passes are as fast on a CPU and need little memory
BEND = 4.0  # as `soften`: one hopeless text does not drown the others


@dataclass(frozen=True)
class DescentConfig:
    """How what an update writes is moved by descent; `steps` of zero leaves it as it was."""

    steps: int = 0
    fit: int = 4  # other wordings that a step asks beside the bare prompt
    keep: int = 8  # texts a step that are to stay as they are
    weight: float = 1.5  # of those in the loss
    margin: float = 0.3  # nats a token below which an answer is good enough
    whole: bool = False  # an answer lacks what its tokens lack together, not what they lack on average
    decay: float = 0.0  # weight of the squared size of what is written, in units that rates are told in
    rate: float = 0.12  # Adam's, in units of what is written

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise DataError(f"an edit cannot be polished in {self.steps} steps. Expected 0 (none) or more.")


@dataclass(frozen=True)
class PolishConfig(DescentConfig):
    """How an edit is polished; the unit of its rate is the update's own root mean square."""

    breadth: int = 1  # how many times as many texts to leave alone are at hand as there are at least
    names: int = 0  # other names of the subject that the request is asked under as well
    scoped: bool = False  # what the instruction says of the scope is read: narrow ones leave more alone
    subject: bool = False  # write at the subject, in the place of what the pass does at those sites
    apart: float = 0.0  # how much what is read is told apart from what is to be left alone, before all steps
    energy: float = 0.999  # share of the update's squared norm whose directions are kept


@dataclass(frozen=True)
class Practice:
    """What an edit is polished on: texts to answer, the bare request first, and texts to leave alone."""

    fit: tuple[Text, ...]
    keep: tuple[Text, ...]


@dataclass(frozen=True)
class Drill:
    """The texts of a practice, those to answer first, and by place what is known of those that are asked.

    That is the states that enter the edited blocks; what the unedited model predicts for the answers of texts
    to be left alone; and, where sites are watched, their `keys`: what they read at each token of a text to
    answer, and where the answer of one to be left alone is predicted.
    """

    texts: Sequence[Text]
    fits: int
    states: dict[int, Float[Tensor, "_ d"]]
    before: dict[int, Float[Tensor, "_ v"]]
    keys: dict[int, dict[str, Float[Tensor, "_ d_in"]]]

    def keys_of(self, name: str, left: bool) -> Float[Tensor, "n d_in"]:
        """The keys of one site at the texts to answer, or at those to be `left` alone."""
        return torch.cat([keys[name] for place, keys in self.keys.items() if (place >= self.fits) == left])


def polish(
    backbone: Backbone,
    delta: LowRankDelta,
    practice: Practice,
    config: PolishConfig,
    beside: LowRankDelta | None = None,
    rates: Mapping[str, float] | None = None,
) -> LowRankDelta:
    """One edit (b = 1) after `descend` on its practice, in the directions that it acts on already.

    With `config.apart` these are told apart from what is to be left alone before. They are made orthonormal,
    so that a step is as long along each. At the sites of `beside` that update takes the edit's place, with
    `rates` as its steps.
    """
    other = LowRankDelta({}, {}) if beside is None else beside
    own = delta.without(other.a).compress(energy=config.energy)[0]
    drill = prepare_descent(backbone, practice, config, watch=own.a if config.apart else ())
    if config.apart and config.keep and practice.keep:
        wanted, alone = ({name: drill.keys_of(name, left) for name in own.a} for left in (False, True))
        own = tell_apart(own, wanted, alone, config.apart)
    start = _orthonormal(own)
    steps = {name: config.rate * float(b.square().mean().sqrt()) for name, b in start.b.items()}
    return descend(backbone, start + other, {**steps, **(rates or {})}, drill, config)


def descend(
    backbone: Backbone,
    start: LowRankDelta,
    rates: Mapping[str, float],
    drill: Drill,
    config: DescentConfig,
    under: LowRankDelta | None = None,
) -> LowRankDelta:
    """One update (b = 1) after `config.steps` steps of Adam on what it writes; what it reads stays.

    `rates` are the steps of each site's `b`. A step asks the bare request, `fit` other wordings and `keep`
    texts to be left alone, drawn anew each time but the same for the same edit. Loss: the mean over wordings
    of the answer's negative log-likelihood beyond `margin`, nats a token or, with `config.whole`, an answer;
    and `weight` times the mean KL(unedited ‖ edited) over the others, nats a token. The edits `under` it are
    in force all the while.
    """
    values = {name: b.clone().requires_grad_() for name, b in start.b.items()}
    optimiser = torch.optim.Adam(
        [{"params": [v], "lr": rates[n]} for n, v in values.items()], betas=(0.8, 0.95)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_at(step, config.steps))
    for fit, keep in _draw_steps(drill.fits, len(drill.texts) - drill.fits, config):
        weights = {place: 1 / len(fit) for place in fit} | {i: config.weight / len(keep) for i in keep}
        add_gradients(backbone, lambda: LowRankDelta(start.a, values), drill, weights, config, under)
        for name, value in values.items():
            unit = rates[name] / config.rate
            value.grad += 2 * config.decay * value.detach() / (unit**2 * value.numel())  # type: ignore[operator]
            value.grad /= value.grad.norm() + 1e-9  # type: ignore[operator]
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
    return LowRankDelta(start.a, {name: value.detach() for name, value in values.items()}, start.header)


def in_force(backbone: Backbone, under: LowRankDelta | None) -> AbstractContextManager[None]:
    """The backbone as edited by `under`, if by anything."""
    return nullcontext() if under is None else under.applied_to(backbone.model)


def _orthonormal(delta: LowRankDelta) -> LowRankDelta:
    """The same update with orthonormal input directions."""
    pairs = {name: torch.linalg.qr(a.mT) for name, a in delta.a.items()}
    return LowRankDelta(
        {name: basis.mT.contiguous() for name, (basis, _) in pairs.items()},
        {name: delta.b[name] @ rest.mT for name, (_, rest) in pairs.items()},
        delta.header,
    )


def prepare_descent(
    backbone: Backbone, practice: Practice, config: DescentConfig, watch: Collection[str] = ()
) -> Drill:
    """What `descend` needs of the texts that it will ask; the inputs of sites to `watch` too."""
    drawn = _draw_steps(len(practice.fit), len(practice.keep), config)
    return prepare_drill(backbone, practice, {i for fit, keep in drawn for i in (*fit, *keep)}, watch)


@torch.no_grad()
def prepare_drill(
    backbone: Backbone,
    practice: Practice,
    places: Collection[int] | None = None,
    watch: Collection[str] = (),
) -> Drill:
    """What is needed to ask the texts of a practice at some `places`, or at all of them."""
    texts, fits = (*practice.fit, *practice.keep), len(practice.fit)
    asked = sorted(range(len(texts)) if places is None else places)
    states = backbone.encode([texts[place] for place in asked])
    drill = Drill(texts, fits, dict(zip(asked, states, strict=True)), {}, {})
    run = asked if watch else [place for place in asked if place >= fits]
    for part in like_length(run, texts, TOKENS):
        with watch_sites(backbone) if watch else nullcontext(({}, {})) as (inputs, _):
            logits, owner, _ = _answers(backbone, drill, part)
        for row, place in enumerate(part):
            text, left = texts[place], place >= fits
            if left:
                drill.before[place] = logits[owner == row]
            if watch:
                read = list(text.positions) if left else range(len(backbone.start_ids), len(text.ids) - 1)
                drill.keys[place] = {name: inputs[name][row, read].float() for name in watch}
    return drill


def _answers(backbone: Backbone, drill: Drill, part: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits ``[n v]`` at the positions that predict the answers, whose text each is, the answers' tokens."""
    top = backbone.top(backbone.pad_states([drill.states[place] for place in part]))
    rows, positions, targets = answer_rows([drill.texts[place] for place in part], top.device)
    return backbone.logits(top[rows, positions]), rows, targets


def add_gradients(
    backbone: Backbone,
    change: Callable[[], LowRankDelta],
    drill: Drill,
    weights: Mapping[int, float],
    config: DescentConfig,
    under: LowRankDelta | None,
) -> None:
    """Add the gradient of one step's loss to the leaves that `change` makes its update of.

    The loss is the sum of `text_losses` of the texts by their `weights`, a few texts at a time: the update is
    made anew for each. The edits `under` it are in force.
    """
    for part in like_length(weights, drill.texts, TOKENS):
        with torch.enable_grad(), in_force(backbone, under):
            loss = text_losses(backbone, change(), drill, part, config)
            (loss * torch.tensor([weights[place] for place in part], device=loss.device)).sum().backward()


def text_losses(
    backbone: Backbone, delta: LowRankDelta, drill: Drill, part: Sequence[int], config: DescentConfig
) -> Float[Tensor, " b"]:
    """One number a text: how much its answer still lacks, or how far it has been moved."""
    with delta.applied_to(backbone.model):
        logits, owner, targets = _answers(backbone, drill, part)
    lacking = (-answer_log_probs(logits, targets) - config.margin).clamp(min=0)
    left = torch.tensor([place in drill.before for place in part], device=owner.device)  # alone
    kept = left[owner]
    if kept.any():
        before = torch.cat([drill.before[place] for place in part if place in drill.before])
        moved = torch.zeros_like(lacking).masked_scatter(kept, kl_divergence(before, logits[kept]))
        lacking = torch.where(kept, moved, lacking)
    losses = mean_per_text(lacking, owner, len(part))
    if config.whole:
        losses = torch.where(left, losses, losses * torch.bincount(owner, minlength=len(part)))
    return soften(losses, BEND)


def rate_at(step: int, steps: int) -> float:
    """Three steps of warming up, and a straight fall to a fifth."""
    return min(1.0, (step + 1) / 3) * (1 - 0.8 * step / steps)


def _draw_steps(fits: int, keeps: int, config: DescentConfig) -> list[tuple[list[int], list[int]]]:
    """By step the places of the texts to answer, the first always among them, and of those to leave alone."""
    rng, total = random.Random(0), fits + keeps
    return [
        ([0, *_draw(range(1, fits), config.fit, rng)], _draw(range(fits, total), config.keep, rng))
        for _ in range(config.steps)
    ]


def _draw(places: range, count: int, rng: random.Random) -> list[int]:
    return rng.sample(places, min(count, len(places)))
