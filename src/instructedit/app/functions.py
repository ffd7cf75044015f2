"""What can be done on the page, by HTTP and by MCP: one method each, from plain values to plain values."""

from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any

from instructedit.app.adapter import write_adapter
from instructedit.app.answers import ask_prompt
from instructedit.app.chat import LONGEST_SAID, MOST_TURNS, Style, Turn, has_template, reply_twice
from instructedit.app.directions import THIS, compare_direction
from instructedit.app.request import LONGEST_NAME, Form, check_text, read_form, read_upload
from instructedit.app.scatter import draw_scatter
from instructedit.app.session import Desk, Session
from instructedit.app.work import Tell, tell_nobody
from instructedit.errors import DataError
from instructedit.extras import require
from instructedit.ledger.entries import OnConflict
from instructedit.ledger.requests import request_lines
from instructedit.ledger.store import Store
from instructedit.storage import write_atomic


class Functions:
    """The functions over one desk; `tell` hears how far a long one is.

    Errors of all: `DataError` for a session that does not exist, or is at work; `WorkCancelledError`.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def facts(self, token: str) -> dict[str, Any]:
        """Which model and editor a session uses, and what else there is to choose."""
        session = self.desk.find(token)
        pair = self.desk.pair(session.editor)
        return {
            "model": pair.model_name,
            "editor": pair.name,
            "editors": self.desk.editors,
            "models": self.desk.models,
            "layers": len(pair.backbone.sites),
            "shared": self.desk.store is not None,
            "chat": has_template(pair.backbone),
            "in_force": len(Store(self.desk.book(session).folder).in_force),
        }

    def choose(self, token: str, editor: str, tell: Tell = tell_nobody) -> dict[str, Any]:
        """Go on with another editor and its model; the edits made under each are kept apart."""
        with self.desk.working(token, tell) as (session, work):
            self.desk.pair(editor, work)
            work.check()
            session.editor = editor
        return self.facts(token)

    def edit(
        self, token: str, form: Form, replace: bool = False, by: str = "", tell: Tell = tell_nobody
    ) -> dict[str, Any]:
        """Make one edit; see `Book.add`. With `replace` it goes before one that contradicts it.

        ``editor`` is the one that it was made under: ids are those of its edits.
        """
        case = read_form(form)
        with self.desk.working(token, tell) as (session, work):
            found = self.desk.book(session).add([case], work, _conflicts(replace), _said(by))
            return found | {"editor": session.editor}

    def upload(
        self,
        token: str,
        name: str,
        content: str,
        size: int | None = None,
        replace: bool = False,
        by: str = "",
        tell: Tell = tell_nobody,
    ) -> dict[str, Any]:
        """Make all edits of a JSONL or JSON file, or none."""
        with self.desk.working(token, tell) as (session, work):
            work.step(0, 1, "Reading the file")
            cases, told = read_upload(name, content, size)
            return self.desk.book(session).add(cases, work, _conflicts(replace), _said(by), told)

    def ask(self, token: str, prompt: str, target: str = "", tell: Tell = tell_nobody) -> dict[str, Any]:
        """Ask the base model and the edited one the same; see `ask_prompt`."""
        _check_prompt(prompt)
        check_text(target)
        with self.desk.working(token, tell) as (session, work):
            book = self.desk.book(session)
            with book.pair.at_work(work):
                work.step(0, 1, "Asking")
                delta = book.pair.solve(Store(book.folder))
                return ask_prompt(book.pair.backbone, delta, prompt, target.strip())

    def chat(
        self,
        token: str,
        message: str,
        turns: Sequence[Turn] = (),
        style: Style = "text",
        tokens: int = 48,
        tell: Tell = tell_nobody,
    ) -> dict[str, str]:
        """What the base model and the edited one say to a message; see `reply_twice`."""
        _check_prompt(message)
        if style not in ("text", "chat"):
            raise DataError(f"found the style {style!r}. Expected text or chat.")
        if len(turns) > MOST_TURNS:
            raise DataError(f"the conversation has {len(turns):,} turns. Expected {MOST_TURNS} at the most.")
        for said in turns:
            for text in said:
                check_text(text, LONGEST_SAID)
        with self.desk.working(token, tell) as (session, work):
            book = self.desk.book(session)
            with book.pair.at_work(work):
                work.step(0, 1, "Both models are writing")
                delta = book.pair.solve(Store(book.folder))
                base, edited = reply_twice(book.pair.backbone, delta, message, turns, style, tokens)
        return {"base": base, "edited": edited}

    def edits(self, token: str) -> list[dict[str, Any]]:
        """Every edit that was made, in order; see `describe_entry`."""
        return self.desk.book(self.desk.find(token)).edits()

    def undo(
        self,
        token: str,
        names: Sequence[str],
        by: str = "",
        tell: Tell = tell_nobody,
        editor: str | None = None,
    ) -> list[str]:
        """Take edits back, as if they had never been made; the ids of those that were in force.

        Errors: `DataError` where they were made under an `editor` that the session does not use now.
        """
        with self.desk.working(token, tell) as (session, work):
            if editor not in (None, session.editor):
                raise DataError(
                    f"this edit was made under the editor {editor}, and {session.editor} is chosen now. "
                    f"Choose {editor} again, then take it back under Edits."
                )
            return self.desk.book(session).undo(names, work, _said(by))

    def redo(
        self,
        token: str,
        names: Sequence[str],
        replace: bool = False,
        by: str = "",
        tell: Tell = tell_nobody,
    ) -> list[str]:
        """Put edits back in force, all or none; the ids of those that were not, nor their like."""
        with self.desk.working(token, tell) as (session, work):
            return self.desk.book(session).redo(names, work, _conflicts(replace), _said(by))

    def look(self, token: str, names: Sequence[str], tell: Tell = tell_nobody) -> list[dict[str, Any]]:
        """Ask the questions of some edits again; see `Book.look`."""
        with self.desk.working(token, tell) as (session, work):
            return self.desk.book(session).look(names, work)

    def requests(self, token: str) -> str:
        """The edits in force as JSON Lines, which `upload` reads: also who asked for each, and why."""
        return request_lines(Store(self.desk.book(self.desk.find(token)).folder))

    def requests_file(self, token: str) -> dict[str, Any]:
        """The same as a file; where it can be fetched, and its size."""
        text = self.requests(token)
        if not text:
            raise DataError("no edit is in force, so there is nothing to download. Make an edit first.")
        with self.desk.working(token) as (session, _):
            out = session.folder / f"{token_hex(8)}.jsonl"
            write_atomic(out, text)
            return self._offer(session, out)

    def picture(self, token: str, name: str, tell: Tell = tell_nobody) -> str:
        """An SVG of where an edit's gradient points among those of edits of every kind."""
        with self.desk.working(token, tell) as (session, work):
            book = self.desk.book(session)
            case = Store(book.folder).find(name).case
            return draw_scatter(compare_direction(book.pair, case, work), THIS)

    def adapter(self, token: str, tell: Tell = tell_nobody) -> dict[str, Any]:
        """Make the zip of the LoRA folder with all edits in force; where it can be fetched, and its size."""
        require("export", "the LoRA adapter, which is loaded back to check it,")
        with self.desk.working(token, tell) as (session, work):
            out = write_adapter(self.desk.book(session), session.folder / f"{token_hex(8)}.zip", work)
            return self._offer(session, out)

    def _offer(self, session: Session, path: Path) -> dict[str, Any]:
        return {"url": f"download/{self.desk.offer(session, path)}", "bytes": path.stat().st_size}


def _conflicts(replace: bool) -> OnConflict:
    return "replace" if replace else "refuse"


def _said(by: str) -> str:
    check_text(by, LONGEST_NAME)
    return by.strip()


def _check_prompt(prompt: str) -> None:
    check_text(prompt)
    if not prompt.strip():
        raise DataError("there is nothing to ask. Write a prompt first.")
