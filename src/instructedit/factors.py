"""What the model feels when it reads an edit: inputs and output gradients at every edited site."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from instructedit.backbone import Backbone, PrefixCache, Text


@dataclass(frozen=True)
class Factors:
    """The factors of `b` edits: the gradient of site s for edit i is ``gradients[s][i].T @ inputs[s][i]``.

    Shapes: inputs ``[b n d_in]``, gradients ``[b n d_out]``, mask ``[b n]``; rows outside the mask
    are zero. A row is a token position of the edit's text.
    """

    inputs: dict[str, Float[Tensor, "b n _"]]
    gradients: dict[str, Float[Tensor, "b n _"]]
    mask: Bool[Tensor, "b n"]


@contextmanager
def watch_sites(backbone: Backbone) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Give two dicts that fill during a forward pass: each site's input, and a zero added to its output.

    The gradient of a loss with respect to the zero is the gradient at the site's output, so no
    weight needs a gradient and nothing below the lowest site is walked back.
    """
    inputs: dict[str, Tensor] = {}
    zeros: dict[str, Tensor] = {}

    def watch(name: str) -> object:
        def hook(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            inputs[name] = args[0].detach()
            zeros[name] = torch.zeros_like(output, requires_grad=True)
            return output + zeros[name]

        return backbone.modules[name].register_forward_hook(hook)

    hooks = [watch(site.name) for site in backbone.sites]
    try:
        yield inputs, zeros
    finally:
        for hook in hooks:
            hook.remove()  # type: ignore[attr-defined]


def answer_rows(texts: Sequence[Text], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Flat indices of the answer-predicting positions: row of the batch, position in it, target id."""
    rows = [i for i, text in enumerate(texts) for _ in text.positions]
    positions = [p for text in texts for p in text.positions]
    targets = [t for text in texts for t in text.targets]
    return tuple(torch.tensor(x, dtype=torch.long, device=device) for x in (rows, positions, targets))  # type: ignore[return-value]


def answer_nll(backbone: Backbone, top: Float[Tensor, "b t d"], texts: Sequence[Text]) -> Float[Tensor, " b"]:
    """The mean negative log-likelihood of each text's answer tokens, in nats."""
    rows, positions, targets = answer_rows(texts, top.device)
    loss = nn.functional.cross_entropy(
        backbone.logits(top[rows, positions]).float(), targets, reduction="none"
    )
    counts = torch.bincount(rows, minlength=len(texts)).clamp(min=1)
    return torch.zeros(len(texts), device=top.device).index_add(0, rows, loss) / counts


def capture(backbone: Backbone, texts: Sequence[Text], cache: PrefixCache | None = None) -> Factors:
    """Read the edits' texts once and keep the factors of the loss on their answers.

    Errors: `DataError` from `Backbone.text` when a text is too long. Source: MEND (arXiv
    2110.11309), section 3.1, for the rank-one form of a linear layer's gradient.
    """
    hidden = backbone.prefix(texts, cache)
    with torch.enable_grad(), watch_sites(backbone) as (inputs, zeros):
        loss = answer_nll(backbone, backbone.top(hidden), texts).sum()
        names = list(zeros)
        gradients = torch.autograd.grad(loss, [zeros[name] for name in names])
    lengths = torch.tensor([len(text.ids) - 1 for text in texts], device=hidden.device)
    mask = torch.arange(hidden.shape[1] - 1, device=hidden.device)[None] < lengths[:, None]
    keep = mask[..., None]
    return Factors(
        {name: inputs[name][:, :-1].float() * keep for name in names},
        {name: grad[:, :-1].float() * keep for name, grad in zip(names, gradients, strict=True)},
        mask,
    )
