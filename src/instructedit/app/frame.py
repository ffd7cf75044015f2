"""What the tabs of the page share: the session, how errors are shown, and how work is told of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from instructedit.app.checking import Guard
from instructedit.app.functions import Functions

PRIVATE: dict[str, Any] = {"api_visibility": "private"}  # programs have functions of their own
PROGRESS = gr.Progress()
Edits = list[dict[str, Any]]
Followers = tuple[list[Any], Callable[[Edits], list[Any]]]  # components, and their values after each change


@dataclass
class Frame:
    """The functions and the head of the page; whoever changes edits adds the event to `changes`.

    `chosen` is the event of another editor: what was said or made under the one before is not shown on.
    """

    functions: Functions
    guard: Guard
    token: Any
    facts: Any
    editor: Any
    by: Any
    chosen: Any
    changes: list[Any] = field(default_factory=list)

    def cancel(self, token: str) -> None:
        """Stop the session's work."""
        with self.guard():
            self.functions.desk.cancel(token)


def teller(progress: Any) -> Callable[[float, str], None]:
    """Let gradio show how far a piece of work is."""
    return lambda share, what: progress(share, desc=what)


def follow_nothing(_edits: Edits) -> list[Any]:
    """For tabs that show no list of edits."""
    return []
