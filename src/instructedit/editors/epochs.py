"""Fine-tuning on many edits at once: epochs of mini-batches over one change that all of them share."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone, Text
from instructedit.editors.descent import Descent, Made, answer_losses

BATCH = 100  # texts of one step


def descend_together(
    backbone: Backbone,
    texts: Sequence[Text],
    start: Mapping[str, Float[Tensor, "b ..."]],
    make: Callable[[dict[str, Tensor]], Made],
    settings: Descent,
    project: Callable[[Tensor], Tensor] | None = None,
    batch: int = BATCH,
    seed: int = 0,
) -> Made:
    """Train one change for all texts, breadth first: each of `settings.steps` epochs passes once over all.

    `start`, `make` and `project` are those of `descend`, for b = 1; `seed` draws the order. A text that is
    done at its turn gives no gradient in that turn. Source: LocFT-BF (arXiv 2509.22072).
    """
    hidden = backbone.prefix(texts)
    leaves = {name: x.detach().clone().requires_grad_() for name, x in start.items()}
    optimiser = settings.optimiser(leaves.values())
    generator = torch.Generator().manual_seed(seed)
    for _ in range(settings.steps):
        stepped = False
        for part in torch.randperm(len(texts), generator=generator).split(batch):
            told = [texts[index] for index in part.tolist()]
            with torch.enable_grad():
                loss, taken = answer_losses(backbone, hidden[part.to(hidden.device)], told, make(leaves))
                going = settings.going(loss.detach(), taken)
                if not going.any():
                    continue
                gradients = torch.autograd.grad(loss[going].mean(), list(leaves.values()))
            for leaf, gradient in zip(leaves.values(), gradients, strict=True):
                leaf.grad = gradient
            optimiser.step()
            _project(leaves, project)
            stepped = True
        if not stepped:
            break
    return make({name: x.detach() for name, x in leaves.items()})


@torch.no_grad()
def _project(leaves: Mapping[str, Tensor], project: Callable[[Tensor], Tensor] | None) -> None:
    if project is not None:
        for leaf in leaves.values():
            leaf.copy_(project(leaf))
