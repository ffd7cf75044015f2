"""Anchors: prompts beside an edit that it shall leave alone, made from the request and nothing else."""

import random
import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files

import yaml

from instructedit.data.answers import asked_forms, make_answer
from instructedit.data.paraphrase import relation_forms
from instructedit.data.subjects import subject_of
from instructedit.types import EditCase

LONGEST = 20  # characters of a word that a sentence may end in


def make_other_anchors(
    case: EditCase, prompts: Sequence[str], count: int, near: Sequence[str] = ()
) -> tuple[str, ...]:
    """Up to `count` prompts that ask the same of other subjects, in each of the edit's `prompts` by turns.

    The subjects are those of `near`, then well-known ones of different kinds, drawn by the edit's own
    words. Empty where the prompt names no subject.
    """
    subject = subject_of(case)
    if not subject:
        return ()
    others = (*near[:count], *_draw_subjects(case, subject, count - len(near)))
    return tuple(prompts[i % len(prompts)].replace(subject, other) for i, other in enumerate(others))


def _draw_subjects(case: EditCase, subject: str, count: int) -> list[str]:
    rng = random.Random(f"anchors|{subject}|{case.prompt}")
    lists = load_anchor_book()["subjects"]
    asked, drawn = case.prompt.casefold(), list[str]()
    for place in range(min(count, sum(map(len, lists)) // 2)):
        names = lists[place % len(lists)]
        free = [name for name in names if name.casefold() not in asked and name not in drawn]
        drawn.append(rng.choice(free))
    return drawn


def make_tail_anchors(case: EditCase, prompts: Sequence[str], count: int) -> tuple[str, ...]:
    """Up to `count` ordinary sentences that end as the edit's `prompts` by turns do, in a word or two.

    What a layer sees at the end of a prompt is for a good part its last words, and so an update that is
    made there is felt wherever text comes to them. Prompts that end in the subject give none. Where the
    edit's own prompt is a question, ordinary questions make up a half of them, or all.
    """
    book, rng = load_anchor_book(), random.Random(f"tails|{case.prompt}")
    chosen = rng.sample(book["beginnings"], min(count, len(book["beginnings"])))
    words = {_bare(word) for word in subject_of(case).split()}
    ends = [prompt.split()[-2:] for prompt in prompts if _bare(prompt.split()[-1]) not in words]
    ends = [[word for word in end if _bare(word) not in words] for end in ends if len(end[-1]) <= LONGEST]
    turns = ((head, *divmod(i, len(ends))) for i, head in enumerate(chosen) if ends)
    found = tuple(" ".join((head, *ends[place][-1 - turn % 2 :])) for head, turn, place in turns)
    if not case.is_question:
        return found
    half = found[: count // 2]
    return (*half, *rng.sample(book["questions"], min(count - len(half), len(book["questions"]))))


def _bare(word: str) -> str:
    """A word without the marks around it, in small letters."""
    return re.sub(r"^\W+|(?:['’]s)?\W*$", "", word).casefold()


def make_own_anchors(case: EditCase, count: int) -> tuple[tuple[str, str], ...]:
    """Up to `count` pairs of a prompt that asks something else of the edit's subject and a plausible answer.

    The answer is not the subject's own: it stands for words that an edit meets behind other prompts. None
    asks for the edited relation, and no answer has a word of the new one.
    """
    pairs = _own_pairs(case, load_anchor_book()["own"])
    rng = random.Random(f"own anchors|{subject_of(case)}|{case.prompt}")
    return tuple(rng.sample(pairs, min(count, len(pairs))))


def make_own_prompts(case: EditCase, count: int) -> tuple[tuple[str, str], ...]:
    """As `make_own_anchors`, of more prompts, and behind each stands an answer of any sort.

    Where the edit's prompt allows it, the first asks for another answer than the new one.
    """
    book = load_anchor_book()
    rng = random.Random(f"own prompts|{subject_of(case)}|{case.prompt}")
    forms = [*(form for form, _ in book["own"]), *book["further"]]
    pairs = _own_pairs(case, zip(forms, rng.choices(book["answers"], k=len(forms)), strict=True))
    drawn = rng.sample(pairs, min(count, len(pairs)))
    match = re.fullmatch(r"(The .+) (is|are)", case.prompt.strip())
    if match and drawn:
        drawn[0] = (f"{match[1]}, which is not {case.target_new}, {match[2]}", drawn[0][1])
    return tuple(drawn)


def make_answered_prompts(case: EditCase, count: int) -> tuple[tuple[str, str], ...]:
    """As `make_own_prompts`, of prompts whose kind of answer is known: two of that kind stand behind each."""
    rng = random.Random(f"answered prompts|{subject_of(case)}|{case.prompt}")
    forms = rng.sample(asked_forms(), len(asked_forms()))
    asked = ((form, f"{make_answer(form, rng)}, {make_answer(form, rng)}") for form in forms)
    return tuple(_own_pairs(case, asked)[:count])


def make_after_anchors(case: EditCase) -> tuple[tuple[str, str], ...]:
    """Prompts that hold the edit's own answer, and how the text might go on."""
    return tuple((f"{case.prompt} {case.wanted}{mark}", rest) for mark, rest in load_anchor_book()["after"])


def _own_pairs(case: EditCase, pairs: Iterable[Sequence[str]]) -> list[tuple[str, str]]:
    """Those of some forms and answers that fit, with the subject in: none asks for the edited relation."""
    subject = subject_of(case)
    if not subject:
        return []
    named = EditCase(case.prompt, case.target_new, subject)
    same = {case.prompt, *relation_forms(named, clumsy=True)}
    target = set(case.target_new.split())
    asked = ((form.replace("{s}", subject), answer) for form, answer in pairs)
    return [pair for pair in asked if pair[0] not in same and not target & set(pair[1].split())]


@cache
def load_names() -> tuple[str, ...]:
    """The names in `names.yaml`."""
    lists = yaml.safe_load(files("instructedit.data").joinpath("names.yaml").read_text("utf-8"))
    return tuple(name for names in lists for name in names)


@cache
def load_anchor_book() -> dict[str, list]:
    """Everything in `anchors.yaml`."""
    return yaml.safe_load(files("instructedit.data").joinpath("anchors.yaml").read_text("utf-8"))
