"""Facts that depend on no others: neurons of their own, found on the unedited model, put together at last."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.drill import Practice
from instructedit.editors.ground import Ground
from instructedit.editors.requests import EditorConfig
from instructedit.editors.subject_gates import GateWriter, no_room, start_writer
from instructedit.types import EditCase


@dataclass(frozen=True)
class Patch:
    """Neurons for one block: what each reads with, and what it writes where it is open."""

    reads: Float[Tensor, "k d"]
    writes: Float[Tensor, "k d"]


Patches = Mapping[str, Patch]  # of one fact, by the layer that the neurons of a block read with


class LoneWriter(GateWriter):
    """Writes facts as if there were no others: which blocks they take neurons of is left to chance.

    The request decides it, and how many are taken.
    """

    def order(self, case: EditCase, taken: Mapping[int, int]) -> list[int]:
        return random.Random(f"{case.prompt} {sum(self.taken)}").sample(list(taken), len(taken))


@dataclass
class PatchMaker:
    """Makes the patches of facts, each on the unedited model, and one update of many.

    In which order, and with which others, does not matter: the neurons whose places are taken are those that
    ordinary text uses least, as many in a block as are needed, and a new one does the same in any place.
    """

    writer: LoneWriter

    @property
    def room(self) -> dict[str, int]:
        """How many neurons of each block facts can take, by the layer that they read with."""
        return {ground.neurons.gate: len(ground.spare) for ground in self.writer.grounds}

    def make(
        self,
        case: EditCase,
        practice: Practice,
        near: Sequence[str],
        taken: Callable[[LowRankDelta], bool],
        rounds: int,
    ) -> Patches:
        """What one fact asks for; where it has not `taken`, it takes more neurons, up to so many `rounds`."""
        lone, change = copy(self.writer), LowRankDelta({}, {})
        lone.taken = [0] * len(lone.grounds)
        for _ in range(rounds):
            change = change + lone.write([case], [practice], [near], (), change)
            if taken(change):
                break
        pairs = zip(lone.grounds, lone.taken, strict=True)
        return {ground.neurons.gate: _take_out(ground, change, count) for ground, count in pairs if count}

    @torch.no_grad()
    def join(self, edits: Iterable[Patches]) -> LowRankDelta:
        """One update (b = 1) of many facts; none: it has no sites.

        Errors: `DataError` where there are fewer spare neurons in a block than they ask for.
        """
        found: dict[str, list[Patch]] = {}
        for patches in edits:
            for name, patch in patches.items():
                found.setdefault(name, []).append(patch)
        parts = [
            _put_in(self.writer, ground, found[ground.neurons.gate])
            for ground in self.writer.grounds
            if ground.neurons.gate in found
        ]
        return sum(parts, LowRankDelta({}, {}))


def start_patches(backbone: Backbone, config: EditorConfig) -> PatchMaker | None:
    """What makes facts with neurons of their own; None where the config or the model's build has none."""
    writer = start_writer(backbone, config, LoneWriter)
    return PatchMaker(writer) if isinstance(writer, LoneWriter) else None


def _take_out(ground: Ground, change: LowRankDelta, count: int) -> Patch:
    """The neurons that a change has put in the place of the first so many spare ones."""
    names, places = ground.neurons, ground.spare[:count]
    reads = change.dense(names.gate)[0][places] + ground.reads[names.gate][:count]
    return Patch(reads, change.dense(names.down)[0][:, places].mT + ground.writes[:count])


def _put_in(writer: GateWriter, ground: Ground, patches: Sequence[Patch]) -> LowRankDelta:
    """The change that puts neurons in the place of as many spare ones."""
    device, down = ground.spare.device, ground.neurons.down
    reads, writes = (torch.cat([getattr(patch, part) for patch in patches]) for part in ("reads", "writes"))
    if len(reads) > len(ground.spare):
        raise no_room(len(ground.spare))
    opened = writer.take(ground, torch.arange(len(reads), device=device), reads.to(device))
    return LowRankDelta(opened.a, {**opened.b, down: opened.b[down] + writes.mT[None].to(device)})
