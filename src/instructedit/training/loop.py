"""Meta-training: draw lessons, edit, ask, and move the hypernetwork; validate, stop early, resume."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from instructedit.backbone import Backbone, PrefixCache
from instructedit.editors.editor_file import save_editor
from instructedit.editors.instructed import InstructedEditor
from instructedit.errors import DataError
from instructedit.progress import track
from instructedit.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from instructedit.training.config import TrainConfig
from instructedit.training.course import Course
from instructedit.training.lessons import Item, Lesson
from instructedit.training.losses import Outcome, lesson_loss, read_slots, score_items
from instructedit.training.moments import collect_moments

STEP_SIZES = (
    "log_step",
    "step_code",
    "log_ridge",
    "log_damping",
)  # learn at `lr_steps`, in their own group only


@dataclass(frozen=True)
class TrainResult:
    """Where the best editor lies, its validation score and step, and the steps that were run."""

    editor: Path
    score: float
    step: int
    steps_run: int


class LessonStep(nn.Module):
    """The loss of some lessons as one module, so that `accelerate` can spread it over processes."""

    def __init__(
        self, editor: InstructedEditor, backbone: Backbone, cache: PrefixCache, config: TrainConfig
    ) -> None:
        super().__init__()
        self.editor = editor
        self._frozen = (backbone, cache)  # a tuple: not registered, so neither copied nor synchronised
        self.config = config

    def forward(self, lessons: Sequence[Lesson]) -> tuple[Tensor, dict[str, float]]:
        return lesson_loss(lessons, self.ask(lessons)[1], self.config.loss)

    def ask(self, lessons: Sequence[Lesson]) -> tuple[list[tuple[int, Item]], Outcome]:
        """Every item of the lessons, with the index of its lesson, and what the edited model says to it."""
        backbone, cache = self._frozen
        words = [lesson.instruction for lesson in lessons]
        delta = self.editor.propose(backbone, [lesson.case for lesson in lessons], words, cache)
        items = [(index, item) for index, lesson in enumerate(lessons) for item in lesson.items]
        return items, score_items(backbone, delta, items, cache, self.config.loss.buckets)


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
) -> TrainResult:
    """Train an editor on a course of cases and write ``editor.safetensors``, ``metrics.jsonl`` and a checkpoint.

    A run in `out` that was interrupted is continued to the bit. `facts` joins the editor's header.
    Errors: `DataError` when `out` holds another run, `OutputError` when it cannot be written.
    """
    accelerator = Accelerator(
        cpu=backbone.device.type == "cpu", log_with=list(trackers) or None, project_dir=str(out)
    )
    accelerator.init_trackers("instructedit")
    editor = InstructedEditor(config.editor, backbone.sites, backbone.width, config.seed).to(backbone.device)
    cache = PrefixCache(cache_folder or out / "prefix-cache", backbone)
    step_module = LessonStep(editor, backbone, cache, config)
    optimizer = torch.optim.Adam(parameter_groups(editor, config))
    progress = Progress(run=run_digest(config, backbone, course))
    checkpoint = out / "checkpoint.safetensors"
    if checkpoint.exists():
        progress = _resume(checkpoint, editor, optimizer, progress.run)
    with accelerator.main_process_first():
        prepare_cache(course, editor, backbone, cache, from_step=progress.step)
        cache = step_module.__dict__["_frozen"][1]
    if progress.step == 0:
        collect_moments(
            editor.hypernetwork,
            backbone,
            course.moment_texts(editor, backbone),
            course.ordinary_texts(backbone),
            cache,
        )
    wrapped, optimizer = accelerator.prepare(step_module, optimizer)
    run = Run(
        config,
        backbone,
        course,
        out,
        accelerator,
        editor,
        step_module,
        wrapped,
        optimizer,
        progress,
        facts or {},
    )
    return run.finish(on_step)


def parameter_groups(editor: InstructedEditor, config: TrainConfig) -> list[dict[str, Any]]:
    """Two groups: the transform, and the logarithmic step sizes that are in no other."""
    named = list(editor.named_parameters())
    steps = [p for name, p in named if name.rsplit(".", 1)[-1] in STEP_SIZES]
    rest = [p for name, p in named if name.rsplit(".", 1)[-1] not in STEP_SIZES]
    return [{"params": rest, "lr": config.lr}, {"params": steps, "lr": config.lr_steps}]


def run_digest(config: TrainConfig, backbone: Backbone, course: Course) -> str:
    """A digest of all that decides a run's result; the number of steps is left out of nothing."""
    text = json.dumps([config.to_dict(), backbone.checksum, course.digest()], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prepare_cache(
    course: Course, editor: InstructedEditor, backbone: Backbone, cache: PrefixCache, from_step: int = 0
) -> None:
    """Compute the prefix of every text that the run will meet, before it begins."""
    texts = course.all_texts(editor, backbone, from_step)
    cache.fill(texts, backbone.encode, lambda shards: track(shards, "Prefix states (512 texts each)"))


def schedule(step: int, config: TrainConfig) -> float:
    """The learning rate's factor: linear warm-up, then a cosine down to 5 %."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / max(1, config.steps))))


def _resume(
    checkpoint: Path, editor: InstructedEditor, optimizer: torch.optim.Optimizer, run: str
) -> Progress:
    progress = load_checkpoint(checkpoint, editor, optimizer)
    if progress.run != run:
        raise DataError(
            f"{checkpoint.parent} holds a run with other settings, data or model. Expected the same to continue it; "
            "choose another folder, or remove this one."
        )
    return progress


@dataclass
class Run:
    """A run in progress: what `train` has put together, and the loop over its steps."""

    config: TrainConfig
    backbone: Backbone
    course: Course
    out: Path
    accelerator: Accelerator
    editor: InstructedEditor
    module: LessonStep
    wrapped: nn.Module
    optimizer: Any
    progress: Progress
    facts: dict[str, Any]

    def finish(self, on_step: Callable[[int], None] | None) -> TrainResult:
        """Run the steps that are left."""
        config, progress = self.config, self.progress
        log = MetricsLog(self.out / "metrics.jsonl", progress.step, self.accelerator)
        rates = (config.lr, config.lr_steps)
        for step in track(range(progress.step, config.steps), "Training", config.steps - progress.step):
            if progress.stale > config.patience:
                break
            for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule(step, config)
            log.add(step + 1, self.one_step(step))
            progress.step = step + 1
            if progress.step % config.validate_every == 0 or progress.step == config.steps:
                self.validate(log)
            if progress.step % config.checkpoint_every == 0 or progress.step == config.steps:
                log.flush()
                self.save(self.out / "checkpoint.safetensors")
            if on_step:
                on_step(progress.step)
        self.accelerator.end_training()
        return TrainResult(self.out / "editor.safetensors", progress.best, progress.best_step, progress.step)

    def one_step(self, step: int) -> dict[str, float]:
        lessons = self.course.lessons(step)
        mine = lessons[self.accelerator.process_index :: self.accelerator.num_processes]
        loss, readings = self.wrapped(mine)
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.editor.parameters(), self.config.clip)
        self.optimizer.step()
        return {"loss": float(loss.detach()), "gradient_norm": float(norm), **readings}

    @torch.no_grad()
    def validate(self, log: "MetricsLog") -> None:
        """Score the validation lessons; keep the editor when it is the best so far."""
        score, readings = validation_score(self.module, self.course.validation())
        progress = self.progress
        progress.scores.append(score)
        progress.stale += 1
        if score > progress.best:
            progress.best, progress.best_step, progress.stale = score, progress.step, 0
            if self.accelerator.is_main_process:
                facts = {
                    **self.facts,
                    "config": self.config.to_dict(),
                    "seed": self.config.seed,
                    "step": progress.step,
                    "validation": {"score": score, **readings},
                }
                save_editor(self.editor, self.out / "editor.safetensors", self.backbone, facts)
        log.add(progress.step, {"validation": score, **readings})

    def save(self, path: Path) -> None:
        if self.accelerator.is_main_process:
            save_checkpoint(
                path, self.editor, getattr(self.optimizer, "optimizer", self.optimizer), self.progress
            )
        self.accelerator.wait_for_everyone()


def validation_score(
    module: LessonStep, lessons: Sequence[Lesson], batch: int = 10
) -> tuple[float, dict[str, float]]:
    """The mean over kinds of edit of the mean over slots, all shares between 0 and 1."""
    groups: dict[str, list[tuple[Item, tuple[float, float, float]]]] = {}
    for start in range(0, len(lessons), batch):
        part = lessons[start : start + batch]
        items, outcome = module.ask(part)
        for i, (index, item) in enumerate(items):
            values = (float(outcome.nll[i]), float(outcome.exact[i]), float(outcome.unchanged[i]))
            groups.setdefault(f"{part[index].case.task}-{part[index].case.kind}", []).append((item, values))
    readings, scores = {}, []
    for name, rows in sorted(groups.items()):
        nll, exact, unchanged = (torch.tensor([v[k] for _, v in rows]) for k in range(3))
        slots = read_slots([item for item, _ in rows], Outcome(nll, exact, nll, unchanged))
        readings |= {f"{name}/{slot}": value for slot, value in slots.items()}
        scores.append(sum(slots.values()) / len(slots))
    return sum(scores) / max(len(scores), 1), readings


class MetricsLog:
    """``metrics.jsonl``: one line a step, and one a validation; lines past the checkpoint are cut on resume."""

    def __init__(self, path: Path, step: int, accelerator: Accelerator) -> None:
        self.path, self.accelerator = path, accelerator
        self.lines: list[str] = []
        if accelerator.is_main_process:
            path.parent.mkdir(parents=True, exist_ok=True)
            old = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            kept = [line for line in old if _step_of(line) <= step]
            path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def add(self, step: int, values: dict[str, float]) -> None:
        """Keep one line until the next `flush`, and hand it to the trackers."""
        self.lines.append(json.dumps({"step": step, **{k: round(v, 6) for k, v in values.items()}}))
        self.accelerator.log(values, step=step)

    def flush(self) -> None:
        """Append the kept lines to the file."""
        if self.accelerator.is_main_process:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in self.lines)
        self.lines.clear()


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return float("inf")
