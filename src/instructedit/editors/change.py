"""What an editor hands back: something that lets a model answer as edited for a while."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Int
from torch import Tensor


@runtime_checkable
class Change(Protocol):
    """The edits of some cases side by side, such as a `LowRankDelta`; nothing is written into the model."""

    def applied_to(
        self, model: Any, rows: Int[Tensor, " rows"] | None = None
    ) -> AbstractContextManager[None]:
        """Let the model answer as edited; `rows[i]` is the edit that row i of a batch is asked under.

        Without `rows` a batch holds equally many rows for each edit, in the edits' order.
        """
        ...


@runtime_checkable
class Rewording(Change, Protocol):
    """A change that acts, at least in part, through the words that the edited model is asked."""

    def reword(self, prompt: str, edit: int) -> str:
        """A prompt as it is asked under one of the edits."""
        ...


@runtime_checkable
class Merging(Change, Protocol):
    """A change whose edits can be in force together."""

    def merge(self) -> "Change":
        """One change that holds all the edits."""
        ...


def reword_prompts(change: Change, prompts: Sequence[str], edits: Sequence[int]) -> list[str]:
    """The prompts as the edited model is asked them, `prompts[i]` under row `edits[i]` of a change."""
    if not isinstance(change, Rewording):
        return list(prompts)
    return [change.reword(prompt, edit) for prompt, edit in zip(prompts, edits, strict=True)]
