"""What follows from an edit: questions about the new answer, by its name and by way of the request."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from instructedit.data.asked_for import noun_phrase
from instructedit.data.paraphrase import relation_forms
from instructedit.types import EditCase

WHERE = "Where "


@dataclass(frozen=True)
class Consequence:
    """One question: `asked` by way of the request in each wording, `told` of the answer, behind examples."""

    asked: tuple[str, ...]
    told: str


def make_consequences(case: EditCase, kind: str) -> tuple[Consequence, ...]:
    """All that can be asked of an answer of some `kind`, a word; none of an unknown kind.

    "The gender of the spouse of Ann Lee is" goes with "The gender of Bob Ray is". None where the request
    gives no noun phrase.
    """
    phrase, words = noun_phrase(case), kind.lower().split()
    asks = next((entry["asks"] for entry in _book()["kinds"] if set(words) & set(entry["words"])), [])
    wheres = _wheres(case)
    return tuple(
        Consequence(
            tuple(prompt for wording in (form, *questions) for prompt in _filled(wording, phrase, wheres)),
            _behind(form, examples, case.target_new),
        )
        for form, examples, *questions in asks
        if phrase
    )


def make_kind_questions(case: EditCase, kind: str) -> tuple[str, ...]:
    """Questions for the answer itself that say of what `kind` it is: "In which city was Ann Lee born?"."""
    noun = kind.lower().removeprefix("a ").removeprefix("an ")
    return tuple(f"In which {noun} {where}?" for where in _wheres(case) if noun)


def _filled(wording: str, phrase: str, wheres: Sequence[str]) -> list[str]:
    """A wording about the {s} that a phrase names, or one for all that follows "Where" in {w}."""
    asked = [wording.replace("{w}", where) for where in wheres] if "{w}" in wording else [wording]
    return [prompt.replace("{s}", f"the {phrase}") for prompt in asked]


def _wheres(case: EditCase) -> list[str]:
    """What stands behind "Where" in questions for the same: "was Ann Lee born"."""
    forms = (case.prompt.strip(), *relation_forms(case))
    return [form[len(WHERE) : -1] for form in forms if form.startswith(WHERE) and form.endswith("?")]


def make_indirect_prompts(case: EditCase, count: int) -> tuple[str, ...]:
    """Up to `count` prompts that ask something of the edit's answer without its name, whatever its kind."""
    phrase = noun_phrase(case)
    forms = list(dict.fromkeys(ask[0] for entry in _book()["kinds"] for ask in entry["asks"]))
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
