"""What the model feels when it reads an edit: inputs and output gradients at every edited site."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from instructedit.backbone import Backbone, PrefixCache, Text
from instructedit.metrics.tokens import mean_per_text


@dataclass(frozen=True)
class Factors:
    """The factors of `b` edits: the gradient of site s for edit i is ``gradients[s][i].T @ inputs[s][i]``.

    Shapes: inputs ``[b n d_in]``, gradients ``[b n d_out]``, mask ``[b n]``; rows outside the mask
    are zero. A row is a token position of the edit's text, from its `first` on.
    """

    inputs: dict[str, Float[Tensor, "b n _"]]
    gradients: dict[str, Float[Tensor, "b n _"]]
    mask: Bool[Tensor, "b n"]

    def join(self, present: Bool[Tensor, "e w"]) -> "Factors":
        """The rows of each `w` texts that follow one another as those of one edit, absent texts left out.

        Rows within the mask come first, in their order, and no more columns are kept than one edit needs.
        """
        whole = (self.mask.view(*present.shape, -1) & present[..., None]).flatten(1)
        order = whole.int().argsort(dim=1, descending=True, stable=True)[:, : int(whole.sum(1).max())]
        mask = whole.gather(1, order)
        inputs, gradients = (
            {name: _take_rows(x.reshape(*whole.shape, -1), order, mask) for name, x in side.items()}
            for side in (self.inputs, self.gradients)
        )
        return Factors(inputs, gradients, mask)


ANCHOR_KINDS = ("other", "own", "answer", "after")


@dataclass(frozen=True, slots=True)
class AnchorText:
    """A text beside an edit, and those of its positions that the edit shall leave alone.

    Each row is a position and the place of its kind in `ANCHOR_KINDS`: the end of a prompt about another
    subject, that of another prompt about the own one, a word of an answer to it, the end of the new answer.
    """

    text: Text
    rows: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Anchors:
    """Inputs of every site that `b` edits shall leave alone, at up to `m` positions beside each.

    Shapes: keys ``[b m d_in]``, kind ``[b m]``, an index of `ANCHOR_KINDS`. Rows of zeros stand where
    an edit has fewer.
    """

    keys: dict[str, Float[Tensor, "b m _"]]
    kind: Int[Tensor, "b m"]


@contextmanager
def watch_sites(backbone: Backbone) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Give two dicts that fill during a forward pass: each site's input, and a zero added to its output.

    The gradient of a loss with respect to the zero is the gradient at the site's output, so no
    weight needs a gradient and nothing below the lowest site is walked back. Without gradients there
    are no zeros.
    """
    inputs: dict[str, Tensor] = {}
    zeros: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for site in backbone.sites:
            watch = partial(_watch, site.name, inputs, zeros)
            hooks.enter_context(backbone.modules[site.name].register_forward_hook(watch))
        yield inputs, zeros


def _watch(
    name: str,
    inputs: dict[str, Tensor],
    zeros: dict[str, Tensor],
    _module: nn.Module,
    args: tuple[Tensor, ...],
    output: Tensor,
) -> Tensor:
    """A site's forward hook, once it is bound to the first three."""
    inputs[name] = args[0].detach()
    if not torch.is_grad_enabled():
        return output
    zeros[name] = torch.zeros_like(output, requires_grad=True)
    return output + zeros[name]


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
    return mean_per_text(loss, rows, len(texts))


def capture(
    backbone: Backbone,
    texts: Sequence[Text],
    cache: PrefixCache | None = None,
    teachers: Sequence[Text | None] | None = None,
) -> Factors:
    """Read the edits' texts once and keep the factors of the loss on their answers.

    An edit with a teacher, a text that ends in the same answer, has as its loss the cross-entropy to
    what the model predicts there in the place of its answer's own tokens.

    Errors: `DataError` from `Backbone.text` when a text is too long. Source: MEND (arXiv
    2110.11309), section 3.1, for the rank-one form of a linear layer's gradient.
    """
    hidden = backbone.prefix(texts, cache)
    goals = _predictions(backbone, teachers, cache) if teachers and any(teachers) else {}
    with torch.enable_grad(), watch_sites(backbone) as (inputs, zeros):
        top = backbone.top(hidden)
        plain = [index for index in range(len(texts)) if index not in goals]
        told = [texts[index] for index in plain]
        loss = answer_nll(backbone, top[plain], told).sum() if told else top.new_zeros(())
        for index, goal in goals.items():
            logs = torch.log_softmax(backbone.logits(top[index, list(texts[index].positions)]).float(), -1)
            loss = loss - (goal * logs).sum(-1).mean()
        names = list(zeros)
        gradients = torch.autograd.grad(loss, [zeros[name] for name in names])
    starts = torch.tensor([text.first for text in texts], device=hidden.device)[:, None]
    counts = torch.tensor([len(text.ids) - 1 - text.first for text in texts], device=hidden.device)[:, None]
    offsets = torch.arange(int(counts.max()), device=hidden.device)[None]
    mask = offsets < counts
    places = (starts + offsets).clamp(max=hidden.shape[1] - 1)
    return Factors(
        {name: _take_rows(inputs[name], places, mask) for name in names},
        {name: _take_rows(grad, places, mask) for name, grad in zip(names, gradients, strict=True)},
        mask,
    )


def capture_groups(
    backbone: Backbone,
    groups: Sequence[Sequence[Text]],
    cache: PrefixCache | None = None,
    teachers: Sequence[Text | None] = (),
) -> Factors:
    """As `capture`, the rows of a group of texts as those of one edit; `teachers` are of the first texts."""
    counts = torch.tensor([len(group) for group in groups])
    size = int(counts.max())
    if size == 1:
        return capture(backbone, [own for own, *_ in groups], cache, teachers)
    flat = [text for own, *more in groups for text in [own, *more, *[own] * size][:size]]
    goals = [goal for teacher in teachers for goal in [teacher, *[None] * (size - 1)]]
    present = torch.arange(size)[None] < counts[:, None]
    return capture(backbone, flat, cache, goals).join(present.to(backbone.device))


def _take_rows(
    values: Float[Tensor, "b t d"], places: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"]
) -> Float[Tensor, "b n d"]:
    """The rows of each edit at its own places, zeros outside the mask; on its device, wherever values are."""
    taken = values.gather(1, places.to(values.device)[..., None].expand(-1, -1, values.shape[-1]))
    return taken.float().to(mask.device) * mask[..., None]


@torch.no_grad()
def _predictions(
    backbone: Backbone, teachers: Sequence[Text | None], cache: PrefixCache | None
) -> dict[int, Float[Tensor, "_ v"]]:
    """What the model predicts at the answer positions of each teacher, by its place."""
    texts = {index: text for index, text in enumerate(teachers) if text is not None}
    top = backbone.top(backbone.prefix(list(texts.values()), cache))
    return {
        index: torch.softmax(backbone.logits(top[row, list(text.positions)]).float(), -1)
        for row, (index, text) in enumerate(texts.items())
    }


@torch.no_grad()
def read_anchors(
    backbone: Backbone, anchors: Sequence[Sequence[AnchorText]], cache: PrefixCache | None = None
) -> Anchors | None:
    """The keys of each edit's anchors, as the unedited model reads them; None where there are none at all."""
    flat = [(edit, anchor) for edit, row in enumerate(anchors) for anchor in row]
    if not flat:
        return None
    hidden = backbone.prefix([anchor.text for _, anchor in flat], cache)
    with watch_sites(backbone) as (inputs, _):
        backbone.top(hidden)
    slots = [0] * len(anchors)
    read = []  # where each row is read, and where it goes
    for number, (edit, anchor) in enumerate(flat):
        for position, kind in anchor.rows:
            read.append((number, position, kind, edit, slots[edit]))
            slots[edit] += 1
    texts, positions, kinds, edits, places = torch.tensor(read, device=hidden.device).unbind(1)
    shape = (len(anchors), max(slots))
    rows = {name: _pick(x, texts, positions) for name, x in inputs.items()}
    return Anchors(
        {
            name: row.new_zeros(*shape, row.shape[-1]).index_put((edits, places), row)
            for name, row in rows.items()
        },
        kinds.new_zeros(shape).index_put((edits, places), kinds),
    )


def _pick(
    values: Float[Tensor, "b t d"], rows: Int[Tensor, " m"], positions: Int[Tensor, " m"]
) -> Float[Tensor, "m d"]:
    """What stands at some positions of some rows, on their device: a site may lie on another one."""
    return values[rows.to(values.device), positions.to(values.device)].float().to(rows.device)
