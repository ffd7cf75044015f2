"""The instructed editor: one hypernetwork for every kind of edit, told by words which kind is at hand."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from instructedit.backbone import Backbone, PrefixCache, Site, Text
from instructedit.delta import LowRankDelta
from instructedit.factors import capture
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

        Without `instructions` each case uses its own, or one from its task's bank.
        """
        words = [instruction_for(case) for case in cases] if instructions is None else list(instructions)
        return self.propose(backbone, cases, words)

    def propose(
        self,
        backbone: Backbone,
        cases: Sequence[EditCase],
        instructions: Sequence[str],
        cache: PrefixCache | None = None,
    ) -> LowRankDelta:
        """The same with gradients for the hypernetwork: what meta-training differentiates."""
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
