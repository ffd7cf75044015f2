"""`instructedit serve`: the page, in a browser on this machine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Group, Parameter

from instructedit.cli.options import COMMON, MODEL, Common, ModelChoice, Switch, Texts
from instructedit.cli.report import Report, make_facts
from instructedit.errors import DataError, EditorFileError
from instructedit.extras import require

if TYPE_CHECKING:
    from instructedit.app.pair import Pair

LAST_PORT = 65535
SERVE_GROUP = Group("Page", sort_key=0)


@Parameter(name="*", group=SERVE_GROUP)
@dataclass(frozen=True)
class Serving:
    """Where the page is, and what it offers."""

    host: str = "127.0.0.1"
    """Address to listen on. Others than this machine's own let strangers in: there is no password."""

    port: int = 7860
    """Port to listen on; 0 takes a free one."""

    editor: Texts = ()
    """Name or file of a trained editor, else the shipped one; repeatable, then the page lets you choose."""

    store: Path | None = None
    """A store that all visitors share; left out, each has edits of their own, gone with the page."""

    mcp: Switch = False
    """Offer the functions as MCP tools too; needs the extra `mcp`."""


SERVING = Serving()


def serve_page(*, serving: Serving = SERVING, model: ModelChoice = MODEL, common: Common = COMMON) -> Report:
    """Serve the page: edits made in a browser, seen before and after, taken back, downloaded.

    The same functions are an HTTP API under /gradio_api. Needs the extra `page`. Ends with Ctrl-C.
    """
    require("page", "the page")
    if serving.mcp:
        require("mcp", "the page as MCP tools")
    if not 0 <= serving.port <= LAST_PORT:
        raise DataError(
            f"found --port {serving.port}. Expected a number from 0 to {LAST_PORT}; 0 takes a free one."
        )
    names = _name_editors(serving)
    facts: dict[str, object] = {"host": serving.host, "port": serving.port, "editors": list(names)}
    facts |= {"store": None if serving.store is None else str(serving.store), "mcp": serving.mcp}
    if common.dry_run:
        return Report(facts, [make_facts("Would serve", facts)])
    return _serve(serving, names, _loader(serving, names, model), _list_private(names, model), facts)


def _name_editors(serving: Serving) -> dict[str, str]:
    """The editors that are offered, by the names that visitors see: never a path.

    Errors: `DataError` for an editor beside a store, which has its own; those of a store or an editor that
    is not there.
    """
    from instructedit.cli.loading import find_editor
    from instructedit.ledger.store import Store

    if serving.store is not None:
        if serving.editor:
            raise DataError("--editor and --store were both given. Expected one: a store has its own editor.")
        wanted: Sequence[str] = [Store(serving.store).facts["editor"]["name"]]
    else:
        wanted = serving.editor or ("default",)
    names: dict[str, str] = {}
    for editor in dict.fromkeys(wanted):
        path = find_editor(editor)
        short = (
            editor if editor == "default" else Path(path).parent.name if path.stem == "editor" else path.stem
        )
        names[short if short not in names else f"{short} ({len(names) + 1})"] = editor
    return names


def _name_models(names: dict[str, str]) -> dict[str, str]:
    """For which model each editor was trained, as visitors see it.

    Errors: `EditorFileError` for an editor that cannot be read.
    """
    from instructedit.backbone.default_model import FOLDER_NAME
    from instructedit.cli.loading import find_editor
    from instructedit.editors.editor_file import read_header

    found = {name: read_header(find_editor(editor))["model"]["name"] for name, editor in names.items()}
    return {name: FOLDER_NAME if model == MODEL.model else Path(model).name for name, model in found.items()}


def _list_private(names: dict[str, str], model: ModelChoice) -> list[Path]:
    """Where the editors and their models lie, as it was given and as it is: no visitor may read of it.

    What is wrong with an editor is said when it is loaded.
    """
    from contextlib import suppress

    from instructedit.cli.loading import find_editor
    from instructedit.editors.editor_file import read_header

    places, models = [], [model.model]
    for file in map(find_editor, names.values()):
        places += [file, file.parent]
        with suppress(EditorFileError):
            models.append(read_header(file)["model"]["name"])
    places += [path for path in map(Path, models) if path.is_absolute() or path.exists()]
    return [*places, *(place.resolve() for place in places)]


def _loader(serving: Serving, names: dict[str, str], model: ModelChoice) -> "Callable[[str], Pair]":
    """What reads a pair when it is first asked for.

    Errors, then: as `load_pair` and `load_store_pair`; `EditorFileError` for an editor that does not solve.
    """

    def load(name: str) -> "Pair":
        from instructedit.app.pair import Pair
        from instructedit.cli.loading import load_pair
        from instructedit.cli.store.opening import load_store_pair
        from instructedit.ledger.adding import require_solver
        from instructedit.ledger.store import Store

        if serving.store is not None:
            pair = load_store_pair(Store(serving.store), model)
        else:
            pair = load_pair(model, names[name])
        require_solver(pair[1])
        return Pair(name, *pair)

    return load


def _serve(
    serving: Serving,
    names: dict[str, str],
    load: "Callable[[str], Pair]",
    private: list[Path],
    facts: dict[str, object],
) -> Report:
    """Load the first editor, so that what is wrong shows at once, and answer until interrupted."""
    from contextlib import closing, suppress

    from instructedit.app.door import listen, make_application, serve, url_of
    from instructedit.app.functions import Functions
    from instructedit.app.session import Desk

    models = _name_models(names) if len(names) > 1 else {}  # one is loaded before anybody comes
    with (
        closing(listen(serving.host, serving.port)) as listening,
        closing(Desk(load, list(names), serving.store, models, private)) as desk,
    ):
        desk.pair(desk.editors[0])
        url = url_of(listening)
        application = make_application(Functions(desk), host=serving.host, mcp=serving.mcp)
        tools = f", MCP at {url}/gradio_api/mcp/" if serving.mcp else ""
        print(f"The page is at {url}{tools}. Ctrl-C ends it.", flush=True)
        with suppress(KeyboardInterrupt):
            serve(application, listening)
    return Report({**facts, "url": url}, ["Closed."])
