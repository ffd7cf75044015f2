"""The instructed editor: one hypernetwork for every kind of edit, told by words which kind is at hand."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from instructedit.backbone import Backbone, PrefixCache, Site, Text
from instructedit.data.anchors import make_anchors
from instructedit.data.paraphrase import make_rephrases
from instructedit.data.subjects import subject_of
from instructedit.delta import LowRankDelta
from instructedit.factors import Anchors, Factors, answer_rows, capture, last_inputs
from instructedit.hypernetwork import Hypernetwork, TransformConfig
from instructedit.instructions import instruction_for, render
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


class InstructedEditor(nn.Module):
    """A trained editor for one backbone: `edit` turns cases into one delta each."""

    def __init__(self, config: EditorConfig, sites: Sequence[Site], width: int, seed: int = 0) -> None:
        super().__init__()
        self.config, self.name = config, config.name
        self.hypernetwork = Hypernetwork(sites, width, config.transform, seed)

    @torch.no_grad()
    def edit(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str] | None = None
    ) -> LowRankDelta:
        """Edit in single mode: one delta a case, each for the unedited model; nothing is written.

        Without `instructions` each case uses its own, or one from its task's bank. A case whose
        answer is not yet the model's first choice is edited again on top, up to `config.rounds` times.
        """
        words = [instruction_for(case) for case in cases] if instructions is None else list(instructions)
        wordings = self.config.wordings
        delta = self.propose(backbone, cases, words, wordings=wordings)
        for _ in range(self.config.rounds - 1):
            failed = [index for index, taken in enumerate(self.taken(backbone, cases, delta)) if not taken]
            if not failed:
                break
            again = self.propose(
                backbone,
                [cases[i] for i in failed],
                [words[i] for i in failed],
                under=delta[failed],
                wordings=wordings,
            )
            delta = delta + again.spread(failed, len(cases))
        return delta

    @torch.no_grad()
    def taken(self, backbone: Backbone, cases: Sequence[EditCase], delta: LowRankDelta) -> list[bool]:
        """Whether the wanted answer is the edited model's greedy answer to the bare prompt.

        A case without one answer, such as a sentiment, counts as taken.
        """
        texts = [backbone.text(case.prompt, case.wanted) for case in cases]
        with delta.applied_to(backbone.model):
            top = backbone.top(backbone.prefix(texts))
        rows, positions, targets = answer_rows(texts, top.device)
        wrong = rows[backbone.logits(top[rows, positions]).argmax(-1) != targets].tolist()
        return [index not in wrong for index in range(len(cases))]

    def propose(
        self,
        backbone: Backbone,
        cases: Sequence[EditCase],
        instructions: Sequence[str],
        cache: PrefixCache | None = None,
        under: LowRankDelta | None = None,
        wordings: int = 0,
    ) -> LowRankDelta:
        """One pass of the same with gradients for the hypernetwork: what meta-training differentiates.

        The factors are those of the model as edited by `under`, where it is given; the rows of up to
        `wordings` other wordings of the request join its own.
        """
        with under.applied_to(backbone.model) if under is not None else nullcontext():
            factors = self.capture(backbone, cases, instructions, cache, wordings)
        state, absent = self.read(backbone, instructions, cache)
        return self.hypernetwork(factors, state, absent, self.anchors(backbone, cases, cache))

    def capture(
        self,
        backbone: Backbone,
        cases: Sequence[EditCase],
        instructions: Sequence[str],
        cache: PrefixCache | None = None,
        wordings: int = 0,
    ) -> Factors:
        """The factors of each request, those of its other wordings among them."""
        texts = self.edit_texts(backbone, cases, instructions)
        teachers = self.teachers(backbone, cases, instructions)
        if not wordings:
            return capture(backbone, texts, cache, teachers)
        groups = [self.wording_texts(backbone, case, wordings) for case in cases]
        size = 1 + wordings
        rows = [[own, *more, *[own] * size][:size] for own, more in zip(texts, groups, strict=True)]
        flat = [text for row in rows for text in row]
        told = [teacher for own in teachers for teacher in [own, *[None] * wordings]]
        present = torch.arange(size)[None] <= torch.tensor([len(more) for more in groups])[:, None]
        return capture(backbone, flat, cache, told).join(present.to(backbone.device))

    def wording_texts(self, backbone: Backbone, case: EditCase, count: int) -> list[Text]:
        """Other wordings of a request by templates, its answer behind each; none of what has no answer."""
        if case.kind in self.config.distil or not case.carrier:
            return []
        prompts = make_rephrases(case, 0, count)
        return [self._from_subject(backbone, prompt, case) for prompt in prompts]

    def anchors(
        self, backbone: Backbone, cases: Sequence[EditCase], cache: PrefixCache | None = None
    ) -> Anchors | None:
        """What each edit shall leave alone, as the unedited model reads it; None where there is nothing."""
        slots = self.config.transform.others + self.config.transform.own
        texts = self.anchor_texts(backbone, cases)
        if not slots or not any(texts):
            return None
        places = [index * slots + slot for index, row in enumerate(texts) for slot in row]
        inputs = last_inputs(backbone, [text for row in texts for text in row.values()], cache)
        keys = {
            name: x.new_zeros(len(cases) * slots, x.shape[-1])
            .index_copy(0, torch.tensor(places, device=x.device), x)
            .view(len(cases), slots, -1)
            for name, x in inputs.items()
        }
        own = torch.arange(slots, device=backbone.device) >= self.config.transform.others
        return Anchors(keys, own)

    def anchor_texts(self, backbone: Backbone, cases: Sequence[EditCase]) -> list[dict[int, Text]]:
        """Each edit's anchors by their slot: those of other subjects first."""
        found = []
        for case in cases:
            others, own = make_anchors(case, self.config.transform.others, self.config.transform.own)
            row = {slot: backbone.text(prompt) for slot, prompt in enumerate(others)}
            row |= {
                self.config.transform.others + slot: backbone.text(prompt) for slot, prompt in enumerate(own)
            }
            found.append(row)
        return found

    def edit_texts(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str]
    ) -> list[Text]:
        """The texts whose loss is differentiated: the request, behind its instruction in the prefix way."""
        texts = []
        for case, words in zip(cases, instructions, strict=True):
            prompt = render(words, case.prompt, case.task) if self.config.prefix else case.prompt
            texts.append(self._from_subject(backbone, prompt, case))
        return texts

    def _from_subject(self, backbone: Backbone, prompt: str, case: EditCase) -> Text:
        """A prompt with the edit's answer, whose rows begin at the subject, or behind the start token."""
        subject = subject_of(case) if self.config.from_subject else ""
        before = max(prompt.rfind(subject), 0) if subject else 0
        head = backbone.text(prompt[:before].rstrip())
        return replace(backbone.text(prompt, case.carrier), first=len(head.ids))

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

    def instruction_texts(self, backbone: Backbone, instructions: Sequence[str]) -> list[Text]:
        """The texts that instruction codes are read from; none in the prefix way."""
        return [backbone.text(words or " ") for words in instructions] if self.config.transform.code else []

    def read(
        self, backbone: Backbone, instructions: Sequence[str], cache: PrefixCache | None = None
    ) -> tuple[Float[Tensor, "b d"], Bool[Tensor, " b"]]:
        """The mean prefix state over each instruction (without the start token), and where there is none."""
        absent = torch.tensor([not words for words in instructions], device=backbone.device)
        texts = self.instruction_texts(backbone, instructions)
        if not texts:
            return torch.zeros(len(instructions), backbone.width, device=backbone.device), absent
        hidden = backbone.prefix(texts, cache).float()
        skip = len(backbone.start_ids)
        rows = [hidden[i, skip : max(len(text.ids), skip + 1)].mean(0) for i, text in enumerate(texts)]
        return torch.stack(rows), absent
