"""GRACE: a codebook beside one layer, whose values stand in for its output near the keys of edits."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from instructedit.backbone import Backbone, Site, Text
from instructedit.editors.descent import answer_losses, edit_texts
from instructedit.editors.location import output_projections
from instructedit.editors.registry import Result
from instructedit.types import EditCase

BATCH = 16  # edits that are fitted side by side
EDGE = 1e-5  # between two balls that meet: what lies half-way is in one of them


@dataclass(frozen=True)
class Codebook:
    """`b` codebooks of `c` entries side by side, for the layer named `site`.

    A token whose input of the layer lies within the radius of its nearest key has the layer's output
    replaced by that key's value; every other token's output is the layer's own, to the bit. `labels`
    are the entries' target texts. Source: the deferral of GRACE (arXiv 2211.11031).
    """

    site: str
    keys: Float[Tensor, "b c d_in"]
    values: Float[Tensor, "b c d_out"]
    radii: Float[Tensor, "b c"]
    labels: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> "Codebook":
        part = slice(index, index + 1)
        return Codebook(
            self.site, self.keys[part], self.values[part], self.radii[part], (self.labels[index],)
        )

    @contextmanager
    def applied_to(self, model: Any, rows: Int[Tensor, " rows"] | None = None) -> Iterator[None]:
        """Let the model answer as edited, as `LowRankDelta.applied_to` does; no weight is written."""
        root: nn.Module = getattr(model, "model", model) if not isinstance(model, nn.Module) else model
        hook = root.get_submodule(self.site).register_forward_hook(self._hook(rows))
        try:
            yield
        finally:
            hook.remove()

    def _hook(self, rows: Tensor | None) -> Any:
        keys, values, radii = self.keys, self.values, self.radii
        if rows is not None and len(self) > 1:
            keys, values, radii = (side.index_select(0, rows) for side in (keys, values, radii))
        return partial(_replace_output, keys, values, radii)

    @staticmethod
    def stack(books: Sequence["Codebook"]) -> "Codebook":
        """Several codebooks of one layer side by side, all of as many entries."""
        keys, values, radii = (
            torch.cat([getattr(book, side) for book in books]) for side in ("keys", "values", "radii")
        )
        return Codebook(books[0].site, keys, values, radii, tuple(x for book in books for x in book.labels))

    def merge(self) -> "Codebook":
        """One codebook that has met all the edits in their order, its radii adapted on the way."""
        merged = self[0]
        for index in range(1, len(self)):
            merged = merged.add(self[index])
        return merged

    def add(self, entry: "Codebook") -> "Codebook":
        """Meet one more edit, a codebook of a single entry, whose radius is the initial one.

        Far from every key it is added as it is. Near one with the same target, that key's radius grows
        to hold it; near one with another target, both reach half-way to the other and no further, whether
        that is more than they reached before or less. Half-way counts as the new key's.
        Source: the codebook's maintenance in GRACE (arXiv 2211.11031): add, expand, split, with the radii
        that its authors' code sets.
        """
        distances = (self.keys[0] - entry.keys[0]).norm(dim=-1)
        nearest = int(distances.argmin())
        gap, radii, radius = distances[nearest], self.radii.clone(), entry.radii
        if gap <= radii[0, nearest] + radius[0, 0]:
            if self.labels[0][nearest] == entry.labels[0][0]:
                radii[0, nearest] = torch.maximum(radii[0, nearest], gap)
                return replace(self, radii=radii)
            radii[0, nearest] = gap / 2 - EDGE
            radius = torch.full_like(radius, float(gap / 2))
        return Codebook(
            self.site,
            torch.cat([self.keys, entry.keys], 1),
            torch.cat([self.values, entry.values], 1),
            torch.cat([radii, radius], 1),
            ((*self.labels[0], *entry.labels[0]),),
        )


@dataclass(frozen=True)
class GRACE:
    """A codebook at the MLP's output projection of one block, one entry an edit.

    The key is the layer's input at the prompt's last token. The value starts as the layer's own output
    there and is fitted to the target by Adam; of its steps the best is kept. An edit of a sentiment has
    no target: it is fitted to the carrier text, which does not know the sentiment that is wanted.
    """

    name: ClassVar[str] = "grace"
    paper: ClassVar[str] = "Hartvigsen et al. 2023, arXiv 2211.11031"
    result: ClassVar[Result] = "codebook"
    depth: ClassVar[float | None] = 0.75

    epsilon: float = 1.0  # initial radius, in units of the layer's input
    steps: int = 100
    rate: float = 1.0  # of Adam
    enough: float = 0.01  # nats a token: a value whose target is likelier than this is left as it is

    def edit(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str] | None = None
    ) -> Codebook:
        """One codebook a case, each for the unedited model; instructions are not used."""
        starts = range(0, len(cases), BATCH)
        return Codebook.stack([self._enter(backbone, cases[start : start + BATCH]) for start in starts])

    def _enter(self, backbone: Backbone, cases: Sequence[EditCase]) -> Codebook:
        texts, site = edit_texts(backbone, cases), output_projections(backbone)[0]
        hidden = backbone.prefix(texts)
        key, value = read_layer(backbone, site, hidden, texts)
        radii = torch.full((len(cases), 1), self.epsilon, device=key.device)
        labels = tuple((case.wanted or case.carrier,) for case in cases)
        book = Codebook(site.name, key[:, None], value[:, None], radii, labels)
        return self._fit(backbone, book, hidden, texts)

    @torch.enable_grad()
    def _fit(
        self, backbone: Backbone, book: Codebook, hidden: Float[Tensor, "b t d"], texts: Sequence[Text]
    ) -> Codebook:
        """Move the values down the targets' loss; every edit by itself."""
        values = book.values.clone().requires_grad_()
        optimiser = torch.optim.Adam([values], lr=self.rate)
        best, lowest = book.values.clone(), torch.full((len(book),), torch.inf, device=values.device)
        for _ in range(self.steps + 1):
            loss, _ = answer_losses(backbone, hidden, texts, replace(book, values=values))
            better = (loss.detach() < lowest) & (lowest >= self.enough)
            best = torch.where(better[:, None, None], values.detach(), best)
            lowest = torch.where(better, loss.detach(), lowest)
            if bool((lowest < self.enough).all()):
                break
            optimiser.zero_grad()
            loss.sum().backward()
            optimiser.step()
        return replace(book, values=best)


@torch.no_grad()
def read_layer(
    backbone: Backbone, site: Site, hidden: Float[Tensor, "b t d"], texts: Sequence[Text]
) -> tuple[Float[Tensor, "b d_in"], Float[Tensor, "b d_out"]]:
    """A layer's input and output at the last token of each text's prompt."""
    seen: list[tuple[Tensor, Tensor]] = []
    hook = backbone.modules[site.name].register_forward_hook(
        lambda _m, args, out: seen.append((args[0], out))
    )
    try:
        backbone.top(hidden)
    finally:
        hook.remove()
    places = [text.answer_start - 1 for text in texts]
    found = (side[range(len(texts)), places].float().to(backbone.device) for side in seen[0])
    return tuple(found)  # type: ignore[return-value]


def _replace_output(
    keys: Tensor, values: Tensor, radii: Tensor, _module: nn.Module, args: tuple[Tensor, ...], output: Tensor
) -> Tensor:
    """A forward hook, once it is bound to a codebook's sides: near a key its value is the output."""
    keys, values, radii = (side.to(args[0].device) for side in (keys, values, radii))
    grouped = args[0].float().reshape(len(keys), -1, keys.shape[-1])  # b n d_in
    distances = torch.cdist(grouped, keys, compute_mode="donot_use_mm_for_euclid_dist")  # b n c
    distance, entry = distances.min(-1)
    inside = (distance <= radii.gather(1, entry))[..., None]
    chosen = values.gather(1, entry[..., None].expand(-1, -1, values.shape[-1]))
    own = output.reshape(len(keys), -1, output.shape[-1])
    return torch.where(inside, chosen.to(output.dtype), own).reshape(output.shape)
