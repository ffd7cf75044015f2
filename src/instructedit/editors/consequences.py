"""What follows from an edit, by what the unedited model knows of the new answer."""

from collections.abc import Sequence

from instructedit.backbone import Backbone
from instructedit.backbone.generation import Continuation, continue_texts
from instructedit.data.asked_for import noun_phrase
from instructedit.data.consequences import Consequence, ask_kind, make_consequences, make_kind_questions
from instructedit.errors import DataError
from instructedit.types import EditCase

SURE = 0.4  # of an answer, where it counts as known
WORDS, TOKENS = 4, 8  # of what kind a thing is, and of what else is asked


def find_consequences(backbone: Backbone, case: EditCase, count: int) -> list[tuple[str, str]]:
    """Questions with their answers: `count` of these an edit entails, and its own, asked for by its kind.

    What is entailed is asked by way of the request. The model is asked what the answer is, then, behind
    examples, what can be asked of its kind; what it is most sure of comes first. Of that, what repeats the
    new answer is left out. Only a change or an insertion of a name has any.
    """
    named = case.kind in ("insert", "change") and case.target_new[:1].isupper()
    if not named or not noun_phrase(case):  # nothing to ask by: the model need not be asked what it is
        return []
    kind = kind_of(backbone, case.target_new)
    own = [(asked, case.target_new) for asked in make_kind_questions(case, kind)]
    return own + _entailed(backbone, case, make_consequences(case, kind), count)


def kind_of(backbone: Backbone, name: str) -> str:
    """What the model says that somebody or something is, such as "A person"."""
    (told,) = _continue(backbone, [ask_kind(name)], WORDS)
    return told.text.split(".")[0]


def _entailed(
    backbone: Backbone, case: EditCase, asks: Sequence[Consequence], count: int
) -> list[tuple[str, str]]:
    found = zip(asks, _continue(backbone, [ask.told for ask in asks], TOKENS), strict=True)
    known = sorted(((told.sure, ask.asked, _answer(told.text)) for ask, told in found), reverse=True)
    target = set(case.target_new.lower().split())
    fit = [(asked, answer) for sure, asked, answer in known if answer and sure >= SURE]
    new = [pair for pair in fit if not target & set(pair[1].lower().split())][:count]
    return [(wording, answer) for asked, answer in new for wording in asked]


def _answer(text: str) -> str:
    """The answer in what a model says behind examples that end in a full stop; none where it finds no end."""
    return text.split(". ")[0].removesuffix(".").strip() if "." in text else ""


def _continue(backbone: Backbone, prompts: Sequence[str], tokens: int) -> list[Continuation]:
    """What the model says behind each prompt: nothing, where its context is too short for the examples."""
    try:
        texts = [backbone.text(prompt) for prompt in prompts]
    except DataError:
        return [Continuation("", 0.0)] * len(prompts)
    return continue_texts(backbone, texts, tokens)
