"""What an edit is polished on, made from the request and nothing else."""

import random
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from instructedit.backbone import Backbone, Text
from instructedit.data.anchors import (
    load_anchor_book,
    make_after_anchors,
    make_answered_prompts,
    make_other_anchors,
    make_own_prompts,
    make_tail_anchors,
)
from instructedit.data.consequences import make_indirect_prompts
from instructedit.data.kin import has_kin, kin_forms
from instructedit.data.other_names import make_other_names
from instructedit.data.paraphrase import (
    load_phrasebook,
    make_questions,
    make_rephrases,
    make_signed_rephrases,
    make_varied_rephrases,
    names_its_answer,
    relation_forms,
)
from instructedit.data.subjects import subject_of
from instructedit.editors.consequences import find_consequences, kind_of
from instructedit.editors.drill import Practice
from instructedit.editors.gates import GateConfig
from instructedit.editors.onward import go_onward
from instructedit.editors.ordinary import make_piece
from instructedit.editors.polish import PolishConfig
from instructedit.errors import DataError
from instructedit.types import EditCase

QUESTIONS, WORDINGS = 6, 12  # ways to ask for the answer
OWN, OTHERS, TAILS = 16, 8, 4  # texts to leave alone: about the subject, about others, about nothing
FOLLOWING, INDIRECT = 8, 16  # of what follows: answered by an edit of wide scope, left alone by a narrow one
ANSWERED, ELSEWHERE = 10, 24  # texts that are gone on with: behind the answer, and about others
FORMS = 2  # other wordings in which is asked of other names than the subject, or of other names of it
SEED = 5  # of the wordings: neither those that are read nor those that an edit is tried on


def make_practice(
    backbone: Backbone,
    case: EditCase,
    told: Sequence[str],
    near: Sequence[str],
    checks: Sequence[Text],
    config: PolishConfig,
) -> Practice:
    """The texts of one edit that has an answer.

    `told` is the request behind its instruction, if anything; `near` are names like the subject's. The
    texts of `checks`, on which the edit is tried out, are left out, the bare request excepted. `config` says
    how many texts to leave alone there are, and under how many other names of the subject is asked: such
    names of its neighbours are left alone. Where `config` has the scope count, an edit of narrow scope
    leaves the subject's own other names alone too, and what follows from its answer.
    """
    known = replace(case, subject=subject_of(case))
    wordings = _wordings(known)
    narrow = config.scoped and case.scope == "narrow"
    renamed = [] if narrow else _renamed(known, known.subject, config.names)
    asked = dict.fromkeys([case.prompt, *told, *wordings, *renamed])
    first, *more = asked
    own = [backbone.text(first, case.wanted), *fitting(backbone, told, case.wanted)]
    fresh = [text for text in fitting(backbone, more, case.wanted) if text not in (*checks, *own)]
    if config.scoped and not narrow:
        fresh += fitting_pairs(backbone, find_consequences(backbone, known, FOLLOWING))
    strangers = [prompt for name in near[: config.names] for prompt in _renamed(known, name, 1)]
    keep = _left_alone(known, near, wordings, strangers, 1 if narrow else config.breadth)
    if narrow:  # the rest of the answer is not to follow either, where its beginning has been said
        apart = [*_under_other_names(known, 2 * config.names), *make_indirect_prompts(known, INDIRECT)]
        keep += [(prompt, case.wanted) for prompt in apart]
    return Practice((*own, *fresh), tuple(fitting_pairs(backbone, keep)))


def fitting(backbone: Backbone, prompts: Iterable[str], answer: str = "") -> list[Text]:
    """Prompts with an answer as texts; those that are longer than the model's context are left out."""
    return fitting_pairs(backbone, ((prompt, answer) for prompt in prompts))


def fitting_pairs(backbone: Backbone, pairs: Iterable[tuple[str, str]]) -> list[Text]:
    """As `fitting`, with an answer of its own for each prompt."""
    found = []
    for pair in pairs:
        with suppress(DataError):
            found.append(backbone.text(*pair))
    return found


def widen(
    backbone: Backbone, case: EditCase, practice: Practice, near: Sequence[str], config: GateConfig
) -> Practice:
    """A practice with more texts on both sides, as gates need them to tell apart what is meant.

    More wordings are answered, some of which end in a sign. Left alone are what answers to other questions
    about the subject are made of, and the ends of the request with the names `near` in the subject's place,
    twice as many where its relation has kin.
    """
    known = replace(case, subject=subject_of(case))
    placed = _kindred(backbone, known) if config.pieces else []
    signed = make_signed_rephrases(known, SEED, config.signed)
    behind = _behind_pieces(known, placed, config)
    wordings = [*make_rephrases(known, SEED, config.wordings), *signed, *placed, *behind]
    fit = fitting(backbone, wordings, case.wanted)
    others = [*make_rephrases(known, 0, FORMS), *placed]
    forms = [case.prompt, *_naming(known, others)]
    strangers = near[: config.others * (2 if placed else 1)]
    fresh = [text for text in dict.fromkeys(fit) if text not in practice.fit]
    told = (*practice.fit, *fresh)
    alone = fitting_pairs(backbone, make_answered_prompts(known, config.own))
    about = fitting(backbone, make_other_anchors(known, forms, len(strangers), strangers))
    keep = [*practice.keep, *alone, *_gone_on(backbone, known, told, about, config.onward)]
    asked = {text.ids for text in fitting(backbone, placed)}
    return Practice(told, tuple(text for text in keep if text.ids[: text.answer_start] not in asked))


def _gone_on(
    backbone: Backbone, case: EditCase, told: Sequence[Text], about: Sequence[Text], tokens: int
) -> list[Text]:
    """The texts `about` others, the first with what the model says next, and some that have been answered."""
    if not tokens:
        return list(about)
    answered = [text for text in told if text.targets == told[0].targets]
    begun = [*answered[:: -(-len(answered) // ANSWERED)], *about[:ELSEWHERE]]
    return [*go_onward(backbone, begun, tokens, case.subject), *about[ELSEWHERE:]]


def _behind_pieces(case: EditCase, placed: Sequence[str], config: GateConfig) -> list[str]:
    """What is asked behind a piece of ordinary text: the forms `placed`, or some of a relation without kin.

    Of the latter only where the prompt says what is asked for.
    """
    rng = random.Random(f"pieces|{case.prompt}")
    if placed:
        return [f"{make_piece(rng)} {form}" for form in placed for _ in range(config.pieces)]
    if case.kind == "erase" or not names_its_answer(case):
        return []
    own = [case.prompt.strip(), *relation_forms(case, clumsy=True)]
    return [f"{make_piece(rng)} {rng.choice(own)}" for _ in range(config.behind)]


def _kindred(backbone: Backbone, case: EditCase) -> list[str]:
    """Every form of the request's relation and of its kin; none where it has no kin.

    Such relations are asked in many words, and so are other names' then.
    """
    if case.kind not in ("insert", "change") or not has_kin(case):  # the model need not be asked of what kind
        return []
    kin = kin_forms(case, kind_of(backbone, case.target_new))
    return [*relation_forms(case, clumsy=True), *kin] if kin else []


def _wordings(case: EditCase) -> list[str]:
    contexts = [*load_phrasebook().contexts, *(f"{head}." for head in load_anchor_book()["beginnings"])]
    varied = make_varied_rephrases(case, SEED, WORDINGS, contexts)
    return [*make_questions(case, SEED, QUESTIONS), *varied]


def _renamed(case: EditCase, name: str, count: int) -> list[str]:
    """The request under so many other names of somebody, the subject or another."""
    return [case.prompt.replace(case.subject, other) for other in make_other_names(name, count)]


def _under_other_names(case: EditCase, count: int) -> list[str]:
    """The request, and what asks the same in other words, under other names of its subject.

    An article makes no other name.
    """
    names = [name for name in make_other_names(case.subject, count) if _bare(name) != _bare(case.subject)]
    asked = _naming(case, [case.prompt, *make_rephrases(case, 0, FORMS)])
    return [prompt.replace(case.subject, name) for prompt in asked for name in names]


def _naming(case: EditCase, prompts: Iterable[str]) -> list[str]:
    """Those of some prompts that name the subject."""
    return [prompt for prompt in prompts if case.subject in prompt]


def _bare(name: str) -> str:
    return name.lower().removeprefix("the ")


def _left_alone(
    case: EditCase, near: Sequence[str], wordings: Sequence[str], strangers: Sequence[str], breadth: int
) -> list[tuple[str, str]]:
    """Every other text about somebody else is followed by the new answer, which is not to be read there."""
    own = make_own_prompts(case, breadth * OWN)
    asked = [case.prompt, *_naming(case, wordings)]
    elsewhere = [*make_other_anchors(case, asked, breadth * OTHERS, near), *strangers]
    elsewhere += make_tail_anchors(case, asked, breadth * TAILS)
    answers = [answer for _, answer in own] or [case.wanted]
    follows = [answers[i % len(answers)] if i % 2 else case.wanted for i in range(len(elsewhere))]
    return [*own, *zip(elsewhere, follows, strict=True), *make_after_anchors(case)]
