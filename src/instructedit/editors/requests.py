"""What an instructed editor reads of an edit: its request, other wordings, teacher, anchors, instruction."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from instructedit.backbone import Backbone, Text
from instructedit.data.anchors import make_anchors
from instructedit.data.paraphrase import make_rephrases
from instructedit.data.subjects import subject_of
from instructedit.hypernetwork import TransformConfig
from instructedit.instructions import render
from instructedit.types import EditCase


@dataclass(frozen=True)
class EditorConfig:
    """How an editor reads an edit.

    `prefix` puts the instruction in front of the edit's text, the paper's way; `transform.code`
    above zero reads it as a code instead, and the edit's text stays bare.
    """

    name: str = "instructedit"
    prefix: bool = False
    distil: Sequence[str] = ()  # kinds of edit whose goal is what the model itself says when instructed
    rounds: int = 1  # an edit that has not taken is made again on top of itself, up to so many times
    wordings: int = 0  # other wordings of a request whose rows are used as well, in `edit` only
    from_subject: bool = False  # use only the rows from the subject on: those before it are everyone's
    transform: TransformConfig = field(default_factory=TransformConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "distil", tuple(self.distil))  # a list, where it was read from a file


class RequestTexts:
    """The texts of edits, tokenised for one backbone, as a config has them read."""

    def __init__(self, config: EditorConfig) -> None:
        self.config = config

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

    def wordings(self, backbone: Backbone, case: EditCase, count: int) -> list[Text]:
        """Other wordings of a request, its answer behind each."""
        return [self._from_subject(backbone, prompt, case) for prompt in self._reworded(case, count)]

    def _reworded(self, case: EditCase, count: int) -> tuple[str, ...]:
        """Other prompts for the same answer by templates; none where there is no answer."""
        if case.kind in self.config.distil or not count:
            return ()
        return make_rephrases(replace(case, subject=subject_of(case)), 0, count)

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
        self, backbone: Backbone, cases: Sequence[EditCase], wordings: int = 0
    ) -> list[dict[int, Text]]:
        """Each edit's anchors by slot: first those of other subjects, in every wording, then its own."""
        transform = self.config.transform
        found = []
        for case in cases:
            prompts = [case.prompt, *self._reworded(case, wordings)]
            asked = [make_anchors(replace(case, prompt=p), transform.others, transform.own) for p in prompts]
            row = [prompt for others, _ in asked for prompt in others]
            slots = dict(enumerate(row)) | dict(enumerate(asked[0][1], transform.others * (1 + wordings)))
            found.append({slot: backbone.text(prompt) for slot, prompt in slots.items()})
        return found

    def instructions(self, backbone: Backbone, instructions: Sequence[str]) -> list[Text]:
        """The texts that instruction codes are read from; none in the prefix way."""
        return [backbone.text(words or " ") for words in instructions] if self.config.transform.code else []

    def all(self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str]) -> list[Text]:
        """Every text that one pass of the editor reads, other wordings left out."""
        teachers = [text for text in self.teachers(backbone, cases, instructions) if text is not None]
        anchors = [text for row in self.anchors(backbone, cases) for text in row.values()]
        own = self.requests(backbone, cases, instructions)
        return [*own, *teachers, *anchors, *self.instructions(backbone, instructions)]

    def _from_subject(self, backbone: Backbone, prompt: str, case: EditCase) -> Text:
        """A prompt with the edit's answer, whose rows begin at the subject, or behind the start token."""
        subject = subject_of(case) if self.config.from_subject else ""
        before = max(prompt.rfind(subject), 0) if subject else 0
        head = backbone.text(prompt[:before].rstrip())
        return replace(backbone.text(prompt, case.carrier), first=len(head.ids))
