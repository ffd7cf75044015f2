"""Opinions that share a model: what is known of each, and the one update of all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.data.anchors import load_names
from instructedit.delta import LowRankDelta
from instructedit.editors.covariance import remember
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.stance import Stance, read_topics
from instructedit.types import EditCase

OTHERS, QUESTION = 64, "What do you think of {}?"  # topics that marks stay away from, and how they are asked


@dataclass(frozen=True)
class Opinion:
    """A topic's key at each site that is given marks, and the sentiment that is asked for, from -1 to 1."""

    keys: dict[str, Float[Tensor, " d_in"]]
    sentiment: float


def is_opinion(editor: InstructedEditor, case: EditCase) -> bool:
    """Whether an editor makes a case by what it has learned of opinions."""
    return editor.stance is not None and not editor.is_fact(case)


@torch.no_grad()
def read_opinions(
    editor: InstructedEditor, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str]
) -> list[Opinion]:
    """What is known of some opinions, read on the unedited model."""
    stance = editor.stance
    assert stance is not None
    keys = read_topics(backbone.reaching(stance.names), stance.names, cases)
    sides = stance.sentiment(*editor.read(backbone, instructions)).tolist()
    return [
        Opinion({name: keys[name][place] for name in stance.names}, side) for place, side in enumerate(sides)
    ]


@torch.no_grad()
def join_opinions(stance: Stance | None, backbone: Backbone, opinions: Sequence[Opinion]) -> LowRankDelta:
    """One update (b = 1) of opinions, in any order the same; of none, one that has no sites.

    Many marks add up at topics that none of them is about. So they are told apart from those of well-known
    `OTHERS`, which are read on the unedited `backbone` and then known.
    """
    if stance is None or not opinions:
        return LowRankDelta({}, {})
    device = stance.mark.device
    keys = {n: torch.stack([opinion.keys[n] for opinion in opinions]).to(device) for n in stance.names}
    sentiment = torch.tensor([opinion.sentiment for opinion in opinions], device=device)
    others = remember(backbone, ("topics", *stance.names), lambda: _read_others(backbone, stance.names))
    made = stance.join(keys, sentiment, others)
    a, b = ({name: x.detach() for name, x in side.items()} for side in (made.a, made.b))
    return LowRankDelta(a, b)


def _read_others(backbone: Backbone, sites: Sequence[str]) -> dict[str, Float[Tensor, "m d_in"]]:
    names = load_names()
    some = names[:: max(1, len(names) // OTHERS)]
    cases = [EditCase(QUESTION.format(name), "", subject=name, kind="sentiment") for name in some]
    return read_topics(backbone.reaching(sites), sites, cases)
