"""The instructed editor: one hypernetwork for every kind of edit, told by words which kind is at hand."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from instructedit.backbone import Backbone, PrefixCache, Site, Text
from instructedit.delta import LowRankDelta
from instructedit.factors import answer_rows, capture
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
    rounds: int = 1  # an edit that has not taken is made again on top of itself, up to so many times
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
        delta = self.propose(backbone, cases, words)
        for _ in range(self.config.rounds - 1):
            failed = [index for index, taken in enumerate(self.taken(backbone, cases, delta)) if not taken]
            if not failed:
                break
            again = self.propose(
                backbone, [cases[i] for i in failed], [words[i] for i in failed], under=delta[failed]
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
    ) -> LowRankDelta:
        """One pass of the same with gradients for the hypernetwork: what meta-training differentiates.

        The factors are those of the model as edited by `under`, where it is given.
        """
        with under.applied_to(backbone.model) if under is not None else nullcontext():
            factors = capture(backbone, self.edit_texts(backbone, cases, instructions), cache)
        state, absent = self.read(backbone, instructions, cache)
        return self.hypernetwork(factors, state, absent)

    def edit_texts(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str]
    ) -> list[Text]:
        """The texts whose loss is differentiated: the request, behind its instruction in the prefix way."""
        return [
            backbone.text(
                render(words, case.prompt, case.task) if self.config.prefix else case.prompt, case.carrier
            )
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
