"""The instructed editor: one hypernetwork for every kind of edit, told by words which kind is at hand."""

from collections.abc import Callable, Sequence

import torch

from instructedit.backbone import Backbone, Site
from instructedit.delta import LowRankDelta
from instructedit.editors.gates import make_gates
from instructedit.editors.ground import Ground, Grounds
from instructedit.editors.passes import PassEditor
from instructedit.editors.reading import Reader
from instructedit.editors.requests import EditorConfig
from instructedit.editors.stance import Stance, read_topics
from instructedit.editors.told import read_told
from instructedit.errors import DataError
from instructedit.instructions import instruction_for
from instructedit.progress import track
from instructedit.types import EditCase

__all__ = ["EditorConfig", "InstructedEditor"]


class InstructedEditor(PassEditor):
    """A trained editor for one backbone: `edit` turns cases into one delta each."""

    def __init__(self, config: EditorConfig, sites: Sequence[Site], width: int, seed: int = 0) -> None:
        super().__init__(config, sites, width, seed)
        self.stance = Stance(config.stance, width, seed) if config.stance.marks else None
        self.scope, self.kind = (Reader(2 * width) if config.polish.scoped else None for _ in range(2))
        self._grounds = Grounds()

    @torch.no_grad()
    def edit(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str] | None = None
    ) -> LowRankDelta:
        """Edit in single mode: one delta a case, each for the unedited model; nothing is written.

        Without `instructions` each case uses its own, or one from its task's bank. Facts are made by `gate`
        and opinions by `opine`, where the config has the one and the editor has learned the other; the sites
        of both may lie beside its own. All else is a pass: a case whose answer is not yet the model's first
        choice is edited again on top, up to `config.rounds` times, then polished and tempered.
        Errors: `DataError` without a case.
        """
        if not cases:
            raise DataError("there is nothing to edit. Expected at least one case.")
        words = [instruction_for(case) for case in cases] if instructions is None else list(instructions)
        cases = self.told(backbone, cases, words)
        taken = [self._way(backbone, case) for case in cases]
        ways = (self.opine, self.gate, self.by_pass)
        parts = [(make, [i for i, way in enumerate(taken) if way == make]) for make in ways]
        made = [
            make(backbone, [cases[i] for i in places], [words[i] for i in places]).spread(places, len(cases))
            for make, places in parts
            if places
        ]
        return sum(made[1:], made[0])

    def _way(self, backbone: Backbone, case: EditCase) -> Callable[..., LowRankDelta]:
        if not self.is_fact(case):
            return self.by_pass if self.stance is None else self.opine
        return self.gate if self.ground(backbone) else self.by_pass

    def ground(self, backbone: Backbone) -> Ground | None:
        """What gates are built on; None where edits have none."""
        gates = self.config.gate.wordings and self.config.polish.steps
        return self._grounds.of(backbone, self.config.gate.ordinary, self.config.text) if gates else None

    @torch.no_grad()
    def gate(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str]
    ) -> LowRankDelta:
        """Facts, one delta each, that act where they are meant and nowhere else: see `make_gates`.

        One whose answer is not the edited model's first choice then is made by pass and polish instead.
        """
        pairs = track(zip(cases, instructions, strict=True), "Editing", total=len(cases))
        made = LowRankDelta.stack([self._gate(backbone, *pair) for pair in pairs])
        failed = self._failed(backbone.reaching(made.a), cases, made)
        if not failed:
            return made
        again = self.by_pass(backbone, [cases[i] for i in failed], [instructions[i] for i in failed])
        kept = [place for place in range(len(cases)) if place not in failed]
        return made[kept].spread(kept, len(cases)) + again.spread(failed, len(cases))

    def _gate(self, backbone: Backbone, case: EditCase, instruction: str) -> LowRankDelta:
        ground = self.ground(backbone)
        assert ground is not None
        practice = self.texts.wide_practice(backbone, case, instruction)
        return make_gates(ground, practice, self.config.gate)

    @torch.no_grad()
    def opine(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str]
    ) -> LowRankDelta:
        """Opinions, one delta each: what `stance` has learned, at their topics, as the instructions ask."""
        assert self.stance is not None
        keys = read_topics(backbone.reaching(self.stance.names), self.stance.names, cases)
        return self.stance(keys, self.stance.sentiment(*self.read(backbone, instructions)))

    def told(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str]
    ) -> list[EditCase]:
        """Each case as its instruction asks for it: an erasure, or of narrow scope, where the words say so.

        What is the one or the other by itself stays so, as all do where `config.polish` is not `scoped`.
        `gate` and `polish` take cases that were told.
        """
        if not self.config.polish.scoped:
            return list(cases)
        return read_told(self.kind, self.scope, backbone, cases, instructions)
