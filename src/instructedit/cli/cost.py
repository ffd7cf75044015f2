"""What a training run would cost, before any model is loaded."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instructedit.training.config import TrainConfig
    from instructedit.training.course import Course

LETTERS_A_TOKEN = 4.3  # English, in the default model's tokenizer
TOKENS_A_SECOND = 700.0  # of the default model's prefix on two cores, float32
SECONDS_A_TEXT = 0.025  # of a training step, forward and backward of the edited top
SECONDS_AN_OPINION = 1.5  # of a step that teaches opinions, by topic and sentiment
HIDDEN_BYTES = 2 * 576  # a token in the cache: half precision, the default model's width


def estimate_cost(settings: "TrainConfig", course: "Course") -> dict[str, Any]:
    """Edits, texts and approximate tokens of a run, and minutes and megabytes for the default model.

    The texts are counted from the run's own lessons; tokens are guessed from their letters.
    """
    texts: set[str] = set()
    asked = 0
    for lessons in [*(course.lessons(step) for step in range(settings.steps)), course.validation()]:
        for lesson in lessons:
            asked += len(lesson.items) + 1
            texts.update(f"{item.prompt} {item.answer}" for item in lesson.items)
            texts.update((lesson.instruction, f"{lesson.case.prompt} {lesson.case.carrier}"))
    taught = settings.stance.steps if any(case.kind == "sentiment" for case in course.train) else 0
    tokens = sum(len(text) for text in texts) / LETTERS_A_TOKEN
    return {
        "cases": len(course.train),
        "validation_cases": len(course.held),
        "steps": settings.steps,
        "edits": settings.steps * settings.batch,
        "texts": len(texts),
        "tokens": round(tokens),
        "prefix_minutes": round(tokens / TOKENS_A_SECOND / 60, 1),
        "training_minutes": round(asked * SECONDS_A_TEXT / 60, 1),
        "opinion_minutes": round(taught * 2 * settings.stance.topics * SECONDS_AN_OPINION / 60, 1),
        "cache_megabytes": round(tokens * HIDDEN_BYTES / 1e6, 1),
    }
