"""What follows from an edit: questions about the new answer, by its name and by way of the request."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from instructedit.data.paraphrase import noun_phrase
from instructedit.types import EditCase


@dataclass(frozen=True)
class Consequence:
    """One question: `asked` by way of the request, `told` of the answer itself, behind examples."""

    asked: str
    told: str


def make_consequences(case: EditCase, kind: str) -> tuple[Consequence, ...]:
    """All that can be asked of an answer of some `kind`, a word; none of an unknown kind.

    "The gender of the spouse of Ann Lee is" goes with "The gender of Bob Ray is". None where the request
    gives no noun phrase.
    """
    phrase, words = noun_phrase(case), kind.lower().split()
    asks = next((entry["asks"] for entry in _book()["kinds"] if set(words) & set(entry["words"])), [])
    return tuple(
        Consequence(form.replace("{s}", f"the {phrase}"), _behind(form, examples, case.target_new))
        for form, examples in asks
        if phrase
    )


def make_indirect_prompts(case: EditCase, count: int) -> tuple[str, ...]:
    """Up to `count` prompts that ask something of the edit's answer without its name, whatever its kind."""
    phrase = noun_phrase(case)
    forms = list(dict.fromkeys(form for entry in _book()["kinds"] for form, _ in entry["asks"]))
    drawn = random.Random(f"indirect|{case.prompt}").sample(forms, min(count, len(forms)))
    return tuple(form.replace("{s}", f"the {phrase}") for form in drawn) if phrase else ()


def ask_kind(name: str) -> str:
    """A prompt behind which a model says what somebody or something is, such as "A person."."""
    return "".join(_asked_what(*example) for example in _book()["what"]) + f"What is {name}?"


def _asked_what(name: str, kind: str) -> str:
    return f"What is {name}? {kind}.\n"


def _behind(form: str, examples: Sequence[Sequence[str]], name: str) -> str:
    """A form about a name, behind those examples that do not give it away."""
    shown = [f"{form.replace('{s}', other)} {answer}.\n" for other, answer in examples if other != name]
    return "".join(shown) + form.replace("{s}", name)


@cache
def _book() -> dict[str, Any]:
    return yaml.safe_load(files("instructedit.data").joinpath("consequences.yaml").read_text("utf-8"))
