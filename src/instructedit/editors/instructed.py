"""The instructed editor: one hypernetwork for every kind of edit, told by words which kind is at hand."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from instructedit.backbone import Backbone, PrefixCache, Site
from instructedit.delta import LowRankDelta
from instructedit.editors.drill import Practice
from instructedit.editors.gates import make_gates
from instructedit.editors.ground import Ground, Grounds
from instructedit.editors.polish import in_force, polish
from instructedit.editors.reading import Reader
from instructedit.editors.requests import EditorConfig, RequestTexts
from instructedit.editors.stance import Stance, read_topics
from instructedit.editors.strength import answered, faintest
from instructedit.editors.summed import CHUNK
from instructedit.editors.told import read_told
from instructedit.editors.writing import Blank, prepare, write
from instructedit.errors import DataError
from instructedit.factors import Anchors, Factors, capture_groups, read_anchors
from instructedit.hypernetwork import Hypernetwork
from instructedit.instructions import instruction_for
from instructedit.progress import track
from instructedit.site_rows import SiteRows
from instructedit.types import EditCase

__all__ = ["EditorConfig", "InstructedEditor"]


class InstructedEditor(nn.Module):
    """A trained editor for one backbone: `edit` turns cases into one delta each."""

    settings: ClassVar[type[EditorConfig]] = EditorConfig
    network: ClassVar[type[Hypernetwork]] = Hypernetwork  # what turns factors into deltas

    def __init__(self, config: EditorConfig, sites: Sequence[Site], width: int, seed: int = 0) -> None:
        super().__init__()
        self.config, self.name, self.texts = config, config.name, RequestTexts(config)
        self.hypernetwork = self.network(sites, width, config.transform, seed)
        self.stance = Stance(config.stance, width, seed) if config.stance.marks else None
        self.scope, self.kind = (Reader(2 * width) if config.polish.scoped else None for _ in range(2))
        self._grounds = Grounds()

    def adjust(self, **changes: Any) -> None:
        """Change how edits are made from now on; `changes` are fields of the config."""
        self.config = self.texts.config = replace(self.config, **changes)

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
        ways = (self.opine, self.gate, self._edit)
        parts = [(make, [i for i, way in enumerate(taken) if way == make]) for make in ways]
        made = [
            make(backbone, [cases[i] for i in places], [words[i] for i in places]).spread(places, len(cases))
            for make, places in parts
            if places
        ]
        return sum(made[1:], made[0])

    def _way(self, backbone: Backbone, case: EditCase) -> Callable[..., LowRankDelta]:
        if not self.is_fact(case):
            return self._edit if self.stance is None else self.opine
        return self.gate if self.ground(backbone) else self._edit

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
        again = self._edit(backbone, [cases[i] for i in failed], [instructions[i] for i in failed])
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

    def _edit(self, backbone: Backbone, cases: Sequence[EditCase], words: Sequence[str]) -> LowRankDelta:
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

    def told(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str]
    ) -> list[EditCase]:
        """Each case as its instruction asks for it: an erasure, or of narrow scope, where the words say so.

        What is the one or the other by itself stays so. `gate` and `polish` take cases that were told.
        """
        return read_told(self.kind, self.scope, backbone, cases, instructions)

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

    def propose(
        self,
        backbone: Backbone,
        cases: Sequence[EditCase],
        instructions: Sequence[str],
        cache: PrefixCache | None = None,
        under: LowRankDelta | None = None,
        whole: bool = False,
    ) -> LowRankDelta:
        """One pass of the same with gradients for the hypernetwork: what meta-training differentiates.

        The factors are those of the model as edited by `under`, where it is given. With `whole` the rows of
        the request's other wordings join its own: so `edit` has it, training would have many more texts.
        """
        return self.hypernetwork(*self.observe(backbone, cases, instructions, cache, under, whole))

    def observe(
        self,
        backbone: Backbone,
        cases: Sequence[EditCase],
        instructions: Sequence[str],
        cache: PrefixCache | None = None,
        under: LowRankDelta | None = None,
        whole: bool = False,
    ) -> tuple[Factors, Float[Tensor, "b d"], Bool[Tensor, " b"], Anchors | None]:
        """What the hypernetwork is told of each edit; as `propose`."""
        with in_force(backbone, under):
            factors = self.capture(backbone, cases, instructions, cache, whole)
        state, absent = self.read(backbone, instructions, cache)
        texts = self.texts.anchors(backbone, cases, whole=whole)
        return factors, state, absent, read_anchors(backbone, texts, cache)

    def capture(
        self,
        backbone: Backbone,
        cases: Sequence[EditCase],
        instructions: Sequence[str],
        cache: PrefixCache | None = None,
        whole: bool = False,
    ) -> Factors:
        """The factors of each request, those of its other wordings among them."""
        texts = self.texts.requests(backbone, cases, instructions)
        teachers = self.texts.teachers(backbone, cases, instructions)
        pairs = zip(cases, instructions, strict=True)
        more = [self.texts.wordings(backbone, *pair) if whole else [] for pair in pairs]
        groups = [[own, *others] for own, others in zip(texts, more, strict=True)]
        return capture_groups(backbone, groups, cache, teachers)

    def read(
        self, backbone: Backbone, instructions: Sequence[str], cache: PrefixCache | None = None
    ) -> tuple[Float[Tensor, "b d"], Bool[Tensor, " b"]]:
        """The mean prefix state over each instruction (without the start token), and where there is none."""
        absent = torch.tensor([not words for words in instructions], device=backbone.device)
        texts = self.texts.instructions(backbone, instructions)
        if not texts:
            return torch.zeros(len(instructions), 0, device=backbone.device), absent
        hidden = backbone.prefix(texts, cache).float()
        skip = len(backbone.start_ids)
        ends = [max(len(text.ids), skip + 1) for text in texts]
        return torch.stack([hidden[i, skip:end].mean(0) for i, end in enumerate(ends)]), absent
