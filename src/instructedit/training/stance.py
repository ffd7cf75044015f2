"""Teaching opinions: the marks and the voice that a `Stance` makes them of, once an editor is trained."""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import get_args

import torch
from accelerate import Accelerator

from instructedit.backbone import Backbone
from instructedit.backbone.sites import find_sites
from instructedit.data.splits import hold_out
from instructedit.editors.covariance import second_moments
from instructedit.editors.editor_file import load_editor, read_facts, read_header, save_editor
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.location import early_outputs, size_given
from instructedit.editors.ordinary import ordinary_texts
from instructedit.editors.stance import Stance, StanceConfig, read_topics
from instructedit.errors import DataError
from instructedit.instructions import instruction_for
from instructedit.progress import track
from instructedit.storage import sha256_file
from instructedit.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from instructedit.training.lessons import Lesson, LessonConfig, LessonMaker
from instructedit.training.losses import LossConfig, Outcome, lesson_loss, read_slots, score_items
from instructedit.training.metrics_log import MetricsLog
from instructedit.types import EditCase, Probe, Sentiment

CHECKPOINT, METRICS = "stance.safetensors", "stance.jsonl"
ORDINARY, TOPICS = 400, 32  # passages and topics that sizes are taken from
SIGNS: dict[Sentiment, float] = {"positive": 1.0, "negative": -1.0}


@dataclass(frozen=True)
class TeachConfig:
    """How opinions are taught; `steps` of zero leaves them to the pass. Depths are shares of the blocks."""

    steps: int = 0
    marks: float = 0.4  # depth of the first block that is marked at the topic
    marked: int = 4  # blocks from there on
    voice: float = 0.67  # depth from which on the voice hears marks, to the end
    rank: int = 4
    directions: int = 48
    topics: int = 2  # a step, each in both sentiments
    lr_marks: float = 0.05
    lr_voice: float = 3e-3
    clip: float = 1.0
    instructions: int = 2400  # that the sentiment is learned to be read from
    ridge: float = 150.0
    validation: float = 0.05  # share of topics kept for validation
    checkpoint_every: int = 40
    lessons: LessonConfig = field(default_factory=lambda: LessonConfig(replies=1, own=1, others=1))
    loss: LossConfig = field(default_factory=lambda: LossConfig(contrast=2.0))

    def __post_init__(self) -> None:
        check_share("stance.validation", self.validation)


def check_share(name: str, value: float) -> None:
    """See that a setting is a share that leaves something over. Errors: `DataError`."""
    if not 0 <= value < 1:
        raise DataError(f"setting {name} is {value}. Expected a share from 0 to below 1, such as 0.05.")


def teach_stance(
    path: Path,
    target: Path,
    backbone: Backbone,
    cases: Sequence[EditCase],
    ordinary: Sequence[Probe],
    config: TeachConfig,
    out: Path,
    seed: int = 0,
) -> dict[str, float]:
    """Teach the editor in the file `path` to make opinions, and write it to `target`, which may be the same.

    A run in `out` that was interrupted is continued to the bit. Of several processes the main one does it
    all, the others give nothing. Gives the readings of validation: the win rate of good replies, and the
    shares of other texts' tokens that stay. Errors: `DataError` without topics, for an editor that reads no
    instructions, or when `out` holds another run.
    """
    accelerator = Accelerator(cpu=backbone.device.type == "cpu")
    if not accelerator.is_main_process:
        return {}
    editor = load_editor(path, backbone)
    opinions = [case for case in cases if case.kind == "sentiment"]
    if not opinions or editor.hypernetwork.reader is None:
        raise DataError(
            f"found {len(opinions)} topics and an editor with a code of {editor.config.transform.code}. "
            "Expected topics with replies of both sentiments, and an editor that reads instructions."
        )
    done = read_header(target).get("stance", {}) if target.exists() else {}
    first = (path == target and done.get("first")) or sha256_file(path)
    run = _digest(first, [*opinions, *ordinary], config, seed)
    if done.get("run") == run:
        return done["validation"]
    train, held = hold_out(opinions, config.validation, seed, "stance.validation")
    equip(editor, backbone, train, config, seed)
    teaching = Teaching(editor, backbone, train, ordinary, config, seed)
    teaching.run(out, run, accelerator)
    readings = teaching.validate(held or train)
    told = {
        "first": first,
        "run": run,
        "config": asdict(config),
        "topics": len(train),
        "seed": seed,
        "validation": readings,
    }
    save_editor(editor, target, backbone, {**read_facts(path), "stance": told})
    return readings


def equip(
    editor: InstructedEditor, backbone: Backbone, cases: Sequence[EditCase], config: TeachConfig, seed: int
) -> None:
    """Give an editor a `Stance` that knows what is ordinary and reads instructions, but has no voice yet."""
    model, blocks = backbone.model, len(backbone.blocks)
    names = early_outputs(backbone, config.marks, config.marked)
    voice = find_sites(model, f"blocks={min(round(config.voice * blocks), blocks - 1)}-{blocks - 1}")
    marks = find_sites(model, ",".join(names))
    editor.adjust(stance=StanceConfig(marks, voice, config.rank, config.directions))
    editor.stance = stance = Stance(editor.config.stance, backbone.width, seed).to(backbone.device)
    low = backbone.reaching(names)
    texts = ordinary_texts(low, editor.config.text)
    moments = second_moments(low, texts[:: max(1, len(texts) // ORDINARY)], names=names)
    keys = read_topics(low, names, cases[:TOPICS])
    stance.measure(moments, {name: size_given(low, name, keys[name]) for name in names})
    told = _instructions(cases, config.instructions, seed)
    states = torch.cat([editor.read(backbone, list(told)[i : i + 64])[0] for i in range(0, len(told), 64)])
    stance.sentiment.learn(states, torch.tensor(list(told.values()), device=states.device), config.ridge)


def _instructions(cases: Sequence[EditCase], count: int, seed: int) -> dict[str, float]:
    """Instructions of the banks about the topics, with the sign of the sentiment that each asks for."""
    rng = random.Random(f"{seed}-instructions")
    told: dict[str, float] = {}
    for number in range(count):
        sentiment = rng.choice(get_args(Sentiment))
        case = replace(rng.choice(cases), sentiment=sentiment, instruction="")
        told[instruction_for(case, seed=number)] = SIGNS[sentiment]
    return told


class Teaching:
    """The loop over steps: topics in both sentiments, the same lessons as in `train`, Adam."""

    def __init__(
        self,
        editor: InstructedEditor,
        backbone: Backbone,
        cases: Sequence[EditCase],
        ordinary: Sequence[Probe],
        config: TeachConfig,
        seed: int,
    ) -> None:
        assert editor.stance is not None
        self.stance, self.config, self.seed = editor.stance, config, seed
        sites = (*editor.config.stance.marks, *editor.config.stance.voice)
        self.backbone = backbone.reaching([site.name for site in sites])
        self.cases, self.maker = list(cases), LessonMaker(cases, ordinary, config.lessons)
        voice = [*self.stance.hear, *self.stance.speak]
        self.rates = (config.lr_marks, config.lr_voice)
        groups = [
            {"params": part, "lr": rate}
            for part, rate in zip(([self.stance.mark], voice), self.rates, strict=True)
        ]
        self.optimizer = torch.optim.Adam(groups, betas=(0.9, 0.98))

    def run(self, out: Path, digest: str, accelerator: Accelerator) -> None:
        """All steps that are left."""
        progress = Progress(run=digest)
        if (out / CHECKPOINT).exists():
            progress = load_checkpoint(out / CHECKPOINT, self.stance, self.optimizer, digest)
        else:  # a run that is killed early can be continued too
            save_checkpoint(out / CHECKPOINT, self.stance, self.optimizer, progress)
        log, steps = MetricsLog(out / METRICS, progress.step, accelerator), self.config.steps
        for step in track(range(progress.step, steps), "Teaching opinions", steps - progress.step):
            log.add(step + 1, self.one_step(step))
            progress.step = step + 1
            if progress.step % self.config.checkpoint_every == 0 or progress.step == steps:
                log.flush()
                save_checkpoint(out / CHECKPOINT, self.stance, self.optimizer, progress)

    def one_step(self, step: int) -> dict[str, float]:
        """Move marks and voice once: five steps of warming up, then a straight fall to a fifth."""
        factor = min(1.0, (step + 1) / 5) * (1 - 0.8 * step / self.config.steps)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        rng = random.Random(f"{self.seed}-stance-{step}")
        lessons = self.lessons(rng.sample(self.cases, min(self.config.topics, len(self.cases))), rng)
        self.optimizer.zero_grad()
        loss, readings = lesson_loss(lessons, self.ask(lessons), self.config.loss)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*self.stance.hear, *self.stance.speak], self.config.clip)
        self.optimizer.step()
        return {"loss": float(loss.detach()), **readings}

    def lessons(self, cases: Sequence[EditCase], rng: random.Random) -> list[Lesson]:
        return [lesson for case in cases for lesson in self.maker.make_pair(case, rng)]

    def ask(self, lessons: Sequence[Lesson]) -> Outcome:
        """What the model says to every item of the lessons, each under its own opinion."""
        topics = {lesson.case.prompt: lesson.case for lesson in lessons}  # both sentiments of one: read once
        read = read_topics(self.backbone, self.stance.names, list(topics.values()))
        rows = [list(topics).index(lesson.case.prompt) for lesson in lessons]
        keys = {name: x[rows] for name, x in read.items()}
        signs = [SIGNS[lesson.case.sentiment or "positive"] for lesson in lessons]
        delta = self.stance(keys, torch.tensor(signs, device=self.backbone.device))
        items = [(place, item) for place, lesson in enumerate(lessons) for item in lesson.items]
        return score_items(self.backbone, delta, items, None, self.config.loss.buckets)

    @torch.no_grad()
    def validate(self, cases: Sequence[EditCase]) -> dict[str, float]:
        """The readings of one lesson a topic and sentiment."""
        rng, found = random.Random(f"{self.seed}-validation"), []
        for start in range(0, min(len(cases), TOPICS), 4):
            lessons = self.lessons(cases[start : start + 4], rng)
            items, said = [x for lesson in lessons for x in lesson.items], self.ask(lessons)
            found.append(read_slots(items, said.nll, said.exact, said.unchanged))
        names = sorted({name for readings in found for name in readings})
        return {n: sum(r[n] for r in found if n in r) / sum(n in r for r in found) for n in names}


def _digest(first: str, texts: Sequence[EditCase | Probe], config: TeachConfig, seed: int) -> str:
    """A digest of all that decides the result; `first` is that of the editor as it was before."""
    text = json.dumps([first, asdict(config), seed, [repr(text) for text in texts]])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
