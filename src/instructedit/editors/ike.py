"""IKE: the new fact and a few worked examples in front of the question; the model stays as it is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from jaxtyping import Int
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.data import plain_facts
from instructedit.editors.registry import Result
from instructedit.types import EditCase

# Of eight demonstrations one copies, three update and four retain; the last stands next to the question.
ROTA = ("retain", "update", "retain", "copy", "retain", "update", "retain", "update")


@dataclass(frozen=True)
class Context:
    """Edits that are words: `openings[i]` stands in front of whatever is asked under edit i."""

    openings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.openings)

    @contextmanager
    def applied_to(self, model: Any, rows: Int[Tensor, " rows"] | None = None) -> Iterator[None]:
        """Nothing happens to the model: the edit is in the words that it is asked."""
        yield

    def reword(self, prompt: str, edit: int) -> str:
        """A prompt behind the opening of an edit."""
        return self.openings[edit] + prompt


@dataclass(frozen=True)
class IKE:
    """In-context editing with demonstrations from the project's own facts.

    Each demonstration is a new fact and a question: one that repeats the fact (copy), one that asks for it
    in other words (update), or one that has nothing to do with it (retain), in the proportion 1:3:4; those
    whose fact is most like the edit's stand last, as in the paper. Likeness is the cosine of the
    prompts' words here, in the place of a sentence encoder. An edit of a sentiment has no answer: its
    new fact is its instruction, and without one the prompt stays as it is. With no demonstrations, which is
    what `experiments/settings` chose for the default model, it is plain prompting with the new fact.
    """

    name: ClassVar[str] = "ike"
    paper: ClassVar[str] = "Zheng et al. 2023, arXiv 2305.12740"
    result: ClassVar[Result] = "context"
    depth: ClassVar[float | None] = None

    demonstrations: int = 8  # the paper has 32, in the same proportion: four times the time

    def edit(
        self, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str] | None = None
    ) -> Context:
        """One opening a case; the model is not looked at."""
        words = instructions or [case.instruction for case in cases]
        return Context(tuple(self._open(case, told) for case, told in zip(cases, words, strict=True)))

    def _open(self, case: EditCase, instruction: str) -> str:
        fact = f"{case.prompt} {case.wanted}" if case.wanted else instruction
        if not fact:
            return ""
        chosen = nearest_facts(case, self.demonstrations)
        shown = [show(fact, ROTA[(place - len(chosen)) % len(ROTA)]) for place, fact in enumerate(chosen)]
        return "".join((*shown, f"New Fact: {fact}\nPrompt: "))


def show(case: EditCase, kind: str) -> str:
    """One demonstration: a new fact, and a question with the answer that it gets beside the fact."""
    prompt, answer = case.prompt, case.wanted
    if kind != "copy":
        probe = case.group("rephrase" if kind == "update" else "locality")[0]
        prompt, answer = probe.prompt, probe.answers[0]
    return f"New Fact: {case.prompt} {case.wanted}\nPrompt: {prompt} {answer}\n\n"


def nearest_facts(case: EditCase, count: int) -> list[EditCase]:
    """The facts whose prompts share most words with the edit's, the nearest last; none of its own subject."""
    own = words_of(case.prompt)
    others = [
        (len(own & words) / max(1, len(own) * len(words)) ** 0.5, fact)
        for fact, words in demonstration_facts()
        if fact.subject.casefold() not in case.prompt.casefold()
    ]
    return [fact for _, fact in sorted(others, key=lambda pair: pair[0])[max(0, len(others) - count) :]]


@cache
def demonstration_facts() -> tuple[tuple[EditCase, frozenset[str]], ...]:
    """The training half of the project's own facts that can be shown in all three ways, with their words."""
    facts = [case for case in plain_facts("train") if case.kind in ("insert", "change")]
    whole = [case for case in facts if case.group("rephrase") and case.group("locality")]
    return tuple((case, words_of(case.prompt)) for case in whole)


def words_of(text: str) -> frozenset[str]:
    """The different words of a text, in small letters and without marks."""
    return frozenset(word.strip(".,?!'\"").casefold() for word in text.split())
