"""Editors: each turns cases into deltas behind one protocol; one is imported only when it is asked for."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from instructedit.backbone import Backbone
    from instructedit.editors.change import Change
    from instructedit.editors.instructed import InstructedEditor
    from instructedit.types import EditCase


class Editor(Protocol):
    """Whatever turns cases into one edit each, all for the unedited model."""

    name: str

    def edit(
        self, backbone: "Backbone", cases: "Sequence[EditCase]", instructions: Sequence[str] | None = None
    ) -> "Change":
        """One edit a case, side by side, such as a `LowRankDelta`; nothing is written into the model."""
        ...


def as_told(editor: object, backbone: "Backbone", cases: "Sequence[EditCase]") -> "list[EditCase]":
    """Each case as its own `instruction` asks for it, where the editor reads that; see its `told`.

    So an answer that words alone want erased is known as an erasure before the edit is made.
    """
    tell = getattr(editor, "told", None)
    return list(cases) if tell is None else tell(backbone, cases, [case.instruction for case in cases])


def load_editor(path: "str | Path" = "default", backbone: "Backbone | None" = None) -> "InstructedEditor":
    """Read an editor file; "default" is the one that comes with the package.

    Errors: `EditorFileError`, see `instructedit.editors.editor_file.load_editor`.
    """
    from instructedit.editors.editor_file import load_editor as read

    return read(shipped_editor() if str(path) == "default" else Path(path), backbone)


def shipped_editor() -> Path:
    """The path of the editor that comes with the package, made for the default model."""
    from importlib.resources import files

    return Path(str(files("instructedit") / "shipped" / "editor.safetensors"))


def load_for_editor(path: "str | Path" = "default", **options: Any) -> "tuple[Backbone, InstructedEditor]":
    """Load an editor and the backbone that it was trained for, with the editor's sites and start token.

    `options` go to `load_backbone`: a `model`, `sites` or `start` among them goes before the editor's own.
    Errors: `ModelError` as `load_backbone`; `EditorFileError` when the editor is broken or another model's.
    """
    from instructedit.backbone import Backbone
    from instructedit.backbone.loading import load_backbone
    from instructedit.backbone.sites import find_sites
    from instructedit.editors.editor_file import load_editor as read
    from instructedit.editors.editor_file import read_header, site_names

    file = shipped_editor() if str(path) == "default" else Path(path)
    header = read_header(file)
    settings: dict[str, Any] = {"model": header["model"]["name"], "start": "none", **options}
    backbone = load_backbone(**settings)
    if backbone.checksum == header["model"]["checksum"]:
        own = "sites" not in options
        sites = find_sites(backbone.model, site_names(header)) if own else backbone.sites
        start = backbone.start_ids if "start" in options else header["start_ids"]
        backbone = Backbone(
            backbone.model, backbone.tokenizer, sites, start, backbone.name, backbone.checksum
        )
    return backbone, read(file, backbone)
