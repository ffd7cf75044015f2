"""What an instructed editor reads of an edit: its request, other wordings, teacher, anchors, instruction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from instructedit.backbone import Backbone, Text
from instructedit.data.anchors import make_other_anchors, make_own_anchors, make_tail_anchors
from instructedit.data.paraphrase import make_rephrases
from instructedit.data.subjects import subject_of
from instructedit.editors.drill import Practice
from instructedit.editors.gates import GateConfig
from instructedit.editors.mending import MendConfig
from instructedit.editors.neighbours import Neighbours
from instructedit.editors.neuron_config import NeuronConfig
from instructedit.editors.polish import PolishConfig
from instructedit.editors.practice import fitting, make_practice, widen
from instructedit.editors.registry import Result
from instructedit.editors.settings import fill
from instructedit.editors.stance import StanceConfig
from instructedit.editors.together import TogetherConfig
from instructedit.editors.writing import WriteConfig
from instructedit.errors import DataError
from instructedit.factors import ANCHOR_KINDS, AnchorText
from instructedit.hypernetwork import TransformConfig
from instructedit.instructions import render
from instructedit.types import EditCase

OTHER, OWN, ANSWER, AFTER = range(len(ANCHOR_KINDS))
CHECKS = 3  # further wordings, not among those that are read, in which an edit is tried out
PLAIN = PolishConfig()


@dataclass(frozen=True)
class EditorConfig:
    """How an editor reads an edit.

    `prefix` puts the instruction in front of the edit's text, the paper's way; `transform.code`
    above zero reads it as a code instead, and the edit's text stays bare.
    """

    kind: ClassVar[str] = "instructed"  # as `registry.TRAINED`
    paper: ClassVar[str] = "Zhang et al. 2024, arXiv 2402.16123"  # this and the next as a `Method` has them
    result: ClassVar[Result] = "delta"

    name: str = "instructedit"
    prefix: bool = False
    distil: Sequence[str] = ()  # kinds of edit whose goal is what the model itself says when instructed
    rounds: int = 1  # an edit that has not taken is made again on top of itself, up to so many times
    wordings: int = 0  # other wordings of a request whose rows are used as well, in `edit` only
    behind: bool = False  # so are those of the request behind its instruction, in `edit` only
    strengths: Sequence[
        float
    ] = ()  # of these the faintest under which most wordings give the answer, in `edit`
    near: int = 0  # in `edit` only: anchors that ask the same of the names most like the subject
    tails: int = 0  # in `edit` only: anchors that are ordinary sentences which end as its prompts do
    from_subject: bool = False  # use only the rows from the subject on: those before it are everyone's
    transform: TransformConfig = field(default_factory=TransformConfig)
    polish: PolishConfig = field(default_factory=PolishConfig)  # what follows the pass, in `edit` only
    gate: GateConfig = field(default_factory=GateConfig)  # in the place of pass and polish, where it is on
    write: WriteConfig = field(default_factory=WriteConfig)  # for the pass, where edits are solved together
    together: TogetherConfig = field(default_factory=TogetherConfig)  # for both, in batches and sequences
    neurons: NeuronConfig = field(default_factory=NeuronConfig)  # instead, where each fact has its own
    mend: MendConfig = field(default_factory=MendConfig)  # what is put right of written edits as they add up
    stance: StanceConfig = field(default_factory=StanceConfig)  # how single opinions are made; none: the pass
    text: str = ""  # file of ordinary text that they leave alone; none: the package's

    def __post_init__(self) -> None:
        for name in ("distil", "strengths"):  # lists, where they were read from a file
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def changed(self, values: Mapping[str, Any]) -> "EditorConfig":
        """The same with some fields set, parts by mappings of theirs: ``{"polish": {"steps": 0}}``.

        Errors: `DataError` for `transform`, which training has fixed; as `settings.fill`.
        """
        if "transform" in values:
            part = values["transform"]
            path = f"transform.{next(iter(part))}" if isinstance(part, Mapping) and part else "transform"
            raise DataError(
                f"{path} was fixed when the editor was trained. Train one with --set editor.{path}."
            )
        return fill(self, values)


class RequestTexts:
    """The texts of edits, tokenised for one backbone, as a config has them read."""

    def __init__(self, config: EditorConfig) -> None:
        self.config, self.neighbours = config, Neighbours()

    def requests(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str]
    ) -> list[Text]:
        """The texts whose loss is differentiated: the request, behind its instruction in the prefix way."""
        prefix = self.config.prefix
        return [
            self._from_subject(
                backbone, render(words, case.prompt, case.task) if prefix else case.prompt, case
            )
            for case, words in zip(cases, instructions, strict=True)
        ]

    def wordings(self, backbone: Backbone, case: EditCase, instruction: str = "") -> list[Text]:
        """Other wordings of a request, its answer behind each; with `behind` its instruction makes one."""
        prompts = (*self._reworded(case), *self._instructed(case, instruction))
        return [self._from_subject(backbone, prompt, case) for prompt in prompts]

    def checks(self, backbone: Backbone, case: EditCase, instruction: str) -> list[Text]:
        """What an edit is tried out on: the request, the same behind its instruction, and unread wordings.

        None where there is no answer to look for.
        """
        if case.kind in self.config.distil:
            return []
        told, read = replace(case, subject=subject_of(case)), self._reworded(case)
        fresh = [prompt for prompt in make_rephrases(told, 1, 2 * CHECKS) if prompt not in read][:CHECKS]
        more = fitting(backbone, (*self._instructed(case, instruction), *fresh), case.wanted)
        return [backbone.text(case.prompt, case.wanted), *more]

    def practice(
        self, backbone: Backbone, case: EditCase, instruction: str, config: PolishConfig = PLAIN
    ) -> Practice | None:
        """What an edit is polished on, as `make_practice`; None where there is no answer to look for."""
        if case.kind in self.config.distil:
            return None
        checks = self.checks(backbone, case, instruction)
        told = self._instructed(case, instruction)
        near = self.near(backbone, case, config.breadth)
        return make_practice(backbone, case, told, near, checks, config)

    def wide_practice(self, backbone: Backbone, case: EditCase, instruction: str) -> Practice:
        """What the gates of an edit that has an answer are fitted on, as `widen`."""
        practice = self.practice(backbone, case, instruction, self.config.polish)
        assert practice is not None
        most = self.config.gate.others * (2 if self.config.gate.pieces else 1)
        names = self.neighbours.of(backbone, subject_of(case), most)
        return widen(backbone, case, practice, names, self.config.gate)

    def near(self, backbone: Backbone, case: EditCase, breadth: int = 1) -> list[str]:
        """The names most like the edit's subject, `breadth` times as many as the config says."""
        return self.neighbours.of(backbone, subject_of(case), breadth * self.config.near)

    def _instructed(self, case: EditCase, instruction: str) -> tuple[str, ...]:
        """The request behind its instruction, where that is read as well."""
        if not self.config.behind or not instruction or case.kind in self.config.distil:
            return ()
        return (render(instruction, case.prompt, case.task),)

    def _reworded(self, case: EditCase) -> tuple[str, ...]:
        """Other prompts for the same answer by templates; none where there is no answer."""
        if case.kind in self.config.distil or not self.config.wordings:
            return ()
        return make_rephrases(replace(case, subject=subject_of(case)), 0, self.config.wordings)

    def teachers(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str]
    ) -> list[Text | None]:
        """The instructed texts whose predictions are the goal, for the kinds of edit that are distilled."""
        return [
            backbone.text(render(words, case.prompt, case.task), case.carrier)
            if case.kind in self.config.distil and words
            else None
            for case, words in zip(cases, instructions, strict=True)
        ]

    def anchors(
        self, backbone: Backbone, cases: Sequence[EditCase], *, whole: bool = False
    ) -> list[list[AnchorText]]:
        """What each edit shall leave alone: other subjects, its subject asked otherwise, its own end.

        With `whole` the others are asked in every wording of the request by turns, and there are more.
        """
        if not self.config.transform.others + self.config.transform.own:
            return [[] for _ in cases]
        return [self._anchors(backbone, case, whole=whole) for case in cases]

    def _anchors(self, backbone: Backbone, case: EditCase, *, whole: bool) -> list[AnchorText]:
        near, tails = (self.config.near, self.config.tails) if whole else (0, 0)
        found, prompts = [], [case.prompt, *(self._reworded(case) if whole else ())]
        names = self.neighbours.of(backbone, subject_of(case), near)
        others = make_other_anchors(case, prompts, max(self.config.transform.others, near), names)
        for prompt in (*others, *make_tail_anchors(case, prompts, tails)):
            text = backbone.text(prompt)
            found.append(AnchorText(text, ((len(text.ids) - 1, OTHER),)))
        for prompt, answer in make_own_anchors(case, self.config.transform.own):
            text = backbone.text(prompt, answer)
            end, *words = text.positions
            found.append(AnchorText(text, ((end, OWN), *((place, ANSWER) for place in words))))
        if case.kind not in self.config.distil:
            text = backbone.text(case.prompt, self._answer(case))
            found.append(AnchorText(text, ((len(text.ids) - 1, AFTER),)))
        return found

    def instructions(self, backbone: Backbone, instructions: Sequence[str]) -> list[Text]:
        """The texts that instruction codes are read from; none in the prefix way."""
        return [backbone.text(words or " ") for words in instructions] if self.config.transform.code else []

    def all(self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str]) -> list[Text]:
        """Every text that one pass of the editor reads in training, where other wordings are left out."""
        teachers = [text for text in self.teachers(backbone, cases, instructions) if text is not None]
        anchors = [anchor.text for row in self.anchors(backbone, cases) for anchor in row]
        own = self.requests(backbone, cases, instructions)
        return [*own, *teachers, *anchors, *self.instructions(backbone, instructions)]

    def _from_subject(self, backbone: Backbone, prompt: str, case: EditCase) -> Text:
        """A prompt with the edit's answer, whose rows begin at the subject, or behind the start token."""
        subject = subject_of(case) if self.config.from_subject else ""
        before = max(prompt.rfind(subject), 0) if subject else 0
        head = backbone.text(prompt[:before].rstrip())
        return replace(backbone.text(prompt, self._answer(case)), first=len(head.ids))

    def _answer(self, case: EditCase) -> str:
        """What an edit is learned from: an editor that is told nothing reads what is wanted where it can."""
        told = self.config.prefix or self.config.transform.code
        return case.carrier if told else case.wanted or case.carrier
