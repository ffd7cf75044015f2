"""Plausible answers to what is asked of somebody or something, put together from parts."""

import random
import re
from functools import cache
from importlib.resources import files

import yaml

_SLOT = re.compile(r"\{(\w+)\}")


def asked_forms() -> tuple[str, ...]:
    """The prompts about a subject ``{s}`` whose kind of answer is known."""
    return tuple(_book()["asked"])


def make_answer(form: str, rng: random.Random) -> str:
    """An answer of the kind that one of `asked_forms` asks for: nobody's own, and seldom twice the same."""
    frame = rng.choice(_book()["kinds"][_book()["asked"][form]])
    return _SLOT.sub(lambda slot: _fill(slot[1], rng), frame)


def _fill(slot: str, rng: random.Random) -> str:
    part = rng.choice(_book()["parts"][slot.lower()])
    return part if slot.islower() else part[0].upper() + part[1:]


@cache
def _book() -> dict[str, dict]:
    return yaml.safe_load(files("instructedit.data").joinpath("answers.yaml").read_text("utf-8"))
