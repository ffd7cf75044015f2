"""Running the command line inside the test process, with an editor that needs no training."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import torch

from instructedit.cli import run
from instructedit.cli.loading import load_model
from instructedit.cli.options import ModelChoice
from instructedit.delta import LowRankDelta
from instructedit.types import EditCase


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


def make_run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs one command line and gives exit code, stdout and stderr."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return call


def use_editor(monkeypatch: pytest.MonkeyPatch, editor: object) -> None:
    """Let the commands find `editor`, whatever they ask for."""

    def load_pair(choice: ModelChoice, _name: str) -> tuple:
        return load_model(choice), editor

    monkeypatch.setattr("instructedit.cli.loading.load_pair", load_pair)


class PatientEditor:
    """Descends the edit's own loss for `steps` steps; 0 steps change nothing at all."""

    name = "patient"

    def __init__(self, steps: int = 15) -> None:
        self.steps = steps

    def edit(
        self, backbone, cases: Sequence[EditCase], instructions: Sequence[str] | None = None
    ) -> LowRankDelta:
        found = [self._fit(backbone, case) for case in cases]
        sides = [{n: torch.cat([getattr(d, side)[n] for d in found]) for n in found[0].a} for side in "ab"]
        return LowRankDelta(*sides)

    def _fit(self, backbone, case: EditCase) -> LowRankDelta:
        draw = torch.Generator().manual_seed(0)
        a = {s.name: torch.randn(1, 4, s.d_in, generator=draw) / s.d_in**0.5 for s in backbone.sites}
        b = {s.name: torch.zeros(1, s.d_out, 4, requires_grad=True) for s in backbone.sites}
        text = backbone.text(case.prompt, case.wanted or case.carrier)
        rows, targets = list(text.positions), torch.tensor(text.targets)
        optimiser, hidden = torch.optim.Adam(b.values(), lr=0.15), backbone.prefix([text])
        for _ in range(self.steps):
            with LowRankDelta(a, b).applied_to(backbone.model):
                logits = backbone.logits(backbone.top(hidden)[0, rows])
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(logits, targets).backward()
            optimiser.step()
        return LowRankDelta(a, {name: value.detach() for name, value in b.items()})
