"""One step's work as one module: edit under each lesson's instruction and score what its texts answer."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from instructedit.backbone import Backbone, PrefixCache
from instructedit.editors.instructed import InstructedEditor
from instructedit.training.config import TrainConfig
from instructedit.training.lessons import Item, Lesson
from instructedit.training.losses import Outcome, lesson_loss, read_slots, score_items
from instructedit.training.sequence import propose_sequence


class LessonStep(nn.Module):
    """The loss of some lessons, in a form that `accelerate` can spread over processes."""

    def __init__(
        self, editor: InstructedEditor, backbone: Backbone, cache: PrefixCache | None, config: TrainConfig
    ) -> None:
        super().__init__()
        self.editor = editor
        self._frozen = (backbone, cache)  # a tuple: not registered, so neither copied nor synchronised
        self.config = config

    @property
    def backbone(self) -> Backbone:
        return self._frozen[0]

    def forward(
        self, lessons: Sequence[Lesson], together: bool = False
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        return lesson_loss(lessons, self.ask(lessons, together)[1], self.config.loss)

    def ask(
        self, lessons: Sequence[Lesson], together: bool = False
    ) -> tuple[list[tuple[int, Item]], Outcome]:
        """Every item of the lessons, with the index of its lesson, and what the edited model says to it.

        Each edit is alone in its model, or all are `together` in one: then the items of earlier batches ask
        what the later ones have left of them.
        """
        backbone, cache = self._frozen
        cases, words = [lesson.case for lesson in lessons], [lesson.instruction for lesson in lessons]
        if together:
            delta = propose_sequence(self.editor, backbone, cases, words, self.config.upon, cache)
        else:
            delta = self.editor.propose(backbone, cases, words, cache)
        items = [(index, item) for index, lesson in enumerate(lessons) for item in lesson.items]
        return items, score_items(backbone, delta, items, cache, self.config.loss.buckets)


@torch.no_grad()
def validation_score(
    module: LessonStep, lessons: Sequence[Lesson], batch: int = 10, together: bool = False
) -> tuple[float, dict[str, float]]:
    """The mean over kinds of edit of the mean over slots, all shares between 0 and 1.

    With `together` the edits of a batch are made in one model.
    """
    groups: dict[str, list[tuple[Item, tuple[float, float, float]]]] = {}
    for start in range(0, len(lessons), batch):
        part = lessons[start : start + batch]
        items, outcome = module.ask(part, together)
        for i, (index, item) in enumerate(items):
            values = (float(outcome.nll[i]), float(outcome.exact[i]), float(outcome.unchanged[i]))
            groups.setdefault(f"{part[index].case.task}-{part[index].case.kind}", []).append((item, values))
    readings, scores = {}, []
    for name, rows in sorted(groups.items()):
        nll, exact, unchanged = (torch.tensor([v[k] for _, v in rows]) for k in range(3))
        slots = read_slots([item for item, _ in rows], nll, exact, unchanged)
        readings |= {f"{name}/{slot}": value for slot, value in slots.items()}
        scores.append(sum(slots.values()) / len(slots))
    return sum(scores) / max(len(scores), 1), readings
