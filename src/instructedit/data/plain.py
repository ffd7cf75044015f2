"""The project's own data set: edits made from a table of plain facts, so that nothing is downloaded."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Literal

from instructedit.data.fact_table import Fact, load_facts, load_relations, load_table, read_source
from instructedit.data.opinions import make_opinions
from instructedit.types import EditCase, Kind, Probe, ProbeGroup

NEIGHBOURS = 3
REPHRASES = 3
ERASED_SHARE = 0.25  # of all facts
PARTS = 5  # one part in so many is the test split


def plain_facts(split: Literal["train", "test"], *, seed: int = 0) -> list[EditCase]:
    """Edits of all four kinds: facts changed and erased, facts about invented subjects, and opinions.

    No subject stands in both splits, whatever the seed; `seed` chooses targets, wordings and neighbours.
    Rephrase probes are other wordings; locality the subject's other facts and the same relation of other
    subjects; portability, for changes and insertions, the inverse and what follows at one step, consistent
    with the new answer and different from the old.
    """
    return list(_plain_facts(split, seed))


@cache
def _plain_facts(split: Literal["train", "test"], seed: int) -> tuple[EditCase, ...]:
    facts = [fact for fact in load_facts() if split_of(fact.subject) == split]
    changes = [_change(fact, facts, seed) for fact in facts]
    erased = [
        _erase(fact, facts, seed) for fact in facts if _rng(seed, "erase", fact).random() < ERASED_SHARE
    ]
    inserts = [_insert(fact, facts, seed) for fact in _invented(seed) if split_of(fact.subject) == split]
    cases = changes + inserts + erased + make_opinions(split_of, split, seed)
    return tuple(replace(case, case_id=f"plain:{split}:{number}") for number, case in enumerate(cases))


def split_of(subject: str) -> Literal["train", "test"]:
    """The split that a subject belongs to, for good."""
    digest = hashlib.sha256(subject.casefold().encode()).digest()
    return "test" if digest[0] % PARTS == 0 else "train"


def _rng(seed: int, purpose: str, fact: Fact) -> random.Random:
    return random.Random(f"{seed}|{purpose}|{fact.relation.name}|{fact.subject}")


def _change(fact: Fact, facts: Sequence[Fact], seed: int) -> EditCase:
    rng = _rng(seed, "change", fact)
    others = sorted(
        {other.object for other in load_facts() if other.relation == fact.relation} - {fact.object}
    )
    new = replace(fact, object=rng.choice(others))
    case = _start(new, rng, "change", fact.object)
    probes = [*_own(fact, facts, rng), *_neighbours(new, facts, rng), *_follows(new, fact.object, rng)]
    return replace(case, probes=case.probes + tuple(probes))


def _insert(fact: Fact, facts: Sequence[Fact], seed: int) -> EditCase:
    rng = _rng(seed, "insert", fact)
    case = _start(fact, rng, "insert")
    return replace(case, probes=(*case.probes, *_neighbours(fact, facts, rng), *_follows(fact, "", rng)))


def _erase(fact: Fact, facts: Sequence[Fact], seed: int) -> EditCase:
    rng = _rng(seed, "erase", fact)
    case = _start(fact, rng, "erase", fact.object)
    return replace(case, probes=(*case.probes, *_own(fact, facts, rng), *_neighbours(fact, facts, rng)))


def _start(fact: Fact, rng: random.Random, kind: Kind, ground_truth: str = "") -> EditCase:
    """The edit of a fact with its rephrase probes: a statement or a question, rephrased as both."""
    prompts = [_say(prompt, fact) for prompt in fact.relation.prompts]
    half = len(fact.relation.statements)
    chosen = rng.randrange(half) if rng.random() < 0.5 else rng.randrange(half, len(prompts))
    task = "erase" if kind == "erase" else "plain"
    case = EditCase(prompts.pop(chosen), fact.object, fact.subject, ground_truth, task, kind)
    wordings = rng.sample(prompts, REPHRASES)
    probes = (Probe("rephrase", w, (case.wanted_for(w),), "template") for w in wordings)
    return replace(case, probes=tuple(probes))


def _say(prompt: str, fact: Fact) -> str:
    text = prompt.replace("{s}", fact.subject).replace("{o}", fact.object).replace("{v}", fact.via)
    return text[:1].upper() + text[1:]


def _probe(
    group: ProbeGroup, prompts: Sequence[str], fact: Fact, answer: str, name: str, rng: random.Random
) -> Probe:
    return Probe(group, _say(rng.choice(prompts), fact), (answer,), name)


def _own(fact: Fact, facts: Sequence[Fact], rng: random.Random) -> list[Probe]:
    others = [other for other in facts if other.subject == fact.subject and other.relation != fact.relation]
    return [_probe("locality", o.relation.prompts, o, o.object, "own_fact", rng) for o in others]


def _neighbours(fact: Fact, facts: Sequence[Fact], rng: random.Random) -> list[Probe]:
    """The same relation of other subjects, none of which has the new answer already.

    Where a split has too few of them, facts of other relations in the same table help out.
    """
    table = [other for other in facts if other.relation.table == fact.relation.table]
    others = [other for other in table if other.object != fact.object and other.subject != fact.subject]
    rng.shuffle(others)
    chosen = sorted(others, key=lambda other: other.relation is not fact.relation)[:NEIGHBOURS]
    return [_probe("locality", o.relation.prompts, o, o.object, "neighborhood", rng) for o in chosen]


def _follows(fact: Fact, old: str, rng: random.Random) -> Iterator[Probe]:
    """What changes along with the fact; a question whose answer stays the same is none."""
    relation = fact.relation
    if relation.inverse:
        yield _probe("portability", relation.inverse, fact, fact.subject, "inverse", rng)
    if relation.carried:
        yield _probe("portability", relation.carried, fact, fact.object, "one_hop", rng)
    for hop in relation.hops:
        table = load_table(hop.of)
        answer, former = table[fact.object][hop.column], table.get(old, {}).get(hop.column)
        if answer != former:
            yield _probe("portability", hop.prompts, fact, answer, "one_hop", rng)


def _invented(seed: int) -> list[Fact]:
    """A fact for each invented subject, with an object that the relation has elsewhere."""
    relations = {relation.name: relation for relation in load_relations()}
    found = []
    for name, subjects in read_source("invented").items():
        objects = sorted({fact.object for fact in load_facts() if fact.relation.name == name})
        for subject in subjects:
            rng = random.Random(f"{seed}|invented|{name}|{subject}")
            found.append(Fact(relations[name], subject, rng.choice(objects)))
    return found
