"""What a hypernetwork is told of edits, and one pass of it: the part of an editor that training trains."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from instructedit.backbone import Backbone, PrefixCache, Site
from instructedit.delta import LowRankDelta
from instructedit.editors.polish import in_force
from instructedit.editors.requests import EditorConfig, RequestTexts
from instructedit.factors import Anchors, Factors, capture_groups, read_anchors
from instructedit.hypernetwork import Hypernetwork
from instructedit.types import EditCase


class Observer(nn.Module):
    """A hypernetwork for one backbone, and what it looks at: factors, instructions and anchors of edits."""

    settings: ClassVar[type[EditorConfig]] = EditorConfig
    network: ClassVar[type[Hypernetwork]] = Hypernetwork  # what turns factors into deltas

    def __init__(self, config: EditorConfig, sites: Sequence[Site], width: int, seed: int = 0) -> None:
        super().__init__()
        self.config, self.name, self.texts = config, config.name, RequestTexts(config)
        self.hypernetwork = self.network(sites, width, config.transform, seed)

    def adjust(self, **changes: Any) -> None:
        """Change how edits are made from now on; `changes` are fields of the config."""
        self.config = self.texts.config = replace(self.config, **changes)

    def adjust_by(self, values: Mapping[str, Any]) -> None:
        """The same by plain values, such as YAML gives them. Errors: as `EditorConfig.changed`."""
        self.adjust(**vars(self.config.changed(values)))

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
