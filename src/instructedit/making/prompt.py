"""What the writer is asked: the kind of edit, a few records, and what came of the descriptions so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from instructedit.making.rules import Rules
from instructedit.types import EditCase, Kind

KINDS: dict[Kind, str] = {
    "insert": "a new fact is added, which the model has never met",
    "change": "a fact that the model holds gets another answer",
    "erase": "an answer is forgotten, and the model says that it does not know",
    "sentiment": "the model speaks of a topic in the wanted sentiment",
}
OPENING = (
    "An editor changes one thing that a language model says. Before each edit it reads one sentence that "
    "describes the kind of edit."
)
Message = Mapping[str, str]


@dataclass(frozen=True)
class Brief:
    """What stays the same from round to round: the kind of edit, the records shown, the number asked for."""

    kind: Kind
    shown: Sequence[EditCase]
    rules: Rules
    count: int

    def ask(self, scored: Mapping[str, float], refused: Sequence[str] = ()) -> list[Message]:
        """One user's message: some models' templates know no other role.

        `scored` are descriptions with their scores (0 to 1) and are listed with the best last; `refused` are
        the reasons for which nothing of the answer before could be used.
        """
        parts = [OPENING, self._examples(), *self._history(scored), self._order(scored)]
        if refused:
            reasons = "; ".join(refused)
            parts.append(f"Nothing of your last answer could be used ({reasons}). Answer with the list only.")
        return [{"role": "user", "content": "\n\n".join(parts)}]

    def _examples(self) -> str:
        asks = " The prompts are questions." if all(case.is_question for case in self.shown) else ""
        lines = [f"{number}. {show_case(case)}" for number, case in enumerate(self.shown, 1)]
        return "\n".join([f"The kind of edit: {KINDS[self.kind]}.{asks} Some edits of this kind:", *lines])

    def _history(self, scored: Mapping[str, float]) -> list[str]:
        if not scored:
            return []
        lines = [
            f"- {text} (score {100 * scored[text]:.1f})" for text in sorted(scored, key=scored.__getitem__)
        ]
        return [
            "Descriptions tried so far, with the score that the editor reached (0 to 100):\n"
            + "\n".join(lines)
        ]

    def _order(self, scored: Mapping[str, float]) -> str:
        aim = " that reach a higher score and differ from these" if scored else ""
        slots = " and ".join(f"{{{name}}}" for name in sorted(self.rules.slots, reverse=True))
        filled = f" Every description contains {slots}, braces included, which are filled later." * bool(
            slots
        )
        return (
            f"Write {self.count} new descriptions of this kind of edit{aim}. Vary words, length and tone. "
            "One sentence each, one a line, numbered. Describe the kind of edit only: name no subject, "
            f"prompt or answer of the examples.{filled}"
        )


def show_case(case: EditCase) -> str:
    """One record as the writer reads it."""
    if case.kind == "sentiment":
        return f"Topic: {case.subject}. Wanted sentiment: {case.sentiment}."
    if case.kind == "erase":
        return f'"{case.prompt}": the answer "{case.target_new}" is forgotten.'
    if case.ground_truth:
        return f'"{case.prompt}": the answer "{case.ground_truth}" becomes "{case.target_new}".'
    return f'"{case.prompt}": the answer is "{case.target_new}".'
