"""From options to a loaded model and its editor."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from instructedit.cli.options import MODEL, ModelChoice
from instructedit.errors import unknown_name

if TYPE_CHECKING:
    from instructedit.backbone import Backbone
    from instructedit.editors.instructed import InstructedEditor

EDITORS = ["default"]


def load_model(choice: ModelChoice) -> "Backbone":
    """The model that the options name, with its edit sites.

    Errors: `ModelError` as `load_backbone`.
    """
    from instructedit.backbone.loading import load_backbone

    return load_backbone(
        choice.model,
        sites=choice.sites,
        blocks=choice.blocks,
        device=choice.device,
        dtype=choice.dtype,
        start=choice.start,
    )


def load_pair(choice: ModelChoice, editor: str) -> "tuple[Backbone, InstructedEditor]":
    """A trained editor and its model, with the editor's own sites and start token unless the options say.

    Without ``--model`` the one that the editor was trained for is taken. Errors: `ModelError` as
    `load_backbone`; `EditorFileError` when the editor is broken or belongs to another model;
    `UnknownNameError` when there is no such editor.
    """
    from instructedit.backbone.loading import load_backbone
    from instructedit.editors.editor_file import load_editor, read_header, site_names

    path = find_editor(editor)
    header = read_header(path)
    own, name = header["model"], choice.model
    name = own["name"] if name == MODEL.model else name
    backbone = load_backbone(
        name,
        sites=choice.sites or (site_names(header) if name == own["name"] else None),
        blocks=choice.blocks,
        device=choice.device,
        dtype=choice.dtype,
        start="none" if choice.start == MODEL.start else choice.start,
    )
    if backbone.checksum == own["checksum"]:
        backbone = _as_trained(backbone, header, choice)
    return backbone, load_editor(path, backbone)


def find_editor(name: str) -> Path:
    """The file of an editor that is named, or given as a path.

    Errors: `UnknownNameError` with the nearest name.
    """
    from instructedit.editors import shipped_editor

    if name in EDITORS:
        return shipped_editor()
    path = Path(name).expanduser()
    if not path.exists() and path.name == name and not path.suffix:
        raise unknown_name("editor", name, EDITORS)
    return path / "editor.safetensors" if path.is_dir() else path


def _as_trained(backbone: "Backbone", header: dict[str, Any], choice: ModelChoice) -> "Backbone":
    """The same model with the sites and the start token of the editor's training, where none were chosen."""
    from instructedit.backbone import Backbone
    from instructedit.backbone.sites import find_sites
    from instructedit.editors.editor_file import site_names

    sites = backbone.sites if choice.sites else find_sites(backbone.model, site_names(header))
    start = header["start_ids"] if choice.start == MODEL.start else backbone.start_ids
    return Backbone(backbone.model, backbone.tokenizer, sites, start, backbone.name, backbone.checksum)
