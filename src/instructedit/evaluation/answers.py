"""From questions to metric values: what a model and its edited self say to each question."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone, PrefixCache, Text
from instructedit.editors.change import Change, reword_prompts
from instructedit.evaluation.generation import generate_greedy
from instructedit.evaluation.questions import Question
from instructedit.evaluation.rows import SIDES
from instructedit.evaluation.scoring import score_texts
from instructedit.metrics import generation_matches, ngram_entropy, sentiment_score, win_rate

NOT_WITHOUT_ANSWER = tuple(
    f"{side}_{metric}" for side in SIDES for metric in ("exact", "accuracy", "log_prob")
)
Values = dict[str, float | str]


def score_questions(
    backbone: Backbone,
    delta: Change,
    questions: Sequence[Question],
    edits: Sequence[int],
    cache: PrefixCache | None = None,
) -> list[Values]:
    """Teacher-forced metric values of every question; ``edits[i]`` is question i's row of `delta`.

    A locality question without an answer is compared at the one token that follows the prompt; any
    other question without an answer or reply has no values.
    """
    texts = [_texts(backbone, question) for question in questions]
    flat = [text for group in texts for text in group]
    owners = [edit for edit, group in zip(edits, texts, strict=True) for _ in group]
    asked = [question.asked for question, group in zip(questions, texts, strict=True) for _ in group]
    columns = score_texts(
        backbone, delta, flat, owners, cache, _reworded(backbone, delta, asked, flat, owners)
    )
    values: list[Values] = []
    start = 0
    for question, group in zip(questions, texts, strict=True):
        part = {name: column[start : start + len(group)] for name, column in columns.items()}
        values.append(_values(question, part) if group else {})
        start += len(group)
    return values


def _texts(backbone: Backbone, question: Question) -> list[Text]:
    if not question.replies and question.group == "locality":
        text = backbone.text(question.asked)
        return [Text((*text.ids, 0), len(text.ids))]  # the token at the end is predicted, never read
    return [backbone.text(question.asked, reply) for reply in question.replies]


def _reworded(
    backbone: Backbone, delta: Change, asked: Sequence[str], texts: Sequence[Text], edits: Sequence[int]
) -> list[Text] | None:
    """The texts as the edited model is asked them, their answer tokens the same; None where none differs."""
    told = reword_prompts(delta, asked, edits)
    if told == list(asked):
        return None
    heads = [backbone.text(prompt).ids for prompt in told]
    return [Text((*head, *text.targets), len(head)) for head, text in zip(heads, texts, strict=True)]


def _values(question: Question, scores: dict[str, Float[Tensor, " m"]]) -> Values:
    if question.good or question.bad:
        return _sentiment_values(question, scores["base_log_prob"], scores["edited_log_prob"])
    return {
        name: float(column[0])
        for name, column in scores.items()
        if question.replies or name not in NOT_WITHOUT_ANSWER
    }


def _sentiment_values(question: Question, base: Float[Tensor, " m"], edited: Float[Tensor, " m"]) -> Values:
    cut = len(question.good)
    values: Values = {}
    for side, scores in zip(SIDES, (base, edited), strict=True):
        good, bad = scores[:cut], scores[cut:]
        values[f"{side}_win_rate"] = float(win_rate(good, bad))
        values[f"{side}_sentiment_score"] = float(sentiment_score(base[:cut], good, bad))
        values[f"{side}_good_log_prob"] = float(good.mean())
        values[f"{side}_bad_log_prob"] = float(bad.mean())
    return values


def write_answers(
    backbone: Backbone, delta: Change, questions: Sequence[Question], edits: Sequence[int], tokens: int
) -> list[Values]:
    """Greedy first lines of both sides, and whether they begin with one of the answers."""
    values = _written(backbone, delta, questions, edits, tokens)
    for question, value in zip(questions, values, strict=True):
        for side in SIDES if question.answers else ():
            found = generation_matches(str(value[f"{side}_text"]), question.answers)
            value[f"{side}_generation"] = float(found)
    return values


def write_fluency(
    backbone: Backbone, delta: Change, questions: Sequence[Question], edits: Sequence[int], tokens: int
) -> list[Values]:
    """Greedy texts of `tokens` tokens of both sides, over end tokens, and their n-gram entropy."""
    values = _written(backbone, delta, questions, edits, tokens, whole=True)
    for value in values:
        for side in SIDES:
            value[f"{side}_fluency"] = ngram_entropy(str(value[f"{side}_text"]))
    return values


def _written(
    backbone: Backbone,
    delta: Change,
    questions: Sequence[Question],
    edits: Sequence[int],
    tokens: int,
    whole: bool = False,
) -> list[Values]:
    """Both sides' answers: first lines, or with `whole` all `tokens`, whatever they are."""
    asked = [question.asked for question in questions]
    told: dict[str, Any] = {"max_new_tokens": tokens, "first_line": not whole, "ends": not whole}
    base = generate_greedy(backbone, asked, **told)
    edited = generate_greedy(backbone, asked, delta=delta, edits=edits, **told)
    return [{"base_text": before, "edited_text": after} for before, after in zip(base, edited, strict=True)]
