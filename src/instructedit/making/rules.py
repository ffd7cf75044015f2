"""What a description must be before an editor is tried with it; each refusal says why."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from instructedit.types import EditCase, Kind

FEWEST_WORDS, MOST_WORDS = 2, 60
SHORTEST = 3  # letters of a name that may not be repeated: shorter ones stand in many words
NEARLY_SAME = 0.6  # share of common words from which two wordings count as one
SLOTS: dict[Kind, frozenset[str]] = {"sentiment": frozenset({"subject", "sentiment"})}


@dataclass(frozen=True)
class Refusal:
    """A description that is not used, and why."""

    text: str
    reason: str


@dataclass(frozen=True)
class Rules:
    """The rules of one kind of edit: its slots, and the records' own words, which may not be repeated."""

    kind: Kind
    words: tuple[str, ...]

    @classmethod
    def for_cases(cls, kind: Kind, cases: Sequence[EditCase]) -> "Rules":
        """The rules where the writer has seen `cases`: their prompts, subjects and answers are forbidden."""
        texts = [text for c in cases for text in (c.prompt, c.subject, c.target_new, c.ground_truth)]
        return cls(kind, tuple(dict.fromkeys(text for text in texts if len(text) >= SHORTEST)))

    @property
    def slots(self) -> frozenset[str]:
        """The names that stand in braces in every description of this kind."""
        return SLOTS.get(self.kind, frozenset())

    def refuse(self, text: str) -> str:
        """Why a description cannot be used; empty where it can."""
        words, slots = text.split(), re.findall(r"\{([^{}]*)\}", text)
        if text.endswith(":"):
            return "a heading, not a description"
        if not FEWEST_WORDS <= len(words) <= MOST_WORDS:
            return f"{len(words)} words, expected {FEWEST_WORDS} to {MOST_WORDS}"
        if not text.isprintable():
            return "holds control characters"
        if missing := sorted(self.slots - set(slots)):
            return "lacks the slot " + " and ".join(f"{{{name}}}" for name in missing)
        if set(slots) - self.slots or not text.count("{") == len(slots) == text.count("}"):
            return "has braces that nothing fills"
        repeated = next((word for word in self.words if _contains(text, word)), "")
        return f"repeats {repeated!r} from a record" if repeated else ""


def sift(
    texts: Iterable[str], rules: Rules, known: Iterable[str], most: int
) -> tuple[list[str], list[Refusal]]:
    """The usable descriptions, `most` of them at the most, and the refused ones with the reasons.

    One that is `known`, or stood there before, is a duplicate, small and capital letters and marks alike.
    """
    taken, usable, refused = {_key(text) for text in known}, [], []
    for text in texts:
        reason = rules.refuse(text)
        if not reason and _key(text) in taken:
            reason = "a duplicate"
        if not reason and len(usable) == most:
            reason = f"more than the {most} asked for"
        if reason:
            refused.append(Refusal(text, reason))
        else:
            usable.append(text)
            taken.add(_key(text))
    return usable, refused


def nearly_same(first: str, second: str) -> bool:
    """Whether two wordings share so many words that one tells little about the other being unseen."""
    mine, theirs = set(first.casefold().split()), set(second.casefold().split())
    return len(mine & theirs) >= NEARLY_SAME * len(mine | theirs)


def _key(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _contains(text: str, part: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(part.casefold())}(?!\w)", text.casefold()) is not None
