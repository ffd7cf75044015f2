"""Anchors: prompts beside an edit that it shall leave alone, made from the request and nothing else."""

import random
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import yaml

from instructedit.data.paraphrase import relation_forms
from instructedit.data.subjects import subject_of
from instructedit.types import EditCase


def make_other_anchors(case: EditCase, prompts: Sequence[str], count: int) -> tuple[str, ...]:
    """Up to `count` prompts that ask the same of other subjects, in each of the edit's `prompts` by turns.

    The subjects are well-known ones of different kinds, drawn by the edit's own words. Empty where the
    prompt names no subject.
    """
    subject = subject_of(case)
    if not subject:
        return ()
    rng = random.Random(f"anchors|{subject}|{case.prompt}")
    lists = load_anchor_book()["subjects"]
    drawn: list[str] = []
    for place in range(min(count, sum(map(len, lists)) // 2)):
        names = lists[place % len(lists)]
        drawn.append(rng.choice([name for name in names if name not in case.prompt and name not in drawn]))
    return tuple(prompts[i % len(prompts)].replace(subject, other) for i, other in enumerate(drawn))


def make_own_anchors(case: EditCase, count: int) -> tuple[tuple[str, str], ...]:
    """Up to `count` pairs of a prompt that asks something else of the edit's subject and a plausible answer.

    The answer is not the subject's own: it stands for words that an edit meets behind other prompts. None
    asks for the edited relation, and no answer has a word of the new one.
    """
    subject = subject_of(case)
    if not subject:
        return ()
    named = EditCase(case.prompt, case.target_new, subject)
    same = {case.prompt, *relation_forms(named, clumsy=True)}
    target = set(case.target_new.split())
    pairs = [(form.replace("{s}", subject), answer) for form, answer in load_anchor_book()["own"]]
    fit = [pair for pair in pairs if pair[0] not in same and not target & set(pair[1].split())]
    rng = random.Random(f"own anchors|{subject}|{case.prompt}")
    return tuple(rng.sample(fit, min(count, len(fit))))


@cache
def load_anchor_book() -> dict[str, list]:
    """Everything in `anchors.yaml`."""
    return yaml.safe_load(files("instructedit.data").joinpath("anchors.yaml").read_text("utf-8"))
