"""Anchors: prompts beside an edit that it shall leave alone, made from the request and nothing else."""

import random
from functools import cache
from importlib.resources import files

import yaml

from instructedit.data.subjects import subject_of
from instructedit.types import EditCase


def make_anchors(case: EditCase, others: int, own: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Up to `others` prompts that ask the same of other subjects, and `own` others about this one.

    The subjects are well-known ones of different kinds, drawn by the edit's own words. Both are
    empty where the prompt names no subject.
    """
    subject = subject_of(case)
    if not subject:
        return (), ()
    book = load_anchor_book()
    rng = random.Random(f"anchors|{subject}|{case.prompt}")
    known = [[name for name in names if name not in case.prompt] for names in book["subjects"]]
    drawn = [rng.choice(names) for names in known if names]
    prompts = [case.prompt.replace(subject, other) for other in drawn]
    same = [form.replace("{s}", subject) for form in book["own"]]
    return tuple(prompts[:others]), tuple(prompt for prompt in same if prompt != case.prompt)[:own]


@cache
def load_anchor_book() -> dict[str, list]:
    """Everything in `anchors.yaml`."""
    return yaml.safe_load(files("instructedit.data").joinpath("anchors.yaml").read_text("utf-8"))
