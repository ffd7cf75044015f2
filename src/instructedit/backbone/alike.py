"""Texts that begin alike, run as a tree: what they have in common once, and what follows it side by side."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone.parts import Text, like_length, same_beginning
from instructedit.backbone.shared_rows import as_mask

if TYPE_CHECKING:
    from instructedit.backbone.backbone import Backbone

WIDTH = 256  # tokens of a tree, where no single text is longer
TRIED = ((1, 5, 3, 8), (1, 5, 3, 2, 7), (1, 5), (4, 6))  # token ids that show whether a model can run trees
ROUNDING = 16  # times the precision's own, by which states may differ
UNABLE = (  # what a model may raise that cannot be run in such a way
    AttributeError,
    IndexError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass
class Tree:
    """Texts in one row: `ids` and `depths` of the tokens, and for each text, by its place, where its own are.

    A token stands behind those that come before it in its text, which several texts may have in common.
    """

    ids: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    paths: dict[int, list[int]] = field(default_factory=dict)

    def add(self, place: int, ids: Sequence[int], known: Sequence[int]) -> list[int]:
        """Add a text whose first tokens are `known`, by where they are; where all of its tokens are then."""
        path = [*known, *range(len(self.ids), len(self.ids) + len(ids) - len(known))]
        self.depths += range(len(known), len(ids))
        self.ids += ids[len(known) :]
        self.paths[place] = path
        return path

    def sees(self, width: int) -> Tensor:
        """Whether a token sees another, of `width` by `width` (booleans): its own text's up to itself."""
        seen = torch.zeros(width, width, dtype=torch.bool)
        for path in self.paths.values():
            own = torch.tensor(path)
            seen[own[:, None], own] = torch.ones(len(own), len(own), dtype=torch.bool).tril()
        return seen


def plant(texts: Sequence[Text], width: int = WIDTH) -> list[Tree]:
    """Texts in alphabetical order of their tokens, in trees of at most `width` tokens, or of one text."""
    trees = [Tree()]
    before: Sequence[int] = ()
    path: list[int] = []
    for place in sorted(range(len(texts)), key=lambda i: texts[i].ids):
        ids = texts[place].ids
        shared = same_beginning(before, ids)
        if len(trees[-1].ids) + len(ids) - shared > width and trees[-1].ids:
            trees.append(Tree())
            shared = 0
        path = trees[-1].add(place, ids, path[:shared])
        before = ids
    return trees


def takes_positions(backbone: "Backbone") -> bool:
    """Whether a model can be told where its tokens stand."""
    return "position_ids" in inspect.signature(backbone.model.base_model.forward).parameters


def can_share(backbone: "Backbone") -> bool:
    """Whether a model's prefix gives the same for trees as for their texts one by one, tried on four."""
    if not takes_positions(backbone):
        return False
    texts = [Text(ids, 1) for ids in TRIED]
    try:
        found = dict(run_trees(backbone, texts, len(texts[0].ids)))
    except UNABLE:
        return False
    alone = [backbone.run_prefix(backbone.pad([text.ids]))[0] for text in texts]
    return all(_is_same(found[place], rows.cpu()) for place, rows in enumerate(alone))


def _is_same(one: Float[Tensor, "t d"], two: Float[Tensor, "t d"]) -> bool:
    """Whether states differ by rounding alone, but for the first token, whose can hide all others."""
    first, second = one[1:].float(), two[1:].float()
    return bool((first - second).norm() < max(1e-3, ROUNDING * torch.finfo(one.dtype).eps) * second.norm())


def run_trees(
    backbone: "Backbone", texts: Sequence[Text], tokens: int
) -> Iterator[tuple[int, Float[Tensor, "_ d"]]]:
    """The prefix states of texts, on the CPU, with their places; about `tokens` tokens are run at a time."""
    trees = plant(texts)
    rows = [Text(tuple(tree.ids), 1) for tree in trees]
    for batch in like_length(range(len(trees)), rows, tokens):
        chosen = [trees[place] for place in batch]
        ids = backbone.pad([tree.ids for tree in chosen])
        seen = torch.stack([tree.sees(ids.shape[1]) for tree in chosen])
        mask = as_mask(seen, backbone.dtype).to(backbone.device)
        positions = backbone.pad([tree.depths for tree in chosen])
        hidden = backbone.run_prefix(ids, attention_mask=mask, position_ids=positions).cpu()
        for tree, row in zip(chosen, hidden, strict=True):
            yield from ((place, row[path]) for place, path in tree.paths.items())
