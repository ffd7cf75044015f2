"""Ratios of times, each pair taken in one run: what the cached prefix, the capture and batching are worth."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from instructedit.backbone import Backbone, PrefixCache, Text
from instructedit.backbone.prefix_cache import Encode
from instructedit.editors.instructed import InstructedEditor
from instructedit.instructions import instruction_for
from instructedit.progress import track
from instructedit.training.config import TrainConfig
from instructedit.training.course import Course
from instructedit.training.loop import LessonStep
from instructedit.types import EditCase


@dataclass(frozen=True, slots=True)
class Ratio:
    """Two median times in seconds and their ratio; `bar` is what it should reach, "≥" or "≤" in front."""

    what: str
    first: float
    second: float
    bar: str = ""

    @property
    def ratio(self) -> float:
        """How often `second` goes into `first`."""
        return self.first / self.second


class NoCache(PrefixCache):
    """Keeps nothing: every prefix is computed each time it is asked for."""

    def __init__(self) -> None:
        pass

    def __len__(self) -> int:
        return 0

    def fetch(self, texts: Sequence[Text], encode: Encode) -> list[Tensor]:
        """One tensor ``[tokens, d]`` a text, computed now."""
        return encode(texts)


def measure_ratios(
    backbone: Backbone,
    editor: InstructedEditor,
    cases: Sequence[EditCase],
    folder: Path,
    *,
    batch: int = 8,
    many: int = 32,
    repeats: int = 5,
    seed: int = 0,
) -> list[Ratio]:
    """Time a training step, a single edit and a batch of edits on `cases`; `folder` holds the prefix cache.

    - a training step of `batch` edits that computes its prefixes, over one that reads them;
    - a single edit (capture, transform, delta) over a plain forward and backward of the edited top;
    - the same as `edit` makes it, asked again, polished and tried at its strengths, over that one pass;
    - `many` single passes over one batch of as many. Prefix states are ready, save in `edit`.

    Medians of `repeats`, after one that is thrown away.
    """
    cache = PrefixCache(folder, backbone)
    chosen = [cases[i % len(cases)] for i in range(many)]
    words = [instruction_for(case, seed=seed) for case in chosen]
    cache.fill(editor.texts.all(backbone, chosen, words), backbone.encode)

    @torch.no_grad()
    def edit(start: int, stop: int) -> None:
        editor.propose(backbone, chosen[start:stop], words[start:stop], cache, whole=True)

    slow, fast = _time_steps(backbone, editor, cases, cache, batch, repeats, seed)
    single = _median(lambda: edit(0, 1), repeats)
    plain = _median(_plain_pass(backbone, editor, chosen[:1], words[:1], cache), repeats)
    whole = _median(lambda: editor.edit(backbone, chosen[:1], words[:1]), repeats)
    together = _median(lambda: edit(0, many), repeats)
    apart = _median(lambda: [edit(i, i + 1) for i in range(many)], repeats)
    return [
        Ratio("training step, prefix computed / read", slow, fast, "≥ 3"),
        Ratio("one edit / plain pass of the edited top", single, plain, "≤ 2"),
        Ratio("one edit, tried and polished / its pass", whole, single),
        Ratio(f"{many} edits one by one / in one batch", apart, together),
    ]


def _time_steps(
    backbone: Backbone,
    editor: InstructedEditor,
    cases: Sequence[EditCase],
    cache: PrefixCache,
    batch: int,
    repeats: int,
    seed: int,
) -> tuple[float, float]:
    """The median times of a training step without and with the cache, gradients included."""
    config = replace(TrainConfig(), editor=editor.config, batch=batch, steps=1, seed=seed)
    lessons = Course(cases, [], config).lessons(0)
    times = []
    for store in (NoCache(), cache):
        step = LessonStep(editor, backbone, store, config)

        def run(step: LessonStep = step) -> None:
            loss, _ = step(lessons)
            torch.autograd.grad(loss, [p for p in editor.parameters() if p.requires_grad], allow_unused=True)

        times.append(_median(run, repeats))
    return times[0], times[1]


def _plain_pass(
    backbone: Backbone,
    editor: InstructedEditor,
    cases: Sequence[EditCase],
    words: Sequence[str],
    cache: PrefixCache,
) -> Callable[[], None]:
    """Loss of the edit's text and its gradient with respect to the states that enter the edited top."""
    texts = editor.texts.requests(backbone, cases, words)
    hidden = backbone.prefix(texts, cache).requires_grad_()
    rows = torch.tensor(list(texts[0].positions), device=hidden.device)
    targets = torch.tensor(texts[0].targets, device=hidden.device)

    def run() -> None:
        logits = backbone.logits(backbone.top(hidden)[0, rows])
        torch.autograd.grad(torch.nn.functional.cross_entropy(logits.float(), targets), hidden)

    return run


def _median(run: Callable[[], object], repeats: int) -> float:
    run()
    times = []
    for _ in track(range(repeats), "timing"):
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
