"""The instructed editor: one hypernetwork for every kind of edit, told by words which kind is at hand."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from instructedit.backbone import Backbone, PrefixCache, Site
from instructedit.delta import LowRankDelta
from instructedit.editors.requests import EditorConfig, RequestTexts
from instructedit.factors import Anchors, Factors, answer_rows, capture, last_inputs
from instructedit.hypernetwork import Hypernetwork
from instructedit.instructions import instruction_for
from instructedit.types import EditCase

__all__ = ["EditorConfig", "InstructedEditor"]


class InstructedEditor(nn.Module):
    """A trained editor for one backbone: `edit` turns cases into one delta each."""

    def __init__(self, config: EditorConfig, sites: Sequence[Site], width: int, seed: int = 0) -> None:
        super().__init__()
        self.config, self.name, self.texts = config, config.name, RequestTexts(config)
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
        return self.hypernetwork(factors, state, absent, self.anchors(backbone, cases, cache, wordings))

    def capture(
        self,
        backbone: Backbone,
        cases: Sequence[EditCase],
        instructions: Sequence[str],
        cache: PrefixCache | None = None,
        wordings: int = 0,
    ) -> Factors:
        """The factors of each request, those of its other wordings among them."""
        texts = self.texts.requests(backbone, cases, instructions)
        teachers = self.texts.teachers(backbone, cases, instructions)
        if not wordings:
            return capture(backbone, texts, cache, teachers)
        groups = [self.texts.wordings(backbone, case, wordings) for case in cases]
        size = 1 + wordings
        rows = [[own, *more, *[own] * size][:size] for own, more in zip(texts, groups, strict=True)]
        flat = [text for row in rows for text in row]
        told = [teacher for own in teachers for teacher in [own, *[None] * wordings]]
        present = torch.arange(size)[None] <= torch.tensor([len(more) for more in groups])[:, None]
        return capture(backbone, flat, cache, told).join(present.to(backbone.device))

    def anchors(
        self,
        backbone: Backbone,
        cases: Sequence[EditCase],
        cache: PrefixCache | None = None,
        wordings: int = 0,
    ) -> Anchors | None:
        """What each edit shall leave alone, as the unedited model reads it; None where there is nothing."""
        others = self.config.transform.others * (1 + wordings)
        slots = others + self.config.transform.own
        texts = self.texts.anchors(backbone, cases, wordings)
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
        own = torch.arange(slots, device=backbone.device) >= others
        return Anchors(keys, own)

    def read(
        self, backbone: Backbone, instructions: Sequence[str], cache: PrefixCache | None = None
    ) -> tuple[Float[Tensor, "b d"], Bool[Tensor, " b"]]:
        """The mean prefix state over each instruction (without the start token), and where there is none."""
        absent = torch.tensor([not words for words in instructions], device=backbone.device)
        texts = self.texts.instructions(backbone, instructions)
        if not texts:
            return torch.zeros(len(instructions), backbone.width, device=backbone.device), absent
        hidden = backbone.prefix(texts, cache).float()
        skip = len(backbone.start_ids)
        rows = [hidden[i, skip : max(len(text.ids), skip + 1)].mean(0) for i, text in enumerate(texts)]
        return torch.stack(rows), absent
