"""Fine-tuning by hooks: Adam on changes that are added to the frozen model, one a case, side by side."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from instructedit.backbone import Backbone, Text
from instructedit.delta import LowRankDelta
from instructedit.editors.change import Change
from instructedit.editors.location import output_projections
from instructedit.factors import answer_rows
from instructedit.metrics import all_per_text, hits, mean_per_text
from instructedit.types import EditCase

BETAS, EPSILON = (0.9, 0.999), 1e-8  # Adam's own
Made = TypeVar("Made", bound=Change)


@dataclass(frozen=True)
class Descent:
    """How a change is trained, and when it has been trained enough.

    A case is done when the mean NLL of its answer is below `loss` (nats a token) or, with `first_choice`,
    when each token of its answer is the model's first choice; at the latest after `steps` steps.
    """

    steps: int
    lr: float
    weight_decay: float = 0.0  # decoupled, and on the change: it pulls towards the unedited model
    loss: float = 0.01
    first_choice: bool = False

    def optimiser(self, leaves: Iterable[Tensor]) -> torch.optim.Optimizer:
        """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101)."""
        return torch.optim.AdamW(list(leaves), self.lr, BETAS, EPSILON, self.weight_decay)

    def going(self, loss: Float[Tensor, " b"], taken: Bool[Tensor, " b"]) -> Bool[Tensor, " b"]:
        """The cases that are not done yet."""
        return (loss >= self.loss) & ~(taken & self.first_choice)


def edit_texts(backbone: Backbone, cases: Sequence[EditCase], end: bool = False) -> list[Text]:
    """Each case's prompt with the answer to learn; with `end` the end token is part of the answer.

    A sentiment has no answer: its carrier stands in, which does not say which sentiment is wanted.
    Errors: `DataError` from `Backbone.text` when a text is too long.
    """
    texts = [backbone.text(case.prompt, case.wanted or case.carrier) for case in cases]
    token = backbone.tokenizer.eos_token_id if end else None
    if token is None:
        return texts
    return [Text((*text.ids, token)[: backbone.context], text.answer_start, text.first) for text in texts]


def answer_losses(
    backbone: Backbone, hidden: Float[Tensor, "b t d"], texts: Sequence[Text], change: Change
) -> tuple[Float[Tensor, " b"], Bool[Tensor, " b"]]:
    """The mean NLL of each answer under its change, in nats a token, and whether it is the first choice."""
    with change.applied_to(backbone.model):
        top = backbone.top(hidden)
    rows, positions, targets = answer_rows(texts, top.device)
    logits = backbone.logits(top[rows, positions]).float()
    loss = nn.functional.cross_entropy(logits, targets, reduction="none")
    taken = all_per_text(hits(logits, targets), rows, len(texts)) == 1
    return mean_per_text(loss, rows, len(texts)), taken


def descend(
    backbone: Backbone,
    texts: Sequence[Text],
    start: Mapping[str, Float[Tensor, "b ..."]],
    make: Callable[[dict[str, Tensor]], Made],
    settings: Descent,
    project: Callable[[Tensor], Tensor] | None = None,
) -> Made:
    """Train one change a text, from `start`, until its text is done; the texts do not see one another.

    Row i of every tensor of `start` belongs to text i. `make` turns such tensors, of as many rows as are
    still in training, into a change; `project` takes them back to where they may be after each step. A
    change that is done stays as it is, and its text is computed no more.
    """
    hidden = backbone.prefix(texts)
    leaves = {name: x.detach().clone().requires_grad_() for name, x in start.items()}
    optimiser = settings.optimiser(leaves.values())
    live = torch.arange(len(texts), device=hidden.device)
    for _ in range(settings.steps):
        with torch.enable_grad():
            change = make({name: x[live] for name, x in leaves.items()})
            told = [texts[index] for index in live.tolist()]
            loss, taken = answer_losses(backbone, hidden[live], told, change)
            gradients = torch.autograd.grad(loss.sum(), list(leaves.values()))
        live = live[settings.going(loss.detach(), taken)]
        if not len(live):
            break
        for leaf, gradient in zip(leaves.values(), gradients, strict=True):
            leaf.grad = gradient
        _step(optimiser, list(leaves.values()), live, project)
    return make({name: x.detach() for name, x in leaves.items()})


@torch.no_grad()
def _step(
    optimiser: torch.optim.Optimizer,
    leaves: Sequence[Tensor],
    live: Tensor,
    project: Callable[[Tensor], Tensor] | None,
) -> None:
    """One step of the optimiser that only the rows `live` take: its momentum would move the others too."""
    before = [leaf.clone() for leaf in leaves]
    optimiser.step()
    for leaf, old in zip(leaves, before, strict=True):
        old[live] = leaf[live] if project is None else project(leaf[live])
        leaf.copy_(old)


def fine_tune(
    backbone: Backbone,
    texts: Sequence[Text],
    settings: Descent,
    project: Callable[[Tensor], Tensor] | None = None,
) -> LowRankDelta:
    """Train a full update of the first output projection among the sites for each text.

    Errors: `ModelError` as `output_projections`.
    """
    site = output_projections(backbone)[0]
    start = torch.zeros(len(texts), site.d_out, site.d_in, device=backbone.device)
    return descend(backbone, texts, {site.name: start}, dense_delta, settings, project)


def dense_delta(updates: Mapping[str, Float[Tensor, "b d_out d_in"]]) -> LowRankDelta:
    """Full updates as a delta of full rank: the identity stands on the smaller side."""
    a: dict[str, Tensor] = {}
    b: dict[str, Tensor] = {}
    for name, update in updates.items():
        size = min(update.shape[1:])
        unit = torch.eye(size, device=update.device, dtype=update.dtype).repeat(len(update), 1, 1)
        a[name], b[name] = (update, unit) if size == update.shape[1] else (unit, update)
    return LowRankDelta(a, b)


def sparse_delta(updates: Mapping[str, Float[Tensor, "d_out d_in"]]) -> LowRankDelta:
    """Full updates as one delta (b = 1), exactly: rows, or columns, of zeros take no rank.

    Neurons that are few are such an update; one without zeros is given as by `dense_delta`.
    """
    pairs = {name: _sparse_pair(update) for name, update in updates.items()}
    return LowRankDelta(
        {n: a[None] for n, (a, _) in pairs.items()}, {n: b[None] for n, (_, b) in pairs.items()}
    )


def _sparse_pair(
    update: Float[Tensor, "d_out d_in"],
) -> tuple[Float[Tensor, "r d_in"], Float[Tensor, "d_out r"]]:
    rows, columns = (_used(update, axis) for axis in (1, 0))
    along = 0 if len(rows) <= len(columns) else 1
    unit = torch.eye(update.shape[along], device=update.device, dtype=update.dtype)
    return (unit[columns], update[:, columns]) if along else (update[rows], unit[:, rows])


def _used(update: Float[Tensor, "d_out d_in"], axis: int) -> Int[Tensor, " n"]:
    """Where there is anything but zeros along an axis, and one place where there is nothing at all."""
    found = update.any(axis).nonzero()[:, 0]
    return found if len(found) else found.new_zeros(1)
