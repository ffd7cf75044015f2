"""The functions as they are called by HTTP and by MCP: a session's token first, plain JSON in and out."""

from collections.abc import Callable
from typing import Any, cast

from instructedit.app.chat import Style, Turn
from instructedit.app.checking import Guard, check_arguments
from instructedit.app.functions import Functions
from instructedit.app.request import Form
from instructedit.errors import DataError


def make_api(functions: Functions, guard: Guard) -> list[Callable[..., Any]]:
    """All functions that are offered; their names, types and docstrings are what callers see."""
    parts = (_session_functions, _model_functions, _edit_functions, _record_functions)
    return [check_arguments(function, guard) for part in parts for function in part(functions)]


def _session_functions(functions: Functions) -> list[Callable[..., Any]]:
    def open_session() -> str:
        """Begin a session: the token that every other function wants. Whoever knows it sees its edits."""
        return functions.desk.open()

    def facts(session: str) -> dict:
        """Say which model and editor a session uses, and how many edits are in force.

        Args:
            session: The token that open_session gave.
        """
        return functions.facts(session)

    def choose_editor(session: str, editor: str) -> dict:
        """Go on with another of the editors that facts lists; the edits under each are kept apart.

        Args:
            session: The token that open_session gave.
            editor: Name of the editor.
        """
        return functions.choose(session, editor)

    def cancel(session: str) -> bool:
        """Stop what a session is doing at the moment. False when it does nothing.

        Args:
            session: The token that open_session gave.
        """
        return functions.desk.cancel(session)

    return [open_session, facts, choose_editor, cancel]


def _model_functions(functions: Functions) -> list[Callable[..., Any]]:
    def ask(session: str, prompt: str, target: str = "") -> dict:
        """Ask the base model and the edited one the same; every token of the answers with its probability.

        Args:
            session: The token that open_session gave.
            prompt: A question, or the beginning of a statement.
            target: An answer whose probability is wanted as well.
        """
        return functions.ask(session, prompt, target)

    def chat(
        session: str,
        message: str,
        turns: list[list[str]] | None = None,
        style: str = "text",
        tokens: int = 48,
    ) -> dict:
        """Let the base model and the edited one reply to a message.

        Args:
            session: The token that open_session gave.
            message: What is said.
            turns: What was said before: [message, reply of the base model, reply of the edited one], each.
            style: text continues the message as it stands; chat uses the model's own form of a conversation.
            tokens: Length of a reply at the most.
        """
        return functions.chat(session, message, read_turns(turns), cast(Style, style), tokens)

    def picture(session: str, edit: str) -> str:
        """Draw, as SVG, where an edit's gradient points among those of edits of every kind.

        Args:
            session: The token that open_session gave.
            edit: Id of the edit.
        """
        return functions.picture(session, edit)

    return [ask, chat, picture]


def _edit_functions(functions: Functions) -> list[Callable[..., Any]]:
    def edit(
        session: str,
        prompt: str,
        target: str = "",
        instruction: str = "",
        kind: str = "change",
        scope: str = "wide",
        subject: str = "",
        sentiment: str = "",
        wordings: list[str] | None = None,
        neighbours: list[str] | None = None,
        replace: bool = False,
        by: str = "",
    ) -> dict:
        """Change what the model answers to a prompt, and say what else moved.

        Args:
            session: The token that open_session gave.
            prompt: A question, or the beginning of a statement.
            target: What the model shall answer; for the kind erase, what it no longer shall.
            instruction: What to do, in your own words; empty: one is made.
            kind: change, insert, erase or sentiment.
            scope: wide: what follows from it changes as well; narrow: this statement only.
            subject: What the edit is about; guessed where it is empty, needed for a sentiment.
            sentiment: positive or negative, for the kind sentiment.
            wordings: Other wordings of the prompt, asked before and after; empty: some are made.
            neighbours: Prompts whose answers shall stay, asked before and after; empty: some are found.
            replace: Let this edit replace one that contradicts it.
            by: Who asks for it.
        """
        form = Form(
            prompt, target, instruction, kind, scope, subject, sentiment, wordings or [], neighbours or []
        )
        return functions.edit(session, form, replace, by)

    def import_edits(session: str, content: str, replace: bool = False, by: str = "") -> dict:
        """Make all edits of a file, or none.

        Args:
            session: The token that open_session gave.
            content: The file's text: one JSON object a line, with prompt and target_new.
            replace: Let an edit replace one that contradicts it.
            by: Who asks for it.
        """
        return functions.upload(session, "content.jsonl", content, None, replace, by)

    return [edit, import_edits]


def _record_functions(functions: Functions) -> list[Callable[..., Any]]:
    def list_edits(session: str) -> list[dict]:
        """List every edit that was made, in order, with what became of it.

        Args:
            session: The token that open_session gave.
        """
        return functions.edits(session)

    def look(session: str, edits: list[str]) -> list[dict]:
        """Ask the questions of some edits again, of the base model and of the one with all edits in force.

        Args:
            session: The token that open_session gave.
            edits: Ids of the edits, 50 at the most.
        """
        return functions.look(session, edits)

    def undo(session: str, edits: list[str], by: str = "") -> list[str]:
        """Take edits back, as if they had never been made.

        Args:
            session: The token that open_session gave.
            edits: Ids of the edits.
            by: Who asks for it.
        """
        return functions.undo(session, edits, by)

    def redo(session: str, edit: str, replace: bool = False, by: str = "") -> bool:
        """Put an edit back in force. False when it is, or its like.

        Args:
            session: The token that open_session gave.
            edit: Id of the edit.
            replace: Let it replace one that contradicts it.
            by: Who asks for it.
        """
        return bool(functions.redo(session, [edit], replace, by))

    def export_requests(session: str) -> str:
        """Give the edits in force as JSON Lines, which import_edits reads.

        Args:
            session: The token that open_session gave.
        """
        return functions.requests(session)

    def export_adapter(session: str) -> dict:
        """Make a zip of the LoRA adapter with all edits in force; the url is to be fetched from this server.

        Args:
            session: The token that open_session gave.
        """
        return functions.adapter(session)

    return [list_edits, look, undo, redo, export_requests, export_adapter]


def read_turns(turns: list[list[str]] | None) -> list[Turn]:
    """A conversation as it comes from outside.

    Errors: `DataError` when a turn is not three texts.
    """
    for turn in turns or []:
        if not isinstance(turn, list | tuple) or len(turn) != 3 or not all(isinstance(t, str) for t in turn):
            raise DataError(
                "found a turn that is not [message, reply of the base model, reply of the edited one]."
            )
    return [(turn[0], turn[1], turn[2]) for turn in turns or []]
