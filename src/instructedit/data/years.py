"""Years to be corrected: a kind of edit of the project's own that no editor is trained on."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from instructedit.data.fact_table import read_source
from instructedit.types import EditCase, Probe

YEAR = "year"  # the task's name
APART = 15  # years between the old answer and the new one, at least
REPHRASES, NEIGHBOURS = 3, 3


@dataclass(frozen=True, eq=False)
class Wordings:
    """How one group of subjects is spoken of; the slots are explained in ``years.yaml``."""

    statements: tuple[str, ...]
    questions: tuple[str, ...]
    century: tuple[str, ...]
    first: tuple[str, ...]
    other: tuple[str, ...]

    @property
    def prompts(self) -> tuple[str, ...]:
        return self.statements + self.questions


@dataclass(frozen=True)
class Dated:
    """A subject with its year, and another fact of it."""

    subject: str
    year: int
    other: str
    words: Wordings


def year_corrections(seed: int = 0) -> list[EditCase]:
    """One change of the year for each subject, under the task ``year``; `seed` draws years and wordings.

    Rephrase probes are other wordings; locality the subject's other fact and the years of its like;
    portability what follows from the new year and not from the old: its century, and which of two came first.
    """
    cases = (_correct(fact, seed) for fact in load_years())
    return [replace(case, case_id=f"{YEAR}:{number}") for number, case in enumerate(cases)]


@cache
def load_years() -> tuple[Dated, ...]:
    """Everything in ``years.yaml``, group by group."""
    found: list[Dated] = []
    for group in read_source("years"):
        words = Wordings(**{name: tuple(texts) for name, texts in group.items() if name != "facts"})
        found += [Dated(subject, year, other, words) for subject, (year, other) in group["facts"].items()]
    return tuple(found)


def _correct(fact: Dated, seed: int) -> EditCase:
    rng = random.Random(f"{seed}|{YEAR}|{fact.subject}")
    alike = [other for other in load_years() if other.words is fact.words and other is not fact]
    new = replace(fact, year=rng.choice([o.year for o in alike if abs(o.year - fact.year) >= APART]))
    answer = str(new.year)
    prompt, *wordings = rng.sample(fact.words.prompts, 1 + REPHRASES)
    probes = [Probe("rephrase", _say(text, fact), (answer,), "template") for text in wordings]
    probes.append(Probe("locality", _say(rng.choice(fact.words.other), fact), (fact.other,), "own_fact"))
    for near in rng.sample([o for o in alike if o.year != new.year], NEIGHBOURS):
        asked = _say(rng.choice(near.words.prompts), near)
        probes.append(Probe("locality", asked, (str(near.year),), "neighborhood"))
    probes += _follows(new, fact.year, alike, rng)
    return EditCase(_say(prompt, fact), answer, fact.subject, str(fact.year), task=YEAR, probes=tuple(probes))


def _follows(new: Dated, old: int, alike: Sequence[Dated], rng: random.Random) -> Iterator[Probe]:
    """Questions that the new year answers otherwise than the old one did."""
    if century_of(new.year) != century_of(old):
        asked = _say(rng.choice(new.words.century), new)
        yield Probe("portability", asked, (century_of(new.year),), "one_hop")
    between = [o for o in alike if min(old, new.year) < o.year < max(old, new.year)]
    if between:
        other = rng.choice(between)
        first = min(new, other, key=lambda fact: fact.year)
        asked = _say(rng.choice(new.words.first), new, other.subject)
        yield Probe("portability", asked, (first.subject,), "one_hop")


def century_of(year: int) -> str:
    """The century of a year in words: ``century_of(1900)`` is "19th century"."""
    number = (year - 1) // 100 + 1
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10 if number > 20 else 0, "th")
    return f"{number}{ending} century"


def _say(prompt: str, fact: Dated, other: str = "") -> str:
    text = prompt.replace("{s}", fact.subject).replace("{o}", other)
    return text[:1].upper() + text[1:]
