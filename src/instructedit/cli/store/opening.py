"""From a store to the model and the editor that it belongs to."""

from dataclasses import replace
from typing import TYPE_CHECKING

from instructedit.cli.options import MODEL, ModelChoice
from instructedit.errors import EditorFileError, ModelError

if TYPE_CHECKING:
    from instructedit.backbone import Backbone
    from instructedit.editors.instructed import InstructedEditor
    from instructedit.ledger.store import Store


ANEW = (
    "or bring its requests to a new store: `store export --to jsonl --out FILE`, `store init`, `store import "
    "FILE`."
)


def check_editor(store: "Store") -> None:
    """See that a store's editor is where it was.

    Errors: `EditorFileError` when it is missing, or another one.
    """
    from instructedit.cli.loading import find_editor
    from instructedit.storage import sha256_file

    maker = store.facts["editor"]
    file = find_editor(maker["name"])
    try:
        found = sha256_file(file)
    except OSError as error:
        raise EditorFileError(
            f"cannot read {file}, the editor of {store.folder}: {error.strerror}. Put it back there, or name "
            "its new place in store.json."
        ) from error
    if found != maker["checksum"]:
        raise EditorFileError(
            f"{file} has the checksum {found[:12]}; {store.folder} was made with an editor that has "
            f"{maker['checksum'][:12]}. Put that one back, {ANEW}"
        )


def load_store_pair(store: "Store", choice: ModelChoice) -> "tuple[Backbone, InstructedEditor]":
    """The model and the editor of a store; `choice.model` says where the model is now, if it was moved.

    Errors: as `check_editor`; `ModelError` when the model is another one; as `load_pair`.
    """
    from instructedit.cli.loading import load_pair

    base = store.facts["model"]
    check_editor(store)
    if choice.model == MODEL.model:
        choice = replace(choice, model=base["name"])
    backbone, editor = load_pair(choice, store.facts["editor"]["name"])
    if backbone.checksum != base["checksum"]:
        raise ModelError(
            f"{backbone.name!r} has the checksum {backbone.checksum[:12]}; {store.folder} belongs to "
            f"{base['name']!r} with {base['checksum'][:12]}. Load that model, {ANEW}"
        )
    return backbone, editor
