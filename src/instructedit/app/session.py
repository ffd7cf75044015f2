"""Who is there: a token a person, edits of their own, and one piece of work at a time."""

import secrets
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock, RLock

from instructedit.app.book import Book
from instructedit.app.pair import Pair
from instructedit.app.work import Tell, Work, tell_nobody
from instructedit.errors import DataError, unknown_name
from instructedit.ledger.store import LOG, create_store

MOST = 100  # sessions; the one that was quiet longest makes room
DOWNLOADS = 4  # of a session that are kept
CLOSING = 10.0  # seconds in which work that is stopped at the end may leave the model


@dataclass
class Session:
    """One person's stay: where their edits are kept, which editor they chose, and what is being done."""

    token: str
    folder: Path
    editor: str
    books: dict[str, Book] = field(default_factory=dict)
    work: Work | None = None
    downloads: OrderedDict[str, Path] = field(default_factory=OrderedDict)


class Desk:
    """All sessions, and the pairs that they use; `load` reads a pair when it is first asked for.

    `editors` are the names that are shown, the first one the choice to begin with; `models` says for which
    model each is, where that is known before it is loaded.

    With `store` all sessions share the edits in that folder, and there is one editor: the store's.
    `private` are further files and folders that no message may name.
    """

    def __init__(
        self,
        load: Callable[[str], Pair],
        editors: Sequence[str],
        store: Path | None = None,
        models: Mapping[str, str] | None = None,
        private: Sequence[Path] = (),
    ) -> None:
        self.editors, self.store, self.models = list(editors), store, dict(models or {})
        self.private = list(private)
        self.root = Path(tempfile.mkdtemp(prefix="instructedit-"))
        self._load, self._pairs = load, dict[str, Pair]()
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._guard, self._loading = RLock(), Lock()

    def close(self) -> None:
        """Stop all work, forget everybody, and remove what was kept for them; a shared store stays."""
        with self._guard:
            for session in self._sessions.values():
                if session.work is not None:
                    session.work.stop.set()
        for pair in list(self._pairs.values()):
            if pair.lock.acquire(timeout=CLOSING):
                pair.lock.release()
        shutil.rmtree(self.root, ignore_errors=True)

    def pair(self, name: str, work: Work | None = None) -> Pair:
        """A loaded model and editor by the editor's name; whoever wants a loaded one waits for nobody.

        Errors: `UnknownNameError` for a name that is not offered; those of loading it; `WorkCancelledError`
        for `work` that is not wanted any more.
        """
        if name not in self.editors:
            raise unknown_name("editor", name, self.editors)
        if name not in self._pairs:
            work = work or Work()
            with work.hold(self._loading, "Waiting until another model is loaded"):
                if name not in self._pairs:
                    work.step(0, 1, "Loading the model")
                    self._pairs[name] = self._load(name)
        return self._pairs[name]

    def open(self) -> str:
        """Begin a session and give its token, which whoever knows it may use."""
        token = secrets.token_urlsafe(16)
        folder = self.root / secrets.token_hex(8)
        folder.mkdir()
        with self._guard:
            self._sessions[token] = Session(token, folder, self.editors[0])
            others = [name for name in self._sessions if name != token]
            idle = [name for name in others if self._sessions[name].work is None]
            for name in idle[: max(0, len(self._sessions) - MOST)]:
                self._forget(name)
        return token

    def knows(self, token: str) -> bool:
        """Whether a token's session is still there."""
        with self._guard:
            return token in self._sessions

    def find(self, token: str) -> Session:
        """The session of a token.

        Errors: `DataError` when there is none, or none any more.
        """
        with self._guard:
            if not self.knows(token):
                raise DataError(
                    "this session does not exist, or is over. Load the page again, or open another."
                )
            self._sessions.move_to_end(token)
            return self._sessions[token]

    @contextmanager
    def working(self, token: str, tell: Tell = tell_nobody) -> Iterator[tuple[Session, Work]]:
        """Do one piece of work for a session; `cancel` stops it.

        Errors: `DataError` when the session is at work already.
        """
        work = Work(tell)
        with self._guard:
            session = self.find(token)
            if session.work is not None:
                raise DataError("this session is still at work. Wait until it is done, or cancel it.")
            session.work = work
        try:
            yield session, work
        finally:
            session.work = None

    def cancel(self, token: str) -> bool:
        """Stop what a session is doing; False when it does nothing."""
        work = self.find(token).work
        if work is not None:
            work.stop.set()
        return work is not None

    def book(self, session: Session) -> Book:
        """The edits of a session under the editor that it chose: its own, or those that all share."""
        pair = self.pair(session.editor)
        if self.store is not None:
            return Book(self.store, pair)
        with self._guard:
            if pair.name not in session.books:
                folder = session.folder / f"edits-{len(session.books) + 1}"
                model = {"name": pair.backbone.name, "checksum": pair.backbone.checksum}
                create_store(folder, model, {"name": pair.name, "checksum": ""})
                session.books[pair.name] = Book(folder, pair)
            return session.books[pair.name]

    def hidden(self) -> list[Path]:
        """The files and folders that no message may name."""
        places = [self.root, Path(tempfile.gettempdir()), Path.home(), Path.cwd(), *self.private]
        places += [folder for pair in list(self._pairs.values()) for folder in pair.folders]
        return [*places, *([self.store, self.store.resolve()] if self.store is not None else [])]

    def words(self, token: str) -> str:
        """What a session's edits say, as their records have it; nothing for what is no token."""
        with self._guard:
            session = self._sessions.get(token)
        if session is None:
            return ""
        folders = [self.store] if self.store is not None else [book.folder for book in session.books.values()]
        with suppress(OSError, UnicodeDecodeError):
            return "".join((folder / LOG).read_text(encoding="utf-8") for folder in folders)
        return ""

    def offer(self, session: Session, path: Path) -> str:
        """A name under which a file can be fetched by whoever knows it; the oldest of many goes."""
        name = secrets.token_urlsafe(16)
        session.downloads[name] = path
        while len(session.downloads) > DOWNLOADS:
            session.downloads.popitem(last=False)[1].unlink(missing_ok=True)
        return name

    def offered(self, name: str) -> Path | None:
        """The file that was offered under a name; None when there is none any more."""
        with self._guard:
            found = (session.downloads.get(name) for session in self._sessions.values())
            return next((path for path in found if path is not None), None)

    def _forget(self, token: str) -> None:
        shutil.rmtree(self._sessions.pop(token).folder, ignore_errors=True)
