"""Marks: where the subject of a fact has been read, for gates further up to hear in whatever is asked."""

import random
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.backbone.neurons import Neurons, find_neurons
from instructedit.data.subjects import subject_of
from instructedit.delta import LowRankDelta
from instructedit.editors.heard import hear_subjects
from instructedit.editors.location import early_blocks
from instructedit.editors.neuron_config import NeuronConfig
from instructedit.editors.subject_gates import GateWriter
from instructedit.types import EditCase

DEPTH = 0.4  # share of the blocks that lie before the one that is marked in
STANDS_OUT = 1.0  # standard deviations, as `Fit` has its margins: a subject that does not has no mark


def marking_neurons(backbone: Backbone) -> Neurons | None:
    """The neurons of the block that marks are made in; None where it is the last, or built otherwise."""
    (block,) = early_blocks(backbone, DEPTH, 1)
    return find_neurons(backbone, block) if block < len(backbone.blocks) - 1 else None


@torch.no_grad()
def make_mark(
    backbone: Backbone,
    case: EditCase,
    near: Sequence[str],
    written: Float[Tensor, " d"] | None,
    text: str = "",
) -> LowRankDelta:
    """A mark (b = 1): one spare neuron that writes `written` where the subject of a case has been read.

    It opens under the subject's other names as well, and stays shut at the names `near` it and in ordinary
    text, that of the file `text` or the package's own. A request without a subject, or with one that does not
    stand out, has none: the update has no sites. `written` is what `teach_mark` has found for the model:
    nothing, where it was not asked.
    """
    learned = written is not None and bool(written.any())
    neurons = marking_neurons(backbone) if learned and subject_of(case) else None
    if neurons is None or written is None:
        return LowRankDelta({}, {})
    writer = GateWriter(backbone, NeuronConfig(), [neurons], text)
    heard = hear_subjects(writer.backbone, [neurons.gate], [case], [near], LowRankDelta({}, {}))
    (ground,) = writer.grounds
    fit = writer.fit(ground, heard)
    if fit.margins[0] < STANDS_OUT:
        return LowRankDelta({}, {})
    chance = random.Random(case.prompt)  # edits that are added up seldom take the same neuron
    place = torch.tensor([chance.randrange(len(ground.spare))], device=ground.spare.device)
    opened = writer.take(ground, place, fit.bends)
    new = written[None, :, None] / writer.passed
    return LowRankDelta(opened.a, {**opened.b, neurons.down: opened.b[neurons.down] + new})
