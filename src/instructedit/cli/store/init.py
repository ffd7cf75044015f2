"""`instructedit store init`: a new, empty record of edits."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from instructedit.cli.options import COMMON, MODEL, Common
from instructedit.cli.report import Report, make_facts


def init_store(
    folder: Annotated[Path, Parameter(help="Folder to make.")],
    /,
    *,
    editor: Annotated[
        str, Parameter(help="Name or file of the trained editor that makes the edits.")
    ] = "default",
    model: Annotated[
        str | None, Parameter(help="Name, hub id, folder or GGUF file; left out, the editor's own model.")
    ] = None,
    precision: Annotated[
        Literal["float16", "float32"], Parameter(help="What edits are kept in; float32 takes twice the room.")
    ] = "float16",
    common: Common = COMMON,
) -> Report:
    """Make an empty store: the record of every edit made to one model with one editor."""
    from instructedit.cli.keeping import check_folder
    from instructedit.cli.loading import EDITORS, find_editor
    from instructedit.editors.editor_file import read_header
    from instructedit.errors import EditorFileError
    from instructedit.ledger.store import ELSEWHERE, create_store
    from instructedit.storage import sha256_file

    check_folder(folder, force=False, hint=ELSEWHERE)
    file = find_editor(editor)
    header = read_header(file)
    if header["editor"].get("transform", {}).get("aggregation") != "ridge":
        raise EditorFileError(
            f"{file} sums its edits. A store solves them together: expected aggregation ridge."
        )
    base = {"name": _locate(model or header["model"]["name"]), "checksum": header["model"]["checksum"]}
    name = editor if editor in EDITORS else str(file.resolve())
    maker = {"name": name, "checksum": sha256_file(file)}
    if not common.dry_run:
        create_store(folder, base, maker, precision)
    facts = {"store": str(folder), "model": base["name"], "editor": maker["name"], "precision": precision}
    return Report(facts, [make_facts("Would make" if common.dry_run else "Made", facts)])


def _locate(model: str) -> str:
    """A model that lies in a folder here by its whole path: a store is opened from anywhere."""
    path = Path(model).expanduser()
    return str(path.resolve()) if model != MODEL.model and path.exists() else model
