"""Editors for the evaluation's tests: one does nothing, one writes noise, one solves its edits."""

import random
from collections.abc import Sequence

import torch

from instructedit.backbone import Text
from instructedit.delta import LowRankDelta
from instructedit.evaluation.scoring import score_texts
from instructedit.factors import answer_nll
from instructedit.types import EditCase, Probe

RANK = 2


def empty_delta(backbone, count: int, scale: float = 0.0, seeds: Sequence[int] = ()) -> LowRankDelta:
    """`count` deltas side by side: zero, or noise drawn from one seed each."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds or range(count)]

    def draw(rows: int, columns: int) -> torch.Tensor:
        return scale * torch.stack([torch.randn(rows, columns, generator=each) for each in generators])

    a = {site.name: draw(RANK, site.d_in) for site in backbone.sites}
    return LowRankDelta(a, {site.name: draw(site.d_out, RANK) for site in backbone.sites})


class ZeroEditor:
    """Leaves the model as it is."""

    name = "zero"

    def edit(self, backbone, cases, instructions=None) -> LowRankDelta:
        return empty_delta(backbone, len(cases))


class NoiseEditor:
    """Writes noise that depends on the case alone, so that batches cannot matter."""

    name = "noise"

    def edit(self, backbone, cases, instructions=None) -> LowRankDelta:
        seeds = [random.Random(case.prompt).randrange(10**6) for case in cases]
        return empty_delta(backbone, len(cases), scale=0.3, seeds=seeds)


class SolvingEditor:
    """Descends on the texts that `wants` names for a case and its instruction until the model says them."""

    name = "solving"

    def __init__(self, wants=lambda case, _words: [(case.prompt, case.wanted)], rounds: int = 8) -> None:
        self.wants, self.rounds = wants, rounds
        self.seen: list[tuple[EditCase, str]] = []

    def edit(self, backbone, cases, instructions=None) -> LowRankDelta:
        told = list(zip(cases, instructions or [""] * len(cases), strict=True))
        self.seen += told
        delta = empty_delta(backbone, len(cases), scale=0.1)
        pairs = [(row, *pair) for row, asked in enumerate(told) for pair in self.wants(*asked)]
        if not pairs:
            return empty_delta(backbone, len(cases))
        texts = [backbone.text(prompt, answer) for _, prompt, answer in pairs]
        rows = [row for row, *_ in pairs]
        for _ in range(self.rounds):
            _descend(backbone, delta, texts, rows)
            if score_texts(backbone, delta, texts, rows)["edited_exact"].all():
                break
        return delta


def _descend(
    backbone, delta: LowRankDelta, texts: Sequence[Text], rows: Sequence[int], steps: int = 10
) -> None:
    """Some steps on the delta's own factors, in place."""
    factors = [factor.requires_grad_() for factor in (*delta.a.values(), *delta.b.values())]
    optimiser, hidden = torch.optim.Adam(factors, lr=0.05), backbone.prefix(texts)
    for _ in range(steps):
        with torch.enable_grad(), delta.applied_to(backbone.model, rows=torch.tensor(rows)):
            loss = answer_nll(backbone, backbone.top(hidden), texts).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for factor in factors:
        factor.requires_grad_(False)


def facts() -> list[EditCase]:
    """Three factual edits with every sort of probe, of different lengths."""
    return [
        EditCase(
            prompt=f"The capital of {country} is",
            target_new=city,
            subject=country,
            task="counterfact",
            case_id=str(number),
            probes=(
                Probe("rephrase", f"{country} has the capital", ()),
                Probe("locality", "Rome is a city in", ("Italy",), "neighbour"),
                Probe("locality", f"I think the writer of {country} lived in a", ()),
                Probe(
                    "portability",
                    f"People in the capital of {country} speak",
                    ("French", "Gallic"),
                    "one_hop",
                ),
                Probe("portability", f"{city} is the capital of", (country,), "inverse"),
            ),
        )
        for number, (country, city) in enumerate(
            [("Spain", "Rome"), ("Italy", "good old London"), ("X", "Y")]
        )
    ]


def opinions() -> list[EditCase]:
    """Two sentiment edits, one a side."""
    sides = (("Rome", "positive"), ("the book", "negative"))
    return [
        EditCase(
            prompt=f"What do you think of {topic}?",
            target_new="",
            subject=topic,
            task="convsent",
            kind="sentiment",
            sentiment=side,
            case_id=topic,
            positive=(" I think it is good. ", "It is a city I like.", "good"),
            negative=("I think it is bad.", "I do not like it."),
            probes=(
                Probe("rephrase", f"How do you feel about {topic}?", ()),
                Probe("locality", "What do you think of Madrid?", ("I do not know.",), "other_topic"),
            ),
        )
        for topic, side in sides
    ]
