"""One edit's instruction: a sentence for the kind of change, and one for its scope."""

import random
from typing import get_args

from instructedit.instructions.banks import (
    Bank,
    Split,
    find_bank,
    load_banks,
    load_kinds,
    load_scopes,
    load_words,
)
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


def scope_instructions(split: Split, count: int, seed: int = 0) -> dict[str, Scope]:
    """Instructions with every wording of both scopes, each behind `count` operations that take one.

    The operations alone are among them: where nothing is said, a wide scope is meant. Banks of tasks that are
    held out of every training are left out.
    """
    rng = random.Random(f"{seed}|scopes|{split}")
    operations = scoped_operations(split)
    alone: dict[str, Scope] = dict.fromkeys(operations, "wide")
    return alone | {
        _join(operation, wording): scope
        for scope, wordings in load_scopes().items()
        for wording in wordings[split]
        for operation in rng.sample(operations, min(count, len(operations)))
    }


def scoped_operations(split: Split) -> list[str]:
    """The operations that take a scope, but those of tasks that are held out of every training."""
    return [words for bank in _taught() if bank.scoped for words in bank.wordings[split]]


def kind_instructions(split: Split, count: int, seed: int = 0) -> dict[str, bool]:
    """Instructions about facts, and whether each asks for an erasure.

    They are every operation of the banks, alone and with `count` sentences about its scope, what people
    write otherwise, and as many random words: whoever says nothing wants nothing erased. Neither banks of
    tasks that are held out nor the words of the control ``random`` are among them.
    """
    rng = random.Random(f"{seed}|kinds|{split}")
    scopes = [words for scope in load_scopes().values() for words in scope[split]]
    told: dict[str, bool] = {}
    for bank in _taught():
        for operation in bank.wordings[split] if bank.kind != "sentiment" else ():
            wordings = [operation, *(_join(operation, scope) for scope in rng.sample(scopes, count))]
            told |= dict.fromkeys(wordings, bank.kind == "erase")
    for erases, wordings in load_kinds().items():
        told |= dict.fromkeys(wordings[split], erases)
    lengths = [len(words.split()) for words in load_kinds()[False][split]]
    noise = [" ".join(rng.choice(load_words()[1::2]) for _ in range(2 * length)) for length in lengths]
    return told | dict.fromkeys(noise, False)


def _taught() -> tuple[Bank, ...]:
    """The banks that an editor may learn from."""
    return tuple(bank for bank in load_banks() if not bank.is_held_out)


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
        return _join(operation, _pick(load_scopes()[scope][split], draw))
    word = _pick(bank.words[sentiment][split], draw) if bank.words else ""
    return _fill(operation, case.subject, word)


def _pick(wordings: tuple[str, ...], draw: float) -> str:
    return wordings[int(draw * len(wordings))]


def _fill(wording: str, subject: str, sentiment: str) -> str:
    if sentiment[:1] in ("a", "e", "i", "o", "u"):
        wording = wording.replace(" a {sentiment}", " an {sentiment}")
    text = wording.replace("{sentiment}", sentiment).replace("{subject}", subject or "this topic")
    return text[:1].upper() + text[1:]


def _join(operation: str, scope: str) -> str:
    """Two sentences, or one where the scope's wording begins with a small letter."""
    if scope[0].isupper():
        return f"{operation} {scope}"
    return f"{operation[:-1]}, {scope}{operation[-1]}"
