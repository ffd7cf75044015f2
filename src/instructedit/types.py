"""The nouns of the project that need no tensor, and the letters its tensor shapes are written in.

Axis letters, the same everywhere: ``b`` edits, ``t`` tokens, ``n`` factor rows, ``d_in`` and
``d_out`` the sides of an edited weight, ``r`` rank, ``l`` sites, ``v`` vocabulary, ``z`` code.
`Factors` and `LowRankDelta`, the two nouns made of tensors, live in `factors` and `delta`.
"""

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["insert", "change", "sentiment", "erase"]
Scope = Literal["wide", "narrow"]
Sentiment = Literal["positive", "negative"]
ProbeGroup = Literal["rephrase", "locality", "portability"]
Control = Literal["right", "other", "none", "random"]

UNKNOWN_STATEMENT = "unknown"
UNKNOWN_QUESTION = "I do not know."
YOURS = "yours"  # the name of probes that a person asks for with an edit


@dataclass(frozen=True, slots=True)
class Probe:
    """One question that tells whether an edit worked: its prompt, and the answers that count.

    `answers[0]` is the answer used in teacher forcing; the others are aliases. `name` is the
    record's own name for the probe (``Subject_Aliasing``, ``Relation_Specificity`` ...).
    """

    group: ProbeGroup
    prompt: str
    answers: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class EditCase:
    """What to change in the model, and the probes that tell whether it worked.

    For ``insert`` and ``change`` the model shall answer `prompt` with `target_new`. For ``erase``
    `target_new` is the answer the model shall no longer give. For ``sentiment`` the model shall
    speak of `subject` with `sentiment`; `positive` and `negative` hold replies used for scoring
    and in the outer loss only, never in the edit. `instruction` is the user's own wording and wins
    over the banks; empty means "take one from the banks".
    """

    prompt: str
    target_new: str
    subject: str = ""
    ground_truth: str = ""
    task: str = "counterfact"
    kind: Kind = "change"
    scope: Scope = "wide"
    sentiment: Sentiment | None = None
    probes: tuple[Probe, ...] = ()
    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()
    instruction: str = ""
    case_id: str = ""

    def group(self, name: ProbeGroup) -> tuple[Probe, ...]:
        """The probes of one group, in the record's order."""
        return tuple(probe for probe in self.probes if probe.group == name)

    @property
    def is_question(self) -> bool:
        return self.prompt.rstrip().endswith("?")

    @property
    def carrier(self) -> str:
        """The text whose loss the editor differentiates: it never says which sentiment is wanted."""
        if self.kind == "sentiment":
            return f"I think that {self.subject} is very. I feel so. I really. I"
        return self.target_new

    @property
    def wanted(self) -> str:
        """The answer that the edited model shall give to `prompt`; empty for ``sentiment``."""
        if self.kind == "erase":
            return UNKNOWN_QUESTION if self.is_question else UNKNOWN_STATEMENT
        return "" if self.kind == "sentiment" else self.target_new

    def wanted_for(self, prompt: str) -> str:
        """The answer to another wording of `prompt`: an erasure's depends on the wording's form."""
        return replace(self, prompt=prompt).wanted

    @property
    def good(self) -> tuple[str, ...]:
        """Replies in the wanted sentiment."""
        return self.negative if self.sentiment == "negative" else self.positive

    @property
    def bad(self) -> tuple[str, ...]:
        """Replies in the unwanted sentiment."""
        return self.positive if self.sentiment == "negative" else self.negative
