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

    Each site keeps P = e^lambda C + sum of K.T K over the rows of all edits so far (float64,
    ``[d_in d_in]``) and the sum of the updates ``[d_out d_in]``: as much for a thousand edits as for one.
    A batch is read under the updates before it and solved by dW.T = (P + K.T K)^-1 K.T D, so what
    earlier edits are asked is mapped to no change. `past` are their requests, by prompt.
    Source: the normal equation of MALMEN (arXiv 2311.04661); AlphaEdit (arXiv 2410.02355) for the past keys.
    """

    editor: InstructedEditor
    backbone: Backbone
    systems: dict[str, Float[Tensor, "_ _"]] = field(default_factory=dict)
    updates: dict[str, Float[Tensor, "_ _"]] = field(default_factory=dict)
    past: dict[str, tuple[EditCase, str]] = field(default_factory=dict)
    count: int = 0

    @property
    def delta(self) -> LowRankDelta:
        """All the edits as one delta, b = 1."""
        return dense_delta({name: update[None] for name, update in self.updates.items()})

    @torch.no_grad()
    def add(self, cases: Sequence[EditCase], instructions: Sequence[str]) -> None:
        """Edit once more; of the edits before, some are asked again, and what is lost is made again.

        An earlier edit whose prompt is asked now with another answer is not asked again.
        """
        self._make(cases, instructions)
        writes, told = self.editor.config.write, {case.prompt for case in cases}
        past = [pair for prompt, pair in self.past.items() if prompt not in told]
        asked = random.Random(self.count).sample(past, min(writes.replay if writes.steps else 0, len(past)))
        if asked:
            held = self.editor.taken(self.backbone, [case for case, _ in asked], self.delta)
            lost = [pair for pair, still in zip(asked, held, strict=True) if not still]
            self._make([case for case, _ in lost], [words for _, words in lost])
        self.keep(cases, instructions)

    def keep(self, cases: Sequence[EditCase], instructions: Sequence[str]) -> None:
        """Count some edits as made, and know what they ask."""
        pairs = zip(cases, instructions, strict=True)
        self.past |= {case.prompt: (case, words) for case, words in pairs}
        self.count += len(cases)

    def _make(self, cases: Sequence[EditCase], instructions: Sequence[str]) -> None:
        """Solve for some edits; what has not taken is edited again on top, as often as the editor says."""
        part, told, config = list(cases), list(instructions), self.editor.config
        for turn in range(config.write.rounds if config.write.steps else config.rounds):
            taken = self.editor.taken(self.backbone, part, self.delta) if turn else [False] * len(part)
            part = [case for case, done in zip(part, taken, strict=True) if not done]
            told = [words for words, done in zip(told, taken, strict=True) if not done]
            if not part:
                break
            self._solve(part, told)
        for rows in self.editor.hold(self.backbone, cases, self.delta):
            self._add(rows, {})

    def _solve(self, cases: Sequence[EditCase], instructions: Sequence[str]) -> None:
        moments: dict[str, Tensor] = {}
        under = self.delta if self.updates else None
        known = self.systems if self.editor.config.write.steps else {}  # a pass does not ask for them
        factors = {name: torch.linalg.cholesky(system) for name, system in known.items()}
        for start in range(0, len(cases), CHUNK):
            part = slice(start, start + CHUNK)
            for rows in self.editor.rows(self.backbone, cases[part], instructions[part], under, factors):
                self._add(rows, moments)
        for name, shape, index in self.editor.hypernetwork.places():
            if name in moments:
                factor = torch.linalg.cholesky(self.systems[name])
                update = shape.to_weight(index, torch.cholesky_solve(moments[name], factor))
                self.updates[name] = self.updates.get(name, 0) + update

    def _add(self, rows: Mapping[str, SiteRows], moments: dict[str, Tensor]) -> None:
        """Add what one edit asks to the normal equations."""
        for name, shape, index in self.editor.hypernetwork.places():
            if name in rows:
                gram, moment = shape.normal_equation(index, rows[name])
                known = self.systems.get(name)
                self.systems[name] = gram + (shape.metric(index) if known is None else known)
                moments[name] = moment + moments.get(name, 0)
