"""The texts of a course that neurons can move at all, each from where one first opens."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from instructedit.backbone import Backbone, Text, like_length
from instructedit.backbone.past import Past, read_pasts
from instructedit.delta import LowRankDelta
from instructedit.editors.drill import Drill, Practice, encode_drill
from instructedit.editors.ground import TOKENS
from instructedit.editors.tails import goes_on
from instructedit.factors import watch_sites

ROOM = 1 << 30  # bytes that pasts may take in memory; beyond it, texts are run whole


@torch.no_grad()
def drop_unheard(
    backbone: Backbone,
    practices: Sequence[Practice],
    reads: Mapping[str, Float[Tensor, "k _"]],
    least: float,
    under: LowRankDelta,
) -> list[Practice]:
    """The same without texts to be left alone in which no neuron is heard, as `prepare_opened` has it.

    Nothing moves those. They are run no further than to the last of the neurons.
    """
    texts = list(dict.fromkeys(text for practice in practices for text in practice.keep))
    states, until = backbone.encode(texts), backbone.above(reads)
    heard: set[Text] = set()
    with under.applied_to(backbone.model), watch_sites(backbone) as (inputs, _):
        for part in like_length(range(len(texts)), texts, TOKENS):
            backbone.top(backbone.pad_states([states[place] for place in part]), until)
            firsts = _first_heard(inputs, reads, least).tolist()
            heard |= {texts[n] for n, first in zip(part, firsts, strict=True) if first < _last(texts[n])}
    keeps = [tuple(text for text in practice.keep if text in heard) for practice in practices]
    return [replace(practice, keep=keep) for practice, keep in zip(practices, keeps, strict=True)]


@torch.no_grad()
def prepare_opened(
    backbone: Backbone,
    practice: Practice,
    reads: Mapping[str, Float[Tensor, "k _"]],
    least: float,
    under: LowRankDelta,
) -> Drill:
    """As `prepare_drill`, of the texts in which the model hears neurons before its answer ends.

    `reads` takes from a layer's input what each neuron passes on; one that passes on `least` is heard. What
    lies before it is as it was whatever the neurons write: it is read once, with `under` in force, which has
    them.
    """
    whole = encode_drill(backbone, practice)
    firsts, pasts = _listen(backbone, whole, reads, least, under)
    heard = replace(whole, states={place: whole.states[place] for place in firsts}).compared(backbone)
    if not pasts:
        return heard
    texts = list(whole.texts)
    for place, first in firsts.items():
        texts[place] = texts[place].after(first)
    states = {place: heard.states[place][first:-1] for place, first in firsts.items()}
    return replace(heard, texts=texts, states=states, pasts=pasts)


def _listen(
    backbone: Backbone,
    drill: Drill,
    reads: Mapping[str, Float[Tensor, "k _"]],
    least: float,
    under: LowRankDelta,
) -> tuple[dict[int, int], dict[int, Past]]:
    """By place of a text where a neuron is first heard, or its answer asked, and what lies before; none
    where the model cannot go on from that, or there is no room for it."""
    able = goes_on(backbone)
    firsts: dict[int, int] = {}
    pasts: dict[int, Past] = {}
    taken = 0
    with under.applied_to(backbone.model), watch_sites(backbone) as (inputs, _):
        for part in like_length(drill.states, drill.texts, TOKENS):
            hidden = backbone.pad_states([drill.states[place] for place in part])
            known = read_pasts(backbone, hidden) if able else backbone.top(hidden)
            found = _first_heard(inputs, reads, least).tolist()
            for row, (place, first) in enumerate(zip(part, found, strict=True)):
                text = drill.texts[place]
                if first < _last(text):
                    firsts[place] = min(first, text.answer_start - 1)
                    if able:
                        pasts[place] = known[row, ..., : firsts[place], :].clone()
                        taken += pasts[place].nbytes
            able = able and taken < ROOM
    return firsts, pasts if able else {}


def _last(text: Text) -> int:
    """The place of a text's last token, which is never gone on from."""
    return len(text.ids) - 1


def _first_heard(
    inputs: Mapping[str, Tensor], reads: Mapping[str, Float[Tensor, "k _"]], least: float
) -> Int[Tensor, " b"]:
    """The first token of each text at which any neuron passes on so much; the width where none does."""
    loud = [((inputs[name].float() @ rows.mT).abs() >= least).any(-1) for name, rows in reads.items()]
    heard = torch.stack(loud).any(0)
    return torch.where(heard.any(1), heard.int().argmax(1), heard.shape[1])
