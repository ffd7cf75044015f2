"""Edits made in one model during training: batch upon batch, as they are met in use."""

from collections.abc import Sequence

import torch

from instructedit.backbone import Backbone, PrefixCache
from instructedit.delta import LowRankDelta
from instructedit.editors.instructed import InstructedEditor
from instructedit.site_rows import SiteRows
from instructedit.types import EditCase


def propose_sequence(
    editor: InstructedEditor,
    backbone: Backbone,
    cases: Sequence[EditCase],
    instructions: Sequence[str],
    size: int,
    cache: PrefixCache | None = None,
) -> LowRankDelta:
    """All edits as one delta (b = 1), solved in batches of `size`, with gradients for the hypernetwork.

    Each batch is read on the model with those before it, and leaves their keys where they are. It is what
    `EditSequence` makes in one round of requests alone, in the dual form, which is the smaller one for
    few edits. An editor that does not solve gives the sum of the edits alone. Source: RLEdit (arXiv
    2502.05759), which trains over sequences.
    """
    network = editor.hypernetwork
    if not network.solves:
        return editor.propose(backbone, cases, instructions, cache).merge()
    whole, before = LowRankDelta({}, {}), dict[str, SiteRows]()
    for start in range(0, len(cases), size):
        part = slice(start, start + size)
        with torch.no_grad():  # what is observed is given; only what is made of it learns
            under = whole if start else None
            told = editor.observe(backbone, cases[part], instructions[part], cache, under)
        rows = {name: (s, i, own.join(before.get(name))) for name, s, i, own in network.site_rows(*told)}
        pairs = {name: shape.aggregate(index, joined) for name, (shape, index, joined) in rows.items()}
        whole = whole + LowRankDelta.of_pairs(pairs)
        before = {name: joined for name, (_, _, joined) in rows.items()}
    return whole
