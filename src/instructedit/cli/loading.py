"""From options to a loaded model and its editor."""

from pathlib import Path
from typing import TYPE_CHECKING

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
    from instructedit.editors import load_for_editor

    chosen = {
        "model": choice.model if choice.model != MODEL.model else None,
        "sites": choice.sites,
        "start": choice.start if choice.start != MODEL.start else None,
    }
    options = {name: value for name, value in chosen.items() if value is not None}
    return load_for_editor(
        find_editor(editor), blocks=choice.blocks, device=choice.device, dtype=choice.dtype, **options
    )


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
