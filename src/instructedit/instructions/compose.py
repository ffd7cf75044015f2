"""One edit's instruction: a sentence for the kind of change, and one for its scope."""

import random
from typing import get_args

from instructedit.instructions.banks import Bank, Split, find_bank, load_scopes, load_words
from instructedit.types import Control, EditCase, Kind, Scope, Sentiment


def instruction_for(
    case: EditCase,
    *,
    split: Split = "train",
    control: Control = "right",
    seed: int = 0,
    scope: Scope | None = None,
) -> str:
    """The instruction of an edit in free words, every slot filled; empty for the control ``none``.

    The same edit, split and seed give the same words; the two scopes, or the two sentiments, of one edit
    differ in that part only. `scope` goes before the edit's own. Controls: ``other`` describes another kind
    of change, ``random`` has as many common English words as the right instruction. The edit's own
    `instruction` is the right one where it has one.
    """
    if control == "none":
        return ""
    rng = random.Random("|".join((str(seed), split, case.task, case.subject, case.prompt, case.case_id)))
    if control == "other":
        kind = rng.choice([kind for kind in get_args(Kind) if kind != case.kind])
        sentiment = rng.choice(get_args(Sentiment))
        return _describe(case, find_bank("", kind), split, rng.choice(get_args(Scope)), sentiment, rng)
    right = _fill(case.instruction, case.subject, case.sentiment or "")
    right = right or _describe(
        case, find_bank(case.task, case.kind), split, scope or case.scope, case.sentiment or "positive", rng
    )
    if control == "right":
        return right
    return " ".join(rng.choice(load_words()[::2]) for _ in right.split())


def render(instruction: str, prompt: str, task_name: str = "") -> str:
    """The paper's three labelled lines around a prompt; the prompt alone where there is no instruction."""
    if not instruction:
        return prompt
    return f"Task: {task_name or 'Edit'}\nDescription: {instruction}\nInput: {prompt}"


def _describe(
    case: EditCase, bank: Bank, split: Split, scope: Scope, sentiment: Sentiment, rng: random.Random
) -> str:
    operation = rng.choice(bank.wordings[split])
    draw = rng.random()
    if bank.scoped:
        return join(operation, _pick(load_scopes()[scope][split], draw))
    word = _pick(bank.words[sentiment][split], draw) if bank.words else ""
    return _fill(operation, case.subject, word)


def _pick(wordings: tuple[str, ...], draw: float) -> str:
    return wordings[int(draw * len(wordings))]


def _fill(wording: str, subject: str, sentiment: str) -> str:
    if sentiment[:1] in ("a", "e", "i", "o", "u"):
        wording = wording.replace(" a {sentiment}", " an {sentiment}")
    text = wording.replace("{sentiment}", sentiment).replace("{subject}", subject or "this topic")
    return text[:1].upper() + text[1:]


def join(operation: str, scope: str) -> str:
    """Two sentences, or one where the scope's wording begins with a small letter."""
    if scope[0].isupper() or operation.endswith(":"):
        return f"{operation} {scope}"
    end = operation[-1] if operation[-1] in ".!?" else ""
    return f"{operation.removesuffix(end)}, {scope}{end}"
