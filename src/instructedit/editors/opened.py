"""The texts of a course that neurons can move at all, each from where one first opens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from instructedit.backbone import Backbone, Text, like_length
from instructedit.backbone.past import Past, read_pasts
from instructedit.delta import LowRankDelta
from instructedit.editors.drill import Drill, Practice, encode_drill
from instructedit.editors.ground import TOKENS
from instructedit.editors.tails import goes_on
from instructedit.factors import answer_rows, watch_sites

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
    """A drill of the texts in which the model hears neurons before its answer ends, from where it does.

    `reads` takes from a layer's input what each neuron passes on; one that passes on `least` is heard. What
    lies before it is as it was whatever the neurons write: it is read once, with `under` in force, which has
    them. Texts to be left alone are to stay as they are then: earlier edits hold.
    """
    whole = encode_drill(backbone, practice)
    reading = _Reading(goes_on(backbone))
    with under.applied_to(backbone.model), watch_sites(backbone) as (inputs, _):
        for part in like_length(whole.states, whole.texts, TOKENS):
            reading.add(backbone, whole, part, lambda: _first_heard(inputs, reads, least))
    states = {place: whole.states[place] for place in reading.firsts}
    if not reading.able:
        return replace(whole, states=states, before=reading.before)
    texts = list(whole.texts)
    for place, first in reading.firsts.items():
        texts[place], states[place] = texts[place].after(first), states[place][first:-1]
    return replace(whole, texts=texts, states=states, before=reading.before, pasts=reading.pasts)


@dataclass
class _Reading:
    """By place of a text in which a neuron is heard: the first token that has to be run, what lies before it,
    and what is predicted of texts to be left alone.

    Where the model cannot go on from pasts, or they take too much room, there are none: `able` is false.
    """

    able: bool
    firsts: dict[int, int] = field(default_factory=dict)
    pasts: dict[int, Past] = field(default_factory=dict)
    before: dict[int, Tensor] = field(default_factory=dict)

    def add(self, backbone: Backbone, drill: Drill, part: Sequence[int], first: Callable[[], Tensor]) -> None:
        """Run some texts; `first` gives the first token of each at which any neuron was loud."""
        hidden = backbone.pad_states([drill.states[place] for place in part])
        known, top = read_pasts(backbone, hidden) if self.able else (None, backbone.top(hidden))
        rows = {place: row for row, place in enumerate(part)}
        loud = {
            place: n for place, n in zip(part, first().tolist(), strict=True) if n < _last(drill.texts[place])
        }
        for place, token in loud.items():
            self.firsts[place] = min(token, drill.texts[place].answer_start - 1)
            if known is not None:
                self.pasts[place] = known[rows[place], ..., : self.firsts[place], :].clone()
        kept = [place for place in loud if place >= drill.fits]
        owner, positions, _ = answer_rows([drill.texts[place] for place in kept], top.device)
        predicted = backbone.logits(top[[rows[place] for place in kept]][owner, positions])
        self.before |= {place: predicted[owner == number] for number, place in enumerate(kept)}
        self.able = self.able and sum(past.nbytes for past in self.pasts.values()) < ROOM


def _last(text: Text) -> int:
    """The place of a text's last token, which is never gone on from."""
    return len(text.ids) - 1


def _first_heard(
    inputs: Mapping[str, Tensor], reads: Mapping[str, Float[Tensor, "k _"]], least: float
) -> Int[Tensor, " b"]:
    """The first token of each text at which any neuron passes on so much; the width where none does."""
    found = {name: inputs[name].float().to(rows.device) for name, rows in reads.items()}
    loud = [((found[name] @ rows.mT).abs() >= least).any(-1) for name, rows in reads.items()]
    heard = torch.stack(loud).any(0)
    return torch.where(heard.any(1), heard.int().argmax(1), heard.shape[1])
