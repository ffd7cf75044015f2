"""Other wordings of a prompt, made by templates, for records that come without paraphrases."""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files

import yaml

from instructedit.types import EditCase

ROLE = r"(?P<role>[A-Za-z][A-Za-z' -]{1,40}?)"
_NOUN_PHRASE = re.compile(r"The (?:names? of the )?(?P<np>.+) (?:is|are)")
_ASKS = re.compile(r"(?:(?:In|On|At|By|To|For|From|Of) )?(?:What|Which|Who|Whose|Whom|Where|When|How)\b")
SMALL_FIRST = ("The", "In", "A", "An", "On", "By", "As", "After", "What", "Which", "Who", "Where", "When")


@dataclass(frozen=True)
class Family:
    """Prompts that ask for the same answer: those recognised, and those also written."""

    patterns: tuple[re.Pattern[str], ...]
    forms: tuple[str, ...]
    roles: frozenset[str]
    also: tuple[str, ...] = ()  # clumsy or unfinished forms: recognised, and written on demand

    def forms_of(self, template: str, *, clumsy: bool = False) -> tuple[str, ...]:
        """The forms with the role of `template` filled in, or nothing where it is not of this family."""
        for pattern in self.patterns:
            match = pattern.fullmatch(template)
            role = match.groupdict().get("role", "") if match else ""
            if match and (not self.roles or role.casefold() in self.roles):
                forms = self.forms + self.also if clumsy else self.forms
                return tuple(form.replace("{r}", role) for form in forms)
        return ()


@dataclass(frozen=True)
class Phrasebook:
    """Everything in `paraphrases.yaml`."""

    families: tuple[Family, ...]
    question_frames: tuple[str, ...]
    statement_frames: tuple[str, ...]
    contexts: tuple[str, ...]
    loose: tuple[str, ...]
    endings: tuple[str, ...]
    signs: tuple[str, ...]
    questions: tuple[str, ...]


def make_rephrases(case: EditCase, seed: int, n: int) -> tuple[str, ...]:
    """Up to `n` different prompts, none the edit's own, that ask for the same answer.

    Forms of the relation come first, then by turns prompts with a sentence of unrelated context in front and
    prompts in a frame ("Question: ... Answer:"). The words depend on edit and `seed` only, and fewer than `n`
    are the first of more. Of an erasure a question stays a question and a statement a statement, because the
    wanted answer differs between the two.
    """
    rng = random.Random(f"{seed}|{case.subject}|{case.prompt}")
    found: dict[str, None] = {}
    for prompt in _candidates(case, rng):
        if len(found) >= n:
            break
        if case.kind != "erase" or prompt.endswith("?") == case.is_question:
            found[prompt] = None
    return tuple(found)


def make_loose_rephrases(case: EditCase, seed: int, n: int) -> tuple[str, ...]:
    """Up to `n` loose wordings of a prompt "The ... is": rewordings that mention what is asked for.

    Half come from the frames for any such prompt, half are forms of its relation with another ending.
    Other prompts give none. The words depend on edit and `seed` only.
    """
    match = _noun_phrase(case)
    if not match or case.kind == "erase":
        return ()
    rng = random.Random(f"{seed}|loose|{case.subject}|{case.prompt}")
    book = load_phrasebook()
    frames = rng.sample(book.loose, min(n, len(book.loose)))
    found = [frame.replace("{np}", match["np"]) for frame in frames]
    statements = [form for form in relation_forms(case) if not form.endswith("?")]
    for place in range(0, n, 2):
        if statements and place < len(found):
            found[place] = rng.choice(statements) + rng.choice(book.endings)
    return tuple(dict.fromkeys(found))


def make_varied_rephrases(case: EditCase, seed: int, n: int, contexts: Sequence[str] = ()) -> tuple[str, ...]:
    """Up to `n` rewordings as training wants them: every form of the relation, clumsy ones among them.

    Every other one stands behind a sentence of unrelated context, from `contexts` or the package's own;
    of a prompt "The ... is" every other one is a loose wording. The words depend on edit and `seed` only.
    """
    rng = random.Random(f"{seed}|varied|{case.subject}|{case.prompt}")
    if case.kind == "erase":
        return make_rephrases(case, seed, n)
    forms = list(relation_forms(case, clumsy=True)) or [case.prompt.strip()]
    rng.shuffle(forms)
    loose = list(make_loose_rephrases(case, seed, n))
    sentences = contexts or load_phrasebook().contexts
    found = []
    for place in range(n):
        form = loose.pop() if loose and place % 2 else forms[place % len(forms)]
        plain = form != case.prompt.strip() and (loose or rng.random() < 0.5)
        found.append(form if plain else f"{rng.choice(sentences)} {form}")
    return tuple(dict.fromkeys(found))


def names_its_answer(case: EditCase) -> bool:
    """Whether a prompt says what is asked for, as questions do and "The ... is"; "X is based in" does not."""
    return standard(case.prompt).endswith("?") or bool(_noun_phrase(case))


def _noun_phrase(case: EditCase) -> re.Match[str] | None:
    """A prompt "The ... is", with what it asks for as the group `np`; None for any other."""
    return _NOUN_PHRASE.fullmatch(case.prompt.strip()) or _NOUN_PHRASE.fullmatch(standard(case.prompt))


def make_signed_rephrases(case: EditCase, seed: int, n: int) -> tuple[str, ...]:
    """Up to `n` wordings of a prompt "The ... is" with a sign where the answer is due, such as "… is:".

    The prompt itself is the first. Others give none, and questions are left out: they end in a sign. The
    words depend on edit and `seed` only.
    """
    if not _noun_phrase(case):
        return ()
    rng = random.Random(f"{seed}|signs|{case.subject}|{case.prompt}")
    bare = [prompt for prompt in (case.prompt, *make_rephrases(case, seed, n)) if not prompt.endswith("?")]
    return tuple(f"{prompt}{rng.choice(load_phrasebook().signs)}" for prompt in bare[:n])


def make_questions(case: EditCase, seed: int, n: int) -> tuple[str, ...]:
    """Up to `n` questions for the answer: those among the forms of the relation, then plain ones.

    Of an erasure a statement stays a statement. The words depend on edit and `seed` only.
    """
    if case.kind == "erase" and not case.is_question:
        return ()
    rng = random.Random(f"{seed}|questions|{case.subject}|{case.prompt}")
    forms = [form for form in relation_forms(case, clumsy=True) if form.endswith("?")]
    match = _noun_phrase(case)
    plain = [frame.replace("{np}", match["np"]) for frame in load_phrasebook().questions] if match else []
    rng.shuffle(forms)
    return tuple(dict.fromkeys((*forms, *plain)))[:n]


def asks_the_same(case: EditCase, prompt: str) -> bool:
    """Whether a prompt ends in a known form of the edit's relation, or that cannot be told.

    Collections of edits hold "paraphrases" that only continue a text about the subject. Nothing can
    be told of a relation without known forms, or of a prompt that has the subject under another name.
    """
    forms = relation_forms(case, clumsy=True)
    if not forms or case.subject not in prompt:
        return True
    return prompt.strip().endswith((*forms, case.prompt.strip()))


def relation_forms(case: EditCase, *, clumsy: bool = False) -> tuple[str, ...]:
    """The other forms of the prompt's relation; empty where no family of templates knows it."""
    template = template_of(case)
    family = family_of(template)
    forms = family.forms_of(template, clumsy=clumsy) if family else ()
    written = (form.replace("{s}", case.subject) for form in forms)
    return tuple(form for form in written if form != case.prompt.strip())


def template_of(case: EditCase) -> str:
    """The prompt with {s} for its subject, in its `standard` spelling where only that is known to a family.

    Empty where the prompt does not name the subject.
    """
    if not case.subject or case.subject not in case.prompt:
        return ""
    template = case.prompt.strip().replace(case.subject, "{s}")
    other = standard(template)
    return other if not family_of(template) and family_of(other) else template


def standard(prompt: str) -> str:
    """A prompt as templates spell it: a capital first, single spaces, "What is" and a question's mark.

    Signs at the end are left out: "the capital of France is:" is "The capital of France is".
    """
    text = re.sub(r"[\s:,–—-]+$", "", " ".join(prompt.split()))
    text = re.sub(r"^(what|who|where|when)['’]s ", r"\1 is ", text, flags=re.IGNORECASE)
    text = text[:1].upper() + text[1:]
    return f"{text}?" if _ASKS.match(text) and not text.endswith("?") else text


@lru_cache(maxsize=10_000)  # the same few are asked for all through an edit, and through a training
def family_of(template: str) -> Family | None:
    """The first family that knows a prompt, {s} being its subject; None where none does."""
    return next((family for family in load_phrasebook().families if family.forms_of(template)), None)


def _candidates(case: EditCase, rng: random.Random) -> Iterator[str]:
    book = load_phrasebook()
    forms = list(relation_forms(case))
    rng.shuffle(forms)
    half = (len(forms) + 1) // 2
    yield from forms[:half]
    bases = [case.prompt.strip(), *forms]
    contexts, frames = list(book.contexts), list(range(len(book.contexts)))
    rng.shuffle(contexts)
    rng.shuffle(frames)
    for context, number in zip(contexts, frames, strict=True):
        yield f"{context} {rng.choice(bases)}"
        yield _framed(rng.choice(bases), number, book)
        yield from forms[half : half + 1]
        half += 1


def _framed(prompt: str, number: int, book: Phrasebook) -> str:
    if prompt.endswith("?"):
        return book.question_frames[number % len(book.question_frames)].replace("{q}", prompt)
    first, _, rest = prompt.partition(" ")
    small = f"{first.lower()} {rest}" if first in SMALL_FIRST else prompt
    return book.statement_frames[number % len(book.statement_frames)].replace("{p}", small)


@cache
def load_phrasebook() -> Phrasebook:
    """The families, frames and contexts of the package."""
    source = yaml.safe_load(files("instructedit.data").joinpath("paraphrases.yaml").read_text("utf-8"))
    families = tuple(
        Family(
            tuple(_as_pattern(form) for form in [*entry["forms"], *entry.get("also", ())]),
            tuple(entry["forms"]),
            frozenset(entry.get("roles", ())),
            tuple(entry.get("also", ())),
        )
        for entry in source["families"]
    )
    return Phrasebook(
        families,
        tuple(source["question_frames"]),
        tuple(source["statement_frames"]),
        tuple(source["contexts"]),
        tuple(source["loose"]),
        tuple(source["endings"]),
        tuple(source["signs"]),
        tuple(source["questions"]),
    )


def _as_pattern(form: str) -> re.Pattern[str]:
    return re.compile(re.escape(form).replace(re.escape("{r}"), ROLE, 1))
