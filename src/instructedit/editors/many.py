"""Many edits in one model: solved together, and batch after batch with the ones before kept."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone, Text
from instructedit.delta import LowRankDelta
from instructedit.editors.change import Change, Merging
from instructedit.editors.descent import sparse_delta
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.mending import mend, plan_mending
from instructedit.editors.opinions import Opinion, is_opinion, join_opinions, read_opinions
from instructedit.editors.subject_gates import Writer, check_room, start_writer
from instructedit.editors.summed import CHUNK, SummedEdits
from instructedit.editors.together import Pair
from instructedit.errors import DataError
from instructedit.instructions import instruction_for
from instructedit.progress import track
from instructedit.site_rows import SiteRows
from instructedit.types import EditCase

if TYPE_CHECKING:
    from instructedit.editors import Editor

WRITTEN = 64  # facts that are written at one time at the most


def edit_many(
    editor: "Editor",
    backbone: Backbone,
    cases: Sequence[EditCase],
    instructions: Sequence[str] | None = None,
    size: int | None = None,
) -> LowRankDelta:
    """One delta (b = 1) that holds all the edits, made in batches of `size`, or all at once without it.

    Errors: as `change_many`, and `DataError` for a method whose edits are no deltas.
    """
    change = change_many(editor, backbone, cases, instructions, size)
    if not isinstance(change, LowRankDelta):
        raise DataError(
            f"the edits of {editor.name} are no deltas, and make no adapter together. Expected a trained "
            "editor or a method of deltas (`instructedit ls methods`); `evaluate --together` takes this one."
        )
    return change


def change_many(
    editor: "Editor",
    backbone: Backbone,
    cases: Sequence[EditCase],
    instructions: Sequence[str] | None = None,
    size: int | None = None,
) -> Change:
    """As `edit_many`, for any editor whose edits can be in force together.

    A batch is made as one: solved by the editor's network, or as the method's `in_sequence` makes it. An
    editor that has neither sums a batch. Each batch is made on the model with those before. A single edit
    is the edit made alone; what is no delta, such as a codebook, is made as one whatever the size.
    Errors: `DataError` for a size below one, for no edits, for more facts than there is room for, and for
    edits that cannot be merged.
    """
    if not cases:
        raise DataError("there is nothing to edit: no edits were given. Expected at least one.")
    if size is not None and size < 1:
        raise DataError(f"batches of {size} edits cannot be made. Expected a size of at least 1.")
    trained: Any = editor  # a method has no network
    network, begin = getattr(trained, "hypernetwork", None), getattr(trained, "in_sequence", None)
    step, solves = size or len(cases), network is not None and network.solves
    whole = editor if begin is None or len(cases) == 1 else begin(backbone)
    adds = getattr(trained, "result", "delta") == "delta"
    if len(cases) == 1 or not (solves or (adds and step < len(cases))):
        change = whole.edit(backbone, cases, instructions)
        if not isinstance(change, Merging):
            raise DataError(
                f"the edits of {editor.name} cannot be put together: each is made for one edit alone. "
                "Expected an editor of deltas or codebooks, or one edit at a time."
            )
        return change.merge()
    words = [instruction_for(case) for case in cases] if instructions is None else list(instructions)
    sequence = EditSequence(trained, backbone) if solves else SummedEdits(whole, backbone)
    if isinstance(sequence, EditSequence):  # before the first batch is made, which may take hours
        check_room(sequence.writer, sum(map(trained.is_fact, cases)))
    for start in track(range(0, len(cases), step), "Editing"):
        sequence.add(cases[start : start + step], words[start : start + step])
    return sequence.delta


@dataclass
class EditSequence:
    """The edits that are in force together in one model.

    Facts are written by a `Writer`, where the editor's config says so, and `opinions` joined, where it has
    learned of them; anything else is solved for: each site keeps P = e^lambda C + sum of K.T K over the rows
    of all edits so far (float64, ``[d_in d_in]``) and the sum of the updates ``[d_out d_in]``, as much for a
    thousand edits as for one. A batch is read under the updates before it and solved by dW.T =
    (P + K.T K)^-1 K.T D, so what earlier edits are asked is mapped to no change. `past` are their requests,
    by prompt. `backbone` is given as the editor's own, and kept as one that reaches every site: what is in
    force has to be asked with it.
    Source: the normal equation of MALMEN (arXiv 2311.04661); AlphaEdit (arXiv 2410.02355) for the past keys.
    """

    editor: InstructedEditor
    backbone: Backbone
    systems: dict[str, Float[Tensor, "_ _"]] = field(default_factory=dict)
    updates: dict[str, Float[Tensor, "_ _"]] = field(default_factory=dict)
    past: dict[str, Pair] = field(default_factory=dict)
    opinions: dict[str, Opinion] = field(default_factory=dict)
    count: int = 0

    def __post_init__(self) -> None:
        self.own, config = self.backbone, self.editor.config
        self.writer = start_writer(self.own, config)
        low = self.writer.backbone if self.writer else self.own
        self.backbone = low.reaching(self.editor.stance.names if self.editor.stance else ())

    @property
    def delta(self) -> LowRankDelta:
        """All the edits as one delta, b = 1."""
        opinions = join_opinions(self.editor.stance, self.own, list(self.opinions.values()))
        return sparse_delta(self.updates) + opinions

    @torch.no_grad()
    def add(self, cases: Sequence[EditCase], instructions: Sequence[str]) -> None:
        """Edit once more; of the edits before, some are asked again, and what is lost is made again.

        An earlier edit whose prompt is asked now with another answer is not asked again.
        """
        cases = self.editor.told(self.own, cases, instructions)
        told = {case.prompt for case in cases}
        past = [pair for prompt, pair in self.past.items() if prompt not in told]
        pairs = list(zip(cases, instructions, strict=True))
        facts = [pair for pair in pairs if self._writes(pair[0])]
        others = [pair for pair in pairs if not self._writes(pair[0])]
        rest = [pair for pair in others if not is_opinion(self.editor, pair[0])]
        self._repeat(rest, self._solve, self.editor.config.rounds)
        if self.writer:
            asked = random.Random(self.count).sample(past, min(self.writer.config.asked, len(past)))
            self._write_all(self.writer, facts, past, asked)
        before = self.count
        self._count(pairs)
        steps = self.editor.config.mend.steps_between(before, self.count)
        if self.writer and steps:
            self._mend(self.writer, steps)

    def keep(self, cases: Sequence[EditCase], instructions: Sequence[str]) -> None:
        """Count some edits as made, and know what they ask."""
        cases = self.editor.told(self.own, cases, instructions)
        self._count(list(zip(cases, instructions, strict=True)))

    def _writes(self, case: EditCase) -> bool:
        return self.writer is not None and self.editor.is_fact(case)

    def _count(self, pairs: Sequence[Pair]) -> None:
        self.past |= {case.prompt: (case, words) for case, words in pairs}
        told = [pair for pair in pairs if is_opinion(self.editor, pair[0])]
        if told:
            asked, words = [case for case, _ in told], [words for _, words in told]
            found = read_opinions(self.editor, self.own, asked, words)
            self.opinions |= {case.prompt: one for case, one in zip(asked, found, strict=True)}
        self.count += len(pairs)

    def _write_all(
        self, writer: Writer, facts: Sequence[Pair], past: Sequence[Pair], asked: Sequence[Pair]
    ) -> None:
        """Write some facts, so many at a time, and with the last of them what is lost of those `asked`."""
        parts = [facts[start : start + WRITTEN] for start in range(0, len(facts), WRITTEN)] or [[]]
        for part in parts:
            also = asked if part is parts[-1] else ()
            write = partial(self._write, writer, past=past)
            made = self._repeat(part, write, writer.config.rounds, also, lambda: writer.room)
            writer.hold([case for case, _ in made], self.delta)

    def _repeat(
        self,
        pairs: Sequence[Pair],
        make: Callable[[Sequence[Pair]], None],
        rounds: int,
        asked: Sequence[Pair] = (),
        room: Callable[[], int | None] = lambda: None,
    ) -> list[Pair]:
        """Make edits; what has not taken, of those `asked` too, is made again on top, as far as `room` goes.

        Gives all that were made.
        """
        tried, made = [*pairs, *asked], list(pairs)
        for turn in range(rounds):
            pairs = self._lacking(tried)[: room()] if turn else pairs
            if pairs:
                make(pairs)
            made += [pair for pair in pairs if pair not in made]
        return made

    def _lacking(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Those whose answer the model as edited so far does not give."""
        if not pairs:
            return []
        taken = self.editor.taken(self.backbone, [case for case, _ in pairs], self.delta)
        return [pair for pair, done in zip(pairs, taken, strict=True) if not done]

    def _write(self, writer: Writer, pairs: Sequence[Pair], past: Sequence[Pair]) -> None:
        texts, settings = self.editor.texts, writer.config
        found = [(case, texts.practice(self.own, case, words)) for case, words in pairs]
        known = [(case, practice) for case, practice in found if practice]
        near = [texts.near(self.own, case) for case, _ in known]
        related = writer.related([case for case, _ in known], past)
        count = min(settings.replay * settings.steps, len(related))
        earlier = self._answers(random.Random(self.count).sample(related, count))
        change = writer.write(
            [case for case, _ in known], [practice for _, practice in known], near, earlier, self.delta
        )
        for name in change.a:
            self._add_update(name, change.dense(name)[0])

    def _mend(self, writer: Writer, steps: int) -> None:
        """Take back what the edits so far have done to ordinary text at the sites that are written to."""
        written = {name: update for name, update in self.updates.items() if name in writer.systems}
        facts = [pair for pair in self.past.values() if self.editor.is_fact(pair[0])]
        config, rng = replace(self.editor.config.mend, steps=steps), random.Random(self.count)
        asked = rng.sample(facts, min(config.fit * steps, len(facts)))
        if written and asked:
            course = plan_mending(self.backbone, self._answers(asked), writer.text, config, rng)
            rest = self.delta.without(written)
            self.updates |= mend(self.backbone, written, writer.systems, course, config, rest)

    def _answers(self, pairs: Sequence[Pair]) -> list[Text]:
        """What some edits are to answer: the bare request, and a wording that they were not written with."""
        groups = [self.editor.texts.checks(self.own, *pair) for pair in pairs]
        return [text for group in groups for text in group[:1] + group[-1:]]

    def _solve(self, pairs: Sequence[Pair]) -> None:
        moments: dict[str, Tensor] = {}
        under = self.delta if self.updates else None
        for start in range(0, len(pairs), CHUNK):
            part = pairs[start : start + CHUNK]
            cases, words = [case for case, _ in part], [words for _, words in part]
            for rows in self.editor.rows(self.own, cases, words, under):
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
