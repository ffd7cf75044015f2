"""A course: the cases a run learns from, and the lessons of each of its steps, known before it begins."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property

from instructedit.backbone import Backbone, Text
from instructedit.data.splits import hold_out
from instructedit.editors.instructed import InstructedEditor
from instructedit.errors import DataError
from instructedit.training.config import TrainConfig
from instructedit.training.lessons import Lesson, LessonMaker
from instructedit.training.losses import item_text
from instructedit.types import EditCase, Probe

ORDINARY_TEXTS = 400  # for the directions of ordinary keys
TRIES = 200  # at finding edits of different subjects for one model


class Course:
    """Cases split by subject into training and validation, and a task-balanced draw of lessons.

    The lessons of a step depend on seed and step alone, so nothing has to be stored to resume.
    Errors: `DataError` without cases, and where validation takes all of them.
    """

    def __init__(self, cases: Sequence[EditCase], ordinary: Sequence[Probe], config: TrainConfig) -> None:
        if not cases:
            raise DataError("there are no cases to train on. Expected at least one file of edits.")
        self.config, self.ordinary = config, list(ordinary)
        kept = limit_tasks(cases, config.per_task, config.seed)
        self.train, self.held = hold_out(kept, config.validation, config.seed)
        self.groups: dict[str, list[EditCase]] = {}
        for case in self.train:
            self.groups.setdefault(f"{case.task}-{case.kind}", []).append(case)
        self.weights = [len(group) ** config.balance for group in self.groups.values()]
        self.maker = LessonMaker(self.train, self.ordinary, config.lessons)

    def lessons(self, step: int) -> list[Lesson]:
        """The lessons of one step; of those that are made in one model no two ask about one subject."""
        rng = random.Random(f"{self.config.seed}-{step}")
        lessons: list[Lesson] = []
        single, tries = not self.together(step), 0
        while len(lessons) < self.config.batch:
            case = rng.choice(self.groups[rng.choices(list(self.groups), self.weights)[0]])
            if not single and tries < TRIES and case.subject in {lesson.case.subject for lesson in lessons}:
                tries += 1
                continue
            two_sided = single and (case.kind == "sentiment" or self.maker.has_consequences(case))
            room = self.config.batch - len(lessons) > 1
            if room and two_sided and rng.random() < self.config.lessons.pairs:
                lessons += self.maker.make_pair(case, rng)
            else:
                lessons.append(self.maker.make(case, rng))
        return lessons

    def together(self, step: int) -> bool:
        """Whether the edits of this step are made in one model."""
        return random.Random(f"{self.config.seed}-{step}-together").random() < self.config.together

    @cached_property
    def _validation(self) -> list[Lesson]:
        rng = random.Random(f"{self.config.seed}-validation")
        chosen = limit_tasks(self.held, None, self.config.seed)
        rng.shuffle(chosen)
        return [self.maker.make(case, rng) for case in balanced(chosen, self.config.validation_cases)]

    def validation(self) -> list[Lesson]:
        """The fixed lessons that the best checkpoint is chosen by."""
        return self._validation

    def all_texts(self, editor: InstructedEditor, backbone: Backbone, from_step: int = 0) -> list[Text]:
        """Every text that the steps from `from_step` on will meet, each once."""
        texts = dict.fromkeys(self.moment_texts(editor, backbone) + self.ordinary_texts(backbone))
        steps = [self.lessons(step) for step in range(from_step, self.config.steps)]
        for lessons in [*steps, self.validation()]:
            cases, words = [x.case for x in lessons], [x.instruction for x in lessons]
            texts |= dict.fromkeys(item_text(backbone, item) for lesson in lessons for item in lesson.items)
            texts |= dict.fromkeys(editor.texts.all(backbone, cases, words))
        return list(texts)

    def moment_texts(self, editor: InstructedEditor, backbone: Backbone) -> list[Text]:
        """The edits that the normaliser's moments are taken from, evenly over the training cases."""
        stride = max(1, len(self.train) // self.config.moments)
        chosen = self.train[::stride][: self.config.moments]
        return editor.texts.requests(backbone, chosen, [""] * len(chosen))

    def instructions(self) -> list[str]:
        """The different instructions of the first steps, up to `moments` of them."""
        words = dict.fromkeys(
            lesson.instruction
            for step in range(min(self.config.steps, self.config.moments))
            for lesson in self.lessons(step)
            if lesson.instruction
        )
        return list(words)[: self.config.moments]

    def ordinary_texts(self, backbone: Backbone) -> list[Text]:
        """Ordinary text, or the training prompts where there is none."""
        if not self.ordinary:
            return [backbone.text(case.prompt, case.carrier) for case in self.train[:ORDINARY_TEXTS]]
        stride = max(1, len(self.ordinary) // ORDINARY_TEXTS)
        return [backbone.text(p.prompt, p.answers[0]) for p in self.ordinary[::stride][:ORDINARY_TEXTS]]

    def digest(self) -> str:
        """A digest of every case and ordinary text, in order, and of the first steps' instructions."""
        state = hashlib.sha256()
        for step in range(4):  # another bank gives other words
            state.update(repr([lesson.instruction for lesson in self.lessons(step)]).encode())
        for value in [*self.train, *self.held, *self.ordinary]:
            state.update(repr(sorted(asdict(value).items())).encode())
        return state.hexdigest()


def limit_tasks(cases: Sequence[EditCase], most: int | None, seed: int) -> list[EditCase]:
    """At most `most` cases of each task, drawn with `seed`; the order is kept."""
    if most is None:
        return list(cases)
    places: dict[str, list[int]] = {}
    for index, case in enumerate(cases):
        places.setdefault(case.task, []).append(index)
    rng = random.Random(seed)
    kept = {i for group in places.values() for i in rng.sample(group, min(most, len(group)))}
    return [case for index, case in enumerate(cases) if index in kept]


def balanced(cases: Sequence[EditCase], count: int) -> list[EditCase]:
    """`count` cases, one task after the other for as long as each lasts."""
    queues: dict[str, list[EditCase]] = {}
    for case in cases:
        queues.setdefault(f"{case.task}-{case.kind}", []).append(case)
    chosen: list[EditCase] = []
    while len(chosen) < count and any(queues.values()):
        chosen += [queue.pop() for queue in queues.values() if queue]
    return chosen[:count]
