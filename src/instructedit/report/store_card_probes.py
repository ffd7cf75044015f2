"""What a store's edits are asked for its report card: the records' probes, made ones where there are none."""

import random
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from instructedit.data import make_rephrases
from instructedit.data.anchors import make_other_anchors, make_own_anchors
from instructedit.data.fact_table import Fact, Relation, load_facts, load_relations
from instructedit.data.paraphrase import load_phrasebook, relation_forms
from instructedit.data.subjects import subject_of
from instructedit.ledger.entries import place_of, plain_prompt
from instructedit.types import EditCase, Probe

SAME, OWN, ORDINARY = "same_relation", "own_facts", "ordinary"
SORTS = (SAME, OWN, ORDINARY)  # of what an edit shall leave alone; the name of its probes


def probe_cases(cases: Sequence[EditCase], count: int, seed: int = 0) -> list[EditCase]:
    """The same edits with up to `count` probes of each sort, those of locality named by one of `SORTS`.

    A record's own probes come first. Without any of a sort, wordings are made by templates, neighbours from
    the project's facts or, of a relation or subject that they do not have, by templates without an answer.
    What asks for another edit of the list is left out: that shall move. So is what follows from an edit that
    shall not carry over.
    """
    asked = {place for case in cases for place in places(case)}
    return [replace(case, probes=tuple(_choose(case, count, asked, seed))) for case in cases]


def places(case: EditCase) -> set[str]:
    """What an edit changes: its `place_of`, and the prompt, the record's wordings, the relation's forms."""
    named = replace(case, subject=subject_of(case))
    prompts = [case.prompt, *relation_forms(named, clumsy=True), *(p.prompt for p in case.group("rephrase"))]
    found = _find_relation(case)
    prompts += [_say(form, named.subject) for form in (found[0].prompts if found else ())]
    return {place_of(case), *map(plain_prompt, prompts)}


def ordinary_cases(passages: Iterable[Probe] = ()) -> list[EditCase]:
    """One case a passage, with the passage as its only probe: the package's own sentences and those given."""
    halves = [_halve(sentence) for sentence in load_phrasebook().contexts]
    probes = [replace(probe, group="locality", name=ORDINARY) for probe in (*halves, *passages)]
    return [EditCase(probe.prompt, "", probes=(probe,)) for probe in probes]


def _halve(sentence: str) -> Probe:
    words = sentence.split()
    return Probe("locality", " ".join(words[: len(words) // 2]), (" ".join(words[len(words) // 2 :]),))


def _choose(case: EditCase, count: int, asked: Collection[str], seed: int) -> list[Probe]:
    wordings = case.group("rephrase")[:count] or [
        Probe("rephrase", text, (replace(case, prompt=text).wanted,), "made")
        for text in make_rephrases(case, seed, count)
    ]
    follows = case.group("portability")[:count] if case.scope == "wide" else ()
    sorts: dict[str, list[Probe]] = {sort: [] for sort in SORTS}
    for probe in case.group("locality"):
        sorts[sort_of(case, probe)].append(probe)
    for sort, make in ((SAME, _other_subjects), (OWN, _own_facts)):
        sorts[sort] = sorts[sort] or make(case, count)
    near = [
        replace(probe, name=sort)
        for sort, found in sorts.items()
        for probe in [p for p in found if plain_prompt(p.prompt) not in asked][:count]
    ]
    return [*wordings, *follows, *near]


def sort_of(case: EditCase, probe: Probe) -> str:
    """Which of `SORTS` a record's locality probe belongs to.

    One that names the subject asks for another of its facts. One in a known form of the edit's relation, or
    with the edit's old answer, asks the same of another subject. Any other has nothing to do with the edit.
    """
    subject = subject_of(case)
    if subject and subject.casefold() in probe.prompt.casefold():
        return OWN
    named = replace(case, subject=subject)
    forms = [form for form in (case.prompt.strip(), *relation_forms(named, clumsy=True)) if subject in form]
    patterns = [re.escape(form).replace(re.escape(subject), ".+") for form in forms if subject]
    same = any(re.fullmatch(pattern, probe.prompt.strip(), re.IGNORECASE) for pattern in patterns)
    old = bool(case.ground_truth) and case.ground_truth in probe.answers
    return SAME if same or old else ORDINARY


def _other_subjects(case: EditCase, count: int) -> list[Probe]:
    """The same question about others: facts where the relation is known, else `count` known names."""
    found = _find_relation(case)
    if found is None:
        return [Probe("locality", prompt, ()) for prompt in make_other_anchors(case, [case.prompt], count)]
    relation, form = found
    others = [fact for fact in load_facts() if fact.relation is relation and fact.subject not in case.prompt]
    others = [fact for fact in others if fact.object != case.target_new]
    random.Random(f"store card|{case.prompt}").shuffle(others)
    return [_ask(form, fact) for fact in others]


def _own_facts(case: EditCase, count: int) -> list[Probe]:
    """What else is asked of the subject: its facts, else `count` questions that any answer fits."""
    found = _find_relation(case)
    relation = found[0] if found else None
    facts = [fact for fact in load_facts() if fact.subject == subject_of(case)]
    probes = [_ask(fact.relation.statements[0], fact) for fact in facts if fact.relation is not relation]
    return probes or [Probe("locality", prompt, ()) for prompt, _ in make_own_anchors(case, count)]


def _find_relation(case: EditCase) -> tuple[Relation, str] | None:
    """The relation of the project's facts that a prompt asks for, and the form in which it does."""
    subject = subject_of(case)
    if not subject:
        return None
    for relation in load_relations():
        for form in relation.prompts:
            if _say(form, subject) == case.prompt.strip():
                return relation, form
    return None


def _ask(form: str, fact: Fact) -> Probe:
    return Probe("locality", _say(form, fact.subject), (fact.object,))


def _say(form: str, subject: str) -> str:
    text = form.replace("{s}", subject)
    return text[:1].upper() + text[1:]
