"""Many edits in one model: solved together, and batch after batch with the ones before kept."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.descent import dense_delta
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.requests import CHECKS
from instructedit.editors.together import FactWriter
from instructedit.errors import DataError
from instructedit.instructions import instruction_for
from instructedit.progress import track
from instructedit.site_rows import SiteRows
from instructedit.types import EditCase

if TYPE_CHECKING:
    from instructedit.editors import Editor

CHUNK = 16  # edits whose rows are in memory at one time


def edit_many(
    editor: "Editor",
    backbone: Backbone,
    cases: Sequence[EditCase],
    instructions: Sequence[str] | None = None,
    size: int | None = None,
) -> LowRankDelta:
    """One delta (b = 1) that holds all the edits, solved in batches of `size`, or all at once without it.

    A single edit, and an editor that sums instead of solving, give the sum of the edits made alone.
    Errors: `DataError` for a size below one, and for a method whose edits cannot be put together.
    """
    if size is not None and size < 1:
        raise DataError(f"batches of {size} edits cannot be made. Expected a size of at least 1.")
    trained: Any = editor  # a method has no network
    network = getattr(trained, "hypernetwork", None)
    if len(cases) == 1 or network is None or not network.solves:
        change = editor.edit(backbone, cases, instructions)
        if not isinstance(change, LowRankDelta):
            raise DataError(
                f"the edits of {editor.name} cannot be put together: they are no deltas. Edit one at a time."
            )
        return change.merge()
    words = [instruction_for(case) for case in cases] if instructions is None else list(instructions)
    sequence, step = EditSequence(trained, backbone), size or len(cases)
    for start in track(range(0, len(cases), step), "Editing"):
        sequence.add(cases[start : start + step], words[start : start + step])
    return sequence.delta


@dataclass
class EditSequence:
    """The edits that are in force together in one model.

    Facts are written by a `FactWriter`, where the editor's config says so; anything else is solved for: each
    site keeps P = e^lambda C + sum of K.T K over the rows of all edits so far (float64, ``[d_in d_in]``) and
    the sum of the updates ``[d_out d_in]``, as much for a thousand edits as for one. A batch is read under
    the updates before it and solved by dW.T = (P + K.T K)^-1 K.T D, so what earlier edits are asked is
    mapped to no change. `past` are their requests, by prompt. `backbone` is given as the editor's own, and
    kept as one that reaches every site: what is in force has to be asked with it.
    Source: the normal equation of MALMEN (arXiv 2311.04661); AlphaEdit (arXiv 2410.02355) for the past keys.
    """

    editor: InstructedEditor
    backbone: Backbone
    systems: dict[str, Float[Tensor, "_ _"]] = field(default_factory=dict)
    updates: dict[str, Float[Tensor, "_ _"]] = field(default_factory=dict)
    past: dict[str, tuple[EditCase, str]] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        self.own, together = self.backbone, self.editor.config.together
        self.writer = FactWriter(self.own, together) if together.steps else None
        self.backbone = self.writer.backbone if self.writer else self.own

    @property
    def delta(self) -> LowRankDelta:
        """All the edits as one delta, b = 1."""
        return dense_delta({name: update[None] for name, update in self.updates.items()})

    @torch.no_grad()
    def add(self, cases: Sequence[EditCase], instructions: Sequence[str]) -> None:
        """Edit once more; of the edits before, some are asked again, and what is lost is made again.

        An earlier edit whose prompt is asked now with another answer is not asked again.
        """
        told = {case.prompt for case in cases}
        past = [pair for prompt, pair in self.past.items() if prompt not in told]
        self._make(cases, instructions, past)
        most = min(self.writer.config.asked, len(past)) if self.writer else 0
        if asked := random.Random(self.count).sample(past, most):
            held = self.editor.taken(self.backbone, [case for case, _ in asked], self.delta)
            lost = [pair for pair, still in zip(asked, held, strict=True) if not still]
            if lost:
                self._make([case for case, _ in lost], [words for _, words in lost], past)
        self.keep(cases, instructions)

    def keep(self, cases: Sequence[EditCase], instructions: Sequence[str]) -> None:
        """Count some edits as made, and know what they ask."""
        pairs = zip(cases, instructions, strict=True)
        self.past |= {case.prompt: (case, words) for case, words in pairs}
        self.count += len(cases)

    def _make(
        self, cases: Sequence[EditCase], instructions: Sequence[str], past: Sequence[tuple[EditCase, str]]
    ) -> None:
        """Make some edits; what has not taken is made again on top, as often as the editor says."""
        part = list(zip(cases, instructions, strict=True))
        for turn in range(self.writer.config.rounds if self.writer else self.editor.config.rounds):
            asked = [case for case, _ in part]
            taken = self.editor.taken(self.backbone, asked, self.delta) if turn else [False] * len(part)
            part = [pair for pair, done in zip(part, taken, strict=True) if not done]
            if not part:
                break
            written = [pair for pair in part if self.writer and self.editor.is_fact(pair[0])]
            if written:
                self._write(written, past)
            if read := [pair for pair in part if pair not in written]:
                self._solve([case for case, _ in read], [words for _, words in read])
        if self.writer and (facts := [case for case in cases if self.editor.is_fact(case)]):
            self.writer.hold(facts, self.delta)

    def _write(self, pairs: Sequence[tuple[EditCase, str]], past: Sequence[tuple[EditCase, str]]) -> None:
        assert self.writer
        texts, settings = self.editor.texts, self.writer.config
        found = [(case, texts.practice(self.own, case, words)) for case, words in pairs]
        known = [(case, practice) for case, practice in found if practice]
        near = [texts.near(self.own, case) for case, _ in known]
        drawn = random.Random(self.count).sample(past, min(settings.replay * settings.steps, len(past)))
        earlier = [text for pair in drawn for text in texts.checks(self.own, *pair)[:: CHECKS + 1]]
        change = self.writer.write(
            [case for case, _ in known], [practice for _, practice in known], near, earlier, self.delta
        )
        for name in change.a:
            self._add_update(name, change.dense(name)[0])

    def _solve(self, cases: Sequence[EditCase], instructions: Sequence[str]) -> None:
        moments: dict[str, Tensor] = {}
        under = self.delta if self.updates else None
        for start in range(0, len(cases), CHUNK):
            part = slice(start, start + CHUNK)
            for rows in self.editor.rows(self.own, cases[part], instructions[part], under):
                self._add(rows, moments)
        for name, shape, index in self.editor.hypernetwork.places():
            if name in moments:
                factor = torch.linalg.cholesky(self.systems[name])
                self._add_update(name, shape.to_weight(index, torch.cholesky_solve(moments[name], factor)))

    def _add(self, rows: Mapping[str, SiteRows], moments: dict[str, Tensor]) -> None:
        """Add what one edit asks to the normal equations."""
        for name, shape, index in self.editor.hypernetwork.places():
            if name in rows:
                gram, moment = shape.normal_equation(index, rows[name])
                known = self.systems.get(name)
                self.systems[name] = gram + (shape.metric(index) if known is None else known)
                moments[name] = moment + moments.get(name, 0)

    def _add_update(self, name: str, update: Float[Tensor, "d_out d_in"]) -> None:
        self.updates[name] = self.updates.get(name, 0) + update
