"""Edits by the trained pass: again where one did not take, polished, tempered, or written beside others."""

from collections.abc import Sequence

import torch

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.drill import Practice
from instructedit.editors.observing import Observer
from instructedit.editors.polish import polish
from instructedit.editors.strength import answered, faintest
from instructedit.editors.summed import CHUNK
from instructedit.editors.writing import Blank, prepare, write
from instructedit.progress import track
from instructedit.site_rows import SiteRows
from instructedit.types import EditCase


class PassEditor(Observer):
    """One pass of the hypernetwork an edit, and what is done to its result where the config says so."""

    def by_pass(self, backbone: Backbone, cases: Sequence[EditCase], words: Sequence[str]) -> LowRankDelta:
        """One delta a case: passes, up to `config.rounds` where one does not take, then polish and temper."""
        parts = [slice(start, start + CHUNK) for start in range(0, len(cases), CHUNK)]
        return LowRankDelta.stack([self._pass(backbone, cases[part], words[part]) for part in parts])

    def _pass(self, backbone: Backbone, cases: Sequence[EditCase], words: Sequence[str]) -> LowRankDelta:
        delta = self.propose(backbone, cases, words, whole=True)
        for _ in range(self.config.rounds - 1):
            if not (failed := self._failed(backbone, cases, delta)):
                break
            part, told = [cases[i] for i in failed], [words[i] for i in failed]
            again = self.propose(backbone, part, told, under=delta[failed], whole=True)
            delta = delta + again.spread(failed, len(cases))
        if self.config.polish.steps:
            delta = self.polish(backbone, cases, words, delta)
        return self.temper(backbone, cases, words, delta) if self.config.strengths else delta

    def _failed(self, backbone: Backbone, cases: Sequence[EditCase], delta: LowRankDelta) -> list[int]:
        return [place for place, taken in enumerate(self.taken(backbone, cases, delta)) if not taken]

    @torch.no_grad()
    def taken(self, backbone: Backbone, cases: Sequence[EditCase], delta: LowRankDelta) -> list[bool]:
        """Whether the wanted answer is the edited model's greedy answer to the bare prompt.

        A case without one answer, such as a sentiment, counts as taken.
        """
        texts = [backbone.text(case.prompt, case.wanted) for case in cases]
        owner = torch.arange(len(cases), device=backbone.device)
        return answered(backbone, texts, owner, delta, backbone.prefix(texts)).tolist()

    @torch.no_grad()
    def polish(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str], delta: LowRankDelta
    ) -> LowRankDelta:
        """Each edit after `config.polish`; what has no one answer, such as a sentiment, stays as it is."""
        pairs = zip(cases, instructions, strict=True)
        practices = [self.texts.practice(backbone, *pair, self.config.polish) for pair in pairs]
        edits = [
            self._polish(backbone, cases[place], delta[place], practice) if practice else delta[place]
            for place, practice in enumerate(track(practices, "Polishing"))
        ]
        return LowRankDelta.stack(edits)

    def _polish(
        self, backbone: Backbone, case: EditCase, delta: LowRankDelta, practice: Practice
    ) -> LowRankDelta:
        config = self.config.polish
        if not config.subject:
            return polish(backbone, delta, practice, config)
        blank = self._blank(backbone, case)
        return polish(backbone, delta, practice, config, blank.start, blank.rates)

    @torch.no_grad()
    def temper(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str], delta: LowRankDelta
    ) -> LowRankDelta:
        """Each edit at the faintest of `config.strengths` that gives its answer in as many wordings as any.

        The bare prompt goes before all other wordings. An edit that is right in all of them is not tried
        any stronger: that would be felt by prompts that have nothing to do with it.
        """
        pairs = zip(cases, instructions, strict=True)
        groups = [self.texts.checks(backbone, *pair) for pair in pairs]
        return delta.scale(faintest(backbone, delta, groups, self.config.strengths)) if any(groups) else delta

    @torch.no_grad()
    def rows(
        self,
        backbone: Backbone,
        cases: Sequence[EditCase],
        instructions: Sequence[str],
        under: LowRankDelta | None = None,
    ) -> list[dict[str, SiteRows]]:
        """What each case is solved from where edits are solved for together, by site (b = 1).

        With `config.write` an edit that has an answer is written; any other is what one pass reads of it.
        What passes make of facts does not add up: their updates of some sites cancel within an edit alone.
        """
        found = [self._write(backbone, *pair, under) for pair in zip(cases, instructions, strict=True)]
        left = [place for place, rows in enumerate(found) if not rows]
        if left:
            part, told = [cases[i] for i in left], [instructions[i] for i in left]
            read = self.observe(backbone, part, told, under=under, whole=True)
            for name, _, _, rows in self.hypernetwork.site_rows(*read):
                for place, index in enumerate(left):
                    found[index][name] = rows.of(place)
        return found

    def writes(self, case: EditCase) -> bool:
        """Whether a case is written where edits are solved for together: it has to have an answer."""
        return self.config.write.steps > 0 and self.is_fact(case)

    def is_fact(self, case: EditCase) -> bool:
        """Whether a case has one answer to look for; a sentiment has not."""
        return case.kind not in self.config.distil

    def _write(
        self, backbone: Backbone, case: EditCase, instruction: str, under: LowRankDelta | None
    ) -> dict[str, SiteRows]:
        """The rows of a written edit; none where nothing is to be written."""
        practice = self.texts.practice(backbone, case, instruction) if self.writes(case) else None
        if practice is None:
            return {}
        blank = self._blank(backbone, case, under)
        return write(backbone, self.hypernetwork, blank, practice, self.config.write, under)

    def _blank(self, backbone: Backbone, case: EditCase, under: LowRankDelta | None = None) -> Blank:
        near = self.texts.near(backbone, case)
        return prepare(backbone, self.hypernetwork, case, near, self.config.write, under)
