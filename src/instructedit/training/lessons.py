"""What one step of meta-training asks of the edited model: texts to answer, and texts to leave alone."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from instructedit.data.paraphrase import asks_the_same, make_varied_rephrases, relation_forms
from instructedit.instructions import instruction_for, render
from instructedit.types import EditCase, Probe

Role = Literal["fit", "keep", "good", "bad"]
ALIAS = "Subject_Aliasing"  # the same statement under another name of its subject: fitted in wide scope only
AFTER = ". The"  # only the predictions count, and they are the unedited model's
FACT_KINDS = ("insert", "change")
CONTEXTS = 400  # ordinary texts that lend their first words as unrelated context


@dataclass(frozen=True, slots=True)
class Item:
    """One outer text: the answer is fitted, kept as the unedited model has it, or a good or bad reply."""

    role: Role
    slot: str  # bare, instructed, rephrase, portability, own, other, text, reply
    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Lesson:
    """One edit under one instruction, with the texts that judge it."""

    case: EditCase
    instruction: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class LessonConfig:
    """How many texts of each sort a lesson holds; the shares are probabilities."""

    rephrases: int = 3
    portability: int = 1
    own: int = 2
    rephrase_pool: int = 5  # different rewordings of one edit: each is a text to compute
    others: int = 1
    same: float = 0.5  # share of the others that ask the same of another subject
    replies: int = 2  # pairs of a good and a bad reply
    reply_pool: int = 6  # replies of a topic and sentiment that are used: each is a text to compute
    pairs: float = 0.5  # cases with two instructions worth telling apart are taught under both, side by side
    instructed: float = 0.3
    after: float = 0.5  # what comes after the answer stays as it is: an edited model stops where it should
    instruct: bool = True  # False: no instruction anywhere (the control)
    null: float = 0.1  # the instruction is left out
    narrow: float = 0.35  # facts with consequences are taught under a narrow instruction
    erase: float = 0.06  # facts with a known old answer are turned into its erasure
    wordings: int = 400  # different draws from the instruction banks
    text_wordings: int = 2  # different instructions in front of one prompt: each is a text of its own


class LessonMaker:
    """Draws lessons; the same seed and step give the same lessons, whatever was drawn before."""

    def __init__(self, cases: Sequence[EditCase], ordinary: Sequence[Probe], config: LessonConfig) -> None:
        self.cases, self.ordinary, self.config = cases, ordinary, config
        self.relations: dict[str, list[EditCase]] = {}
        for case in cases:
            if case.kind != "sentiment":
                self.relations.setdefault(relation(case), []).append(case)
        self.facts = [case for case in cases if case.kind != "sentiment"]
        self.contexts = [context for context in map(_context, ordinary[:CONTEXTS]) if context]

    def make(self, case: EditCase, rng: random.Random, turn: bool | None = None) -> Lesson:
        """One lesson about `case`; its scope, wording and texts are drawn from `rng`.

        `turn` decides what is drawn otherwise: whether the scope is narrow, or the sentiment negative.
        """
        config = self.config
        draws = [rng.random() for _ in range(3)]
        if case.kind == "change" and case.ground_truth and draws[0] < config.erase:
            case = replace(case, kind="erase", task="erase", target_new=case.ground_truth)
        if case.kind == "sentiment":
            negative = draws[1] < 0.5 if turn is None else turn
            case = replace(case, sentiment="negative" if negative else "positive")
        narrow = draws[1] < config.narrow if turn is None else turn
        silent = case.kind in FACT_KINDS and not narrow and draws[2] < config.null
        case = replace(case, scope="narrow" if narrow and self.has_consequences(case) else "wide")
        seed = rng.randrange(config.wordings)
        words = instruction_for(case, seed=seed) if config.instruct and not silent else ""
        items = self._reply_items(case, rng) if case.kind == "sentiment" else self._fact_items(case, rng)
        return Lesson(case, words, tuple(items))

    def make_pair(self, case: EditCase, rng: random.Random) -> list[Lesson]:
        """The same request under two instructions: wide and narrow, or positive and negative."""
        seed = rng.random()
        return [self.make(case, random.Random(seed), turn) for turn in (False, True)]

    def reworded(self, case: EditCase) -> str:
        """One other form of a case's prompt, always the same."""
        forms = relation_forms(case, clumsy=True)
        return random.Random(case.prompt).choice(forms) if forms else case.prompt

    def has_consequences(self, case: EditCase) -> bool:
        """Whether the record asks for what follows from the edit."""
        return bool(self._consequences(case))

    def _fact_items(self, case: EditCase, rng: random.Random) -> list[Item]:
        config = self.config
        follows = self._portability(case, rng)  # drawn first: both sides of a pair ask the same of it
        items = [Item("fit", "bare", case.prompt, case.wanted)]
        if config.instruct and rng.random() < config.instructed:
            words = instruction_for(case, seed=rng.randrange(config.text_wordings))
            items.append(Item("fit", "instructed", render(words, case.prompt, case.task), case.wanted))
        items += [Item("fit", "rephrase", p, case.wanted_for(p)) for p in self._rephrases(case, rng)]
        if rng.random() < config.after:
            items.append(Item("keep", "after", f"{case.prompt} {case.wanted}", AFTER))
        items += follows
        own = [
            probe
            for probe in case.group("locality")
            if probe.answers and (case.kind != "erase" or case.target_new not in probe.answers)
        ]
        items += [Item("keep", "own", p.prompt, p.answers[0]) for p in _draw(own, config.own, rng)]
        missing = config.own - min(len(own), config.own)
        return items + self._others(case, rng, config.others + missing)

    def _rephrases(self, case: EditCase, rng: random.Random) -> list[str]:
        """Of the record's own, aliases among them, a third at most; the others by templates."""
        own = [probe.prompt for probe in case.group("rephrase") if asks_the_same(case, probe.prompt)]
        aliases = [probe.prompt for probe in case.group("portability") if probe.name == ALIAS]
        if case.kind in FACT_KINDS:
            own = [p for p in own if p not in aliases] + (aliases if case.scope == "wide" else [])
        count = self.config.rephrases
        chosen = _draw(own, (count + 1) // 3, rng)
        made = make_varied_rephrases(case, 0, self.config.rephrase_pool, self.contexts)
        return chosen + _draw(made, count - len(chosen), rng)

    def _consequences(self, case: EditCase) -> tuple[Probe, ...]:
        """What only a wide instruction includes: facts that follow, and other names of the subject."""
        return tuple(p for p in case.group("portability") if p.answers) if case.kind in FACT_KINDS else ()

    def _portability(self, case: EditCase, rng: random.Random) -> list[Item]:
        """What follows from the edit: fitted under a wide instruction, kept under a narrow one."""
        role: Role = "fit" if case.scope == "wide" else "keep"
        probes = self._consequences(case)
        aliases, facts = ([p for p in probes if (p.name == ALIAS) == same] for same in (True, False))
        chosen = _draw(rng.choice([aliases or facts, facts or aliases]), self.config.portability, rng)
        return [Item(role, f"portability-{case.scope}", p.prompt, p.answers[0]) for p in chosen]

    def _others(self, case: EditCase, rng: random.Random, count: int) -> list[Item]:
        """Prompts the edit has nothing to do with: same relation, any other case, ordinary text."""
        items = []
        for _ in range(count):
            draw = rng.random()
            same = self.relations.get(relation(case), [])
            if draw < self.config.same and len(same) > 1:
                other = rng.choice(same)
            elif draw < self.config.same + 0.15 or not self.ordinary:
                other = rng.choice(self.facts) if self.facts else case
            else:
                probe = rng.choice(self.ordinary)
                items.append(Item("keep", "text", probe.prompt, probe.answers[0]))
                continue
            if other.subject != case.subject:
                prompt = other.prompt if rng.random() < 0.5 else self.reworded(other)
                items.append(Item("keep", "other", prompt, other.ground_truth or other.target_new))
        return items

    def _reply_items(self, case: EditCase, rng: random.Random) -> list[Item]:
        config = self.config
        prompts = [case.prompt, *(probe.prompt for probe in case.group("rephrase"))]
        items = []
        for good, bad in zip(
            _draw(case.good, config.replies, rng), _draw(case.bad, config.replies, rng), strict=False
        ):
            prompt = rng.choice(prompts) if rng.random() < 0.6 else case.prompt
            items += [Item("good", "reply", prompt, good), Item("bad", "reply", prompt, bad)]
        own = [probe for probe in case.group("locality") if probe.answers]
        items += [Item("keep", "own", p.prompt, p.answers[0]) for p in _draw(own, config.own, rng)]
        return items + self._others(case, rng, config.others)


def relation(case: EditCase) -> str:
    """The prompt with its subject cut out: cases that share it ask the same of other subjects."""
    return case.prompt.replace(case.subject, "{}") if case.subject else case.prompt


def _context(probe: Probe) -> str:
    """The first words of a passage as a sentence; nothing of a question or a short text."""
    words = probe.prompt.split()
    return " ".join(words[:9]).rstrip(",;:.") + "." if len(words) > 12 else ""


def _draw(values: Sequence, count: int, rng: random.Random) -> list:
    return rng.sample(list(values), min(count, len(values)))
