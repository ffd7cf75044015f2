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
    from instructedit.editors.editor_file import load_editor as read
    from instructedit.editors.editor_file import read_header, site_names

    file = shipped_editor() if str(path) == "default" else Path(path)
    header = read_header(file)
    own: dict[str, Any] = {"model": header["model"]["name"], "start": "none", "sites": site_names(header)}
    backbone = _load_on_sites({**own, **options}, own="sites" not in options)
    if backbone.checksum == header["model"]["checksum"] and "start" not in options:
        named = (header["start_ids"], backbone.name, backbone.checksum)
        backbone = Backbone(backbone.model, backbone.tokenizer, backbone.sites, *named)
    return backbone, read(file, backbone)


def _load_on_sites(settings: dict[str, Any], own: bool) -> "Backbone":
    """A backbone with an editor's `own` sites, or with any where it has none of them: it is another model."""
    from instructedit.backbone.loading import load_backbone
    from instructedit.errors import ModelError, SitesError

    try:
        return load_backbone(**settings)
    except SitesError as error:
        if not own:
            raise
        any_site: dict[str, Any] = {**settings, "sites": None, "blocks": 1}
        try:
            return load_backbone(**any_site)
        except ModelError:
            raise error from None
