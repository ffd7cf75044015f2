"""What an edit is polished on, made from the request and nothing else."""

from collections.abc import Sequence
from dataclasses import replace

from instructedit.backbone import Backbone, Text
from instructedit.data.anchors import (
    load_anchor_book,
    make_other_anchors,
    make_own_prompts,
    make_tail_anchors,
)
from instructedit.data.paraphrase import load_phrasebook, make_questions, make_varied_rephrases
from instructedit.data.subjects import subject_of
from instructedit.editors.polish import Practice
from instructedit.types import EditCase

QUESTIONS, WORDINGS = 6, 12  # ways to ask for the answer
OWN, OTHERS, TAILS = 16, 8, 4  # texts to leave alone: about the subject, about others, about nothing
SEED = 5  # of the wordings: neither those that are read nor those that an edit is tried on


def make_practice(
    backbone: Backbone, case: EditCase, told: Sequence[str], near: Sequence[str], checks: Sequence[Text]
) -> Practice:
    """The texts of one edit that has an answer.

    `told` is the request behind its instruction, if anything; `near` are names like the subject's. The
    texts of `checks`, on which the edit is tried out, are left out, the bare request excepted.
    """
    known = replace(case, subject=subject_of(case))
    wordings = _wordings(known)
    asked = dict.fromkeys([case.prompt, *told, *wordings])
    fit = [backbone.text(prompt, case.wanted) for prompt in asked]
    fresh = [text for text in fit[1 + len(told) :] if text not in checks]
    return Practice((*fit[: 1 + len(told)], *fresh), tuple(_left_alone(backbone, known, near, wordings)))


def _wordings(case: EditCase) -> list[str]:
    contexts = [*load_phrasebook().contexts, *(f"{head}." for head in load_anchor_book()["beginnings"])]
    varied = make_varied_rephrases(case, SEED, WORDINGS, contexts)
    return [*make_questions(case, SEED, QUESTIONS), *varied]


def _left_alone(
    backbone: Backbone, case: EditCase, near: Sequence[str], wordings: Sequence[str]
) -> list[Text]:
    """Every other text about somebody else is followed by the new answer, which is not to be read there."""
    own = make_own_prompts(case, OWN)
    asked = [case.prompt, *(prompt for prompt in wordings if case.subject in prompt)]
    elsewhere = make_other_anchors(case, asked, OTHERS, near) + make_tail_anchors(case, asked, TAILS)
    answers = [answer for _, answer in own] or [case.wanted]
    follows = [answers[i % len(answers)] if i % 2 else case.wanted for i in range(len(elsewhere))]
    return [backbone.text(*pair) for pair in (*own, *zip(elsewhere, follows, strict=True))]
