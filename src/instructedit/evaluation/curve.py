"""What many edits do to one model: an editor's sequence, measured after so many edits, and gone on with."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Any

import torch

from instructedit.backbone import Backbone, PrefixCache
from instructedit.editors.subject_gates import check_room
from instructedit.errors import DataError
from instructedit.evaluation.curve_edits import (
    Edits,
    SolvedEdits,
    describe_edits,
    is_finite,
    load_edits,
    save_edits,
    start_edits,
)
from instructedit.evaluation.curve_folder import CurveFolder, Point, digest_cases
from instructedit.evaluation.curve_point import Asking, measure_point
from instructedit.instructions import instruction_for
from instructedit.progress import track
from instructedit.types import EditCase

KEEP_EVERY = 120.0  # seconds of editing that a killed run loses at the most


class BrokenError(Exception):
    """The sum of the edits is no number any more, or cannot be solved for."""


@dataclass(frozen=True)
class CurveSettings:
    """After how many edits everything is measured, how many edits make a batch, and what is asked.

    Errors: `DataError` for a batch below one, and for points that are no multiples of the batch's size: a
    batch that is cut at a point would make the edits depend on where they are measured.
    """

    at: tuple[int, ...]
    size: int = 10
    asking: Asking = field(default_factory=Asking)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise DataError(f"batches of {self.size} edits cannot be made. Expected a size of at least 1.")
        wrong = [count for count in self.at if count < 1 or count % self.size]
        if wrong or not self.at:
            raise DataError(
                f"cannot measure after {', '.join(map(str, wrong)) or 'no'} edits that come in batches of "
                f"{self.size}. Expected multiples of {self.size}, such as {self.size},{10 * self.size}."
            )
        object.__setattr__(self, "at", tuple(sorted(set(self.at))))

    def require(self, count: int) -> None:
        """See that there are as many cases as the last point needs. Errors: `DataError`."""
        if count < self.at[-1]:
            raise DataError(
                f"found {count} edits and {self.at[-1]} are to be made. Give more records, raise --limit, or "
                "measure earlier with --at."
            )


def run_curve(
    editor: Any,
    backbone: Backbone,
    cases: Sequence[EditCase],
    settings: CurveSettings,
    folder: CurveFolder,
    *,
    cache: PrefixCache | None = None,
    say: Callable[[str], None] = lambda _line: None,
) -> list[Point]:
    """Edit batch after batch, each on the model as edited so far, and measure after each of `settings.at`.

    Points that `folder` has are not measured again, and the edits go on from the state kept there; from the
    first edit, which is said, where that state is further than a point that is missing. Each point holds
    what `measure_point` gives, `rank` and `bytes` of the state, and the seconds of editing alone: `seconds`
    in all, `seconds_per_edit` so far and `recent_seconds_per_edit` since the point before. Where the edits
    break the model, so that no number is left, this and later points hold `broken_after` beside `edits` and
    the digest of the `records`.
    Errors: `DataError` when there are fewer cases than the last point needs, and as `start_edits`;
    `OutputError` when a file cannot be written, and when `folder` holds points of other cases.
    """
    settings.require(len(cases))
    folder.check(settings.at, cases)
    known = {point["edits"] for point in folder.points(settings.at)}
    left = [count for count in settings.at if count not in known]
    if left:
        run = _begin(editor, backbone, cases[: settings.at[-1]], settings, folder, cache, left[0], say)
        _measure_all(run, left, say)
    return folder.points(settings.at)


def _begin(
    editor: Any,
    backbone: Backbone,
    cases: Sequence[EditCase],
    settings: CurveSettings,
    folder: CurveFolder,
    cache: PrefixCache | None,
    first: int,
    say: Callable[[str], None],
) -> "_Run":
    asking = settings.asking
    words = [instruction_for(case, split=asking.split, seed=asking.seed) for case in cases]
    edits = start_edits(editor, backbone, cases[0], words[0])
    if isinstance(edits, SolvedEdits):
        check_room(edits.writer, sum(map(edits.editor.is_fact, cases)))
    seconds = load_edits(edits, folder.state, cases[:first], words)
    if seconds is not None:
        say(f"goes on after {edits.count} edits")
    elif folder.state.is_file():
        say(f"begins again with the first edit: the state that was kept is beyond {first} edits")
    kept = cache.of(edits.backbone) if cache else None
    run = _Run(edits, cases, words, settings, folder, kept, seconds or 0.0)
    for point in folder.points(settings.at):
        if point["edits"] <= edits.count and point.get("seconds", math.inf) <= run.seconds:
            run.mark = (point["edits"], point["seconds"])
    return run


def _measure_all(run: "_Run", left: Sequence[int], say: Callable[[str], None]) -> None:
    for count in left:
        try:
            run.reach(count)
        except BrokenError:
            say(f"broke after {run.edits.count} edits")
            for missing in [n for n in left if n >= count]:
                records = digest_cases(run.cases[:missing])
                point = {"edits": missing, "records": records, "broken_after": run.edits.count}
                run.folder.keep(point, [])
            return
        say(run.measure())


@dataclass
class _Run:
    """An editor at work: its edits so far, and the clock that runs while it edits."""

    edits: Edits
    cases: Sequence[EditCase]
    words: Sequence[str]
    settings: CurveSettings
    folder: CurveFolder
    cache: PrefixCache | None
    seconds: float = 0.0
    mark: tuple[int, float] = (0, 0.0)  # edits and seconds at the point before

    def reach(self, count: int) -> None:
        """Make edits until there are `count`; keep the state then, and now and then before."""
        kept, size = monotonic(), self.settings.size
        for start in track(range(self.edits.count, count, size), f"editing up to {count}"):
            self._add(slice(start, start + size))
            if monotonic() - kept > KEEP_EVERY:
                self.keep()
                kept = monotonic()
        self.keep()

    def keep(self) -> None:
        """Write the state. Errors: `OutputError`."""
        made = self.cases[: self.edits.count]
        save_edits(self.edits, self.folder.state, {"seconds": self.seconds, "records": digest_cases(made)})

    def _add(self, part: slice) -> None:
        began = perf_counter()
        try:
            self.edits.add(self.cases[part], self.words[part])
        except torch.linalg.LinAlgError as error:
            raise BrokenError from error
        if self.edits.backbone.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds += perf_counter() - began
        if not is_finite(self.edits):
            raise BrokenError

    def measure(self) -> str:
        """Measure the edits so far, keep the point, and give a line about it."""
        began, count = perf_counter(), self.edits.count
        backbone, asking = self.edits.backbone, self.settings.asking
        made = self.cases[:count]
        rows, numbers = measure_point(backbone, self.edits.delta, made, asking, self.cache)
        numbers |= {"edits": count, "records": digest_cases(made)}
        edits, seconds = self.mark
        times = {
            "seconds": self.seconds,
            "seconds_per_edit": self.seconds / count,
            "recent_seconds_per_edit": (self.seconds - seconds) / (count - edits) if count > edits else None,
            "measuring_seconds": perf_counter() - began,
        }
        self.folder.keep({**numbers, **describe_edits(self.edits), **times}, rows)
        self.mark = (count, self.seconds)
        return f"{count} edits made in {self.seconds:.1f} s, measured in {times['measuring_seconds']:.1f} s"
