"""Meta-training: draw lessons, edit, ask, and move the hypernetwork; validate, stop early, resume."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import broadcast_object_list
from torch import nn

from instructedit.backbone import Backbone, PrefixCache
from instructedit.editors.editor_file import load_editor, save_editor
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.registry import find_trained
from instructedit.errors import DataError
from instructedit.progress import track
from instructedit.storage import sha256_file
from instructedit.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from instructedit.training.config import TrainConfig
from instructedit.training.course import Course
from instructedit.training.lesson_step import LessonStep, validation_score
from instructedit.training.metrics_log import MeanReadings, MetricsLog, check_trackers
from instructedit.training.moments import collect_moments, measure_instructions
from instructedit.training.warm_start import warm_start

STEP_SIZES = (
    "log_step",
    "step_code",
    "log_ridge",
    "log_damping",
    "log_anchor",
    "anchor_code",
)  # learn at `lr_steps`, in their own group
CHECKPOINT, EDITOR, METRICS = "checkpoint.safetensors", "editor.safetensors", "metrics.jsonl"


@dataclass(frozen=True)
class TrainResult:
    """Where the best editor lies, its validation score and step, and the steps that were run."""

    editor: Path
    score: float
    step: int
    steps_run: int


def train(
    config: TrainConfig,
    backbone: Backbone,
    course: Course,
    out: Path,
    *,
    cache_folder: Path | None = None,
    facts: dict[str, Any] | None = None,
    trackers: Sequence[str] = (),
    on_step: Callable[[int], None] | None = None,
    begin: Path | None = None,
) -> TrainResult:
    """Train an editor on a course of cases; write ``editor.safetensors``, ``metrics.jsonl`` and a checkpoint.

    A run in `out` that was interrupted is continued to the bit. `facts` joins the editor's header. `begin`
    is an editor whose weights are taken over, see `warm_start`.
    Errors: `DataError` when `out` holds another run, `OutputError` when it cannot be written.
    """
    accelerator = start_processes(config, backbone, out, trackers)
    kind = find_trained(config.editor.kind)
    editor = kind(config.editor, backbone.sites, backbone.width, config.seed).to(backbone.device)
    optimizer = torch.optim.Adam(parameter_groups(editor, config))
    progress = Progress(run=run_digest(config, backbone, course, begin))
    if (out / CHECKPOINT).exists():
        progress = load_checkpoint(out / CHECKPOINT, editor, optimizer, progress.run)
    accelerator.wait_for_everyone()
    if progress.step == 0 and accelerator.is_main_process:  # a run that is killed early can be continued too
        save_checkpoint(out / CHECKPOINT, editor, optimizer, progress)
    with accelerator.main_process_first():  # the others find the main process's shards
        cache = PrefixCache(cache_folder or out / "prefix-cache", backbone)
        prepare_cache(course, editor, backbone, cache, from_step=progress.step)
    if progress.step == 0:
        edits, ordinary = course.moment_texts(editor, backbone), course.ordinary_texts(backbone)
        collect_moments(editor.hypernetwork, backbone, edits, ordinary, cache)
        measure_instructions(editor, backbone, course.instructions(), cache)
        if begin is not None:
            warm_start(editor, load_editor(begin))
    step = LessonStep(editor, backbone, cache, config)
    wrapped, optimizer = accelerator.prepare(step, optimizer)
    return Run(config, course, out, accelerator, step, wrapped, optimizer, progress, facts or {}).finish(
        on_step
    )


def start_processes(
    config: TrainConfig, backbone: Backbone, out: Path, trackers: Sequence[str]
) -> Accelerator:
    """Join the processes of `accelerate launch`, or be the only one, which stays on the backbone's device.

    Errors: as `check_trackers`; `DataError` when a step's edits cannot be shared out evenly.
    """
    check_trackers(trackers)
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)  # a code of size 0 gets no gradient
    accelerator = Accelerator(
        cpu=backbone.device.type == "cpu",
        log_with=list(trackers) or None,
        project_dir=str(out),
        kwargs_handlers=[unused],
    )
    if config.batch % accelerator.num_processes:
        raise DataError(
            f"a step of {config.batch} edits cannot be shared by {accelerator.num_processes} processes."
            " Choose a batch that is a multiple of them, or fewer processes."
        )
    if accelerator.num_processes == 1:
        accelerator.device_placement = False  # accelerate does not know which of several was asked for
    elif accelerator.device.type == "cuda":
        backbone.model.to(accelerator.device)  # each process has a device of its own
    accelerator.init_trackers("instructedit")
    return accelerator


def parameter_groups(editor: InstructedEditor, config: TrainConfig) -> list[dict[str, Any]]:
    """Two groups: the transform, and the logarithmic step sizes that are in no other."""
    named = list(editor.named_parameters())
    steps = [p for name, p in named if name.rsplit(".", 1)[-1] in STEP_SIZES]
    rest = [p for name, p in named if name.rsplit(".", 1)[-1] not in STEP_SIZES]
    return [{"params": rest, "lr": config.lr}, {"params": steps, "lr": config.lr_steps}]


def run_digest(config: TrainConfig, backbone: Backbone, course: Course, begin: Path | None = None) -> str:
    """A digest of all that decides a run's result, the number of steps and the first weights among it."""
    first = [] if begin is None else [sha256_file(begin)]
    text = json.dumps(
        [config.to_dict(), backbone.checksum, str(backbone.dtype), course.digest(), *first],
        sort_keys=True,
        default=str,
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prepare_cache(
    course: Course, editor: InstructedEditor, backbone: Backbone, cache: PrefixCache, from_step: int = 0
) -> None:
    """Compute the prefix of every text that the run will meet, before it begins."""
    texts = course.all_texts(editor, backbone, from_step)
    cache.fill(texts, backbone.encode, lambda shards: track(shards, "Prefix states (512 texts each)"))


def schedule(step: int, config: TrainConfig) -> float:
    """The learning rate's factor: linear warm-up, then a cosine down to 5 % at `decay` or at the end."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    share = min(1.0, step / max(1, config.decay or config.steps))
    return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))


@dataclass
class Run:
    """A run in progress: what `train` has put together, and the loop over its steps."""

    config: TrainConfig
    course: Course
    out: Path
    accelerator: Accelerator
    module: LessonStep  # the same as `wrapped`, without the wrapper that synchronises gradients
    wrapped: nn.Module
    optimizer: Any
    progress: Progress
    facts: dict[str, Any]

    def finish(self, on_step: Callable[[int], None] | None = None) -> TrainResult:
        """Run the steps that are left."""
        config, progress = self.config, self.progress
        log = MetricsLog(self.out / METRICS, progress.step, self.accelerator)
        for step in track(range(progress.step, config.steps), "Training", config.steps - progress.step):
            if progress.stale > config.patience:
                break
            log.add(step + 1, self.one_step(step))
            progress.step = step + 1
            last = progress.step == config.steps
            if progress.step % config.validate_every == 0 or last:
                log.add(progress.step, self.validate())
            if progress.step % config.checkpoint_every == 0 or last:
                log.flush()
                self.save()
            if on_step:
                on_step(progress.step)
        log.flush()
        self.accelerator.end_training()
        return TrainResult(self.out / EDITOR, progress.best, progress.best_step, progress.step)

    def one_step(self, step: int) -> dict[str, float]:
        """Move the hypernetwork once; every process takes its share of the step's lessons."""
        rates = (self.config.lr, self.config.lr_steps)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * schedule(step, self.config)
        lessons = self.course.lessons(step)
        mine = lessons[self.accelerator.process_index :: self.accelerator.num_processes]
        self.optimizer.zero_grad()
        loss, readings = torch.zeros((), device=self.module.backbone.device), MeanReadings()
        together = self.course.together(step)
        for start in range(0, len(mine), self.config.micro):
            part = mine[start : start + self.config.micro]
            share, read = self.wrapped(part, together)
            self.accelerator.backward(share * (len(part) / len(mine)))
            loss += share.detach() * (len(part) / len(mine))
            readings.add(read)
        norm: Any = self.accelerator.clip_grad_norm_(self.module.parameters(), self.config.clip)
        self.optimizer.step()
        mean: Any = self.accelerator.reduce(loss, "mean")
        means = readings.means()
        told = {f"together/{slot}": value for slot, value in means.items()} if together else means
        return {"loss": float(mean), "gradient_norm": float(norm), **told}

    def validate(self) -> dict[str, float]:
        """Score the validation lessons; keep the editor when it is the best so far, or when there are none.

        Where some steps make their edits together, so are those of validation, and the score is the mean.
        """
        lessons, progress = self.course.validation(), self.progress
        score, readings = validation_score(self.module, lessons)
        if self.config.together:
            joint, told = validation_score(self.module, lessons, self.config.micro, together=True)
            score = (score + joint) / 2
            readings |= {f"together/{name}": value for name, value in told.items()}
        score = agree(score)
        progress.scores.append(score)
        progress.stale += 1
        if not lessons or score > progress.best:
            progress.best, progress.best_step, progress.stale = score, progress.step, 0
            self._keep(score, readings)
        return {"validation": score, **readings} if readings else {}

    def _keep(self, score: float, readings: dict[str, float]) -> None:
        facts = {
            **self.facts,
            "config": self.config.to_dict(),
            "seed": self.config.seed,
            "step": self.progress.step,
            "validation": {"score": score, **readings} if readings else {},  # without lessons there is none
        }
        if self.accelerator.is_main_process:
            save_editor(self.module.editor, self.out / EDITOR, self.module.backbone, facts)

    def save(self) -> None:
        """Write the checkpoint that an interrupted run is continued from."""
        if self.accelerator.is_main_process:
            optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
            save_checkpoint(self.out / CHECKPOINT, self.module.editor, optimizer, self.progress)
        self.accelerator.wait_for_everyone()


def agree(score: float) -> float:
    """The main process's score: by it every process decides what is best and when to stop."""
    told = [score]
    broadcast_object_list(told)
    return told[0]
