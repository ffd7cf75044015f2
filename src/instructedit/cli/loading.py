"""From options to a loaded model."""

from typing import TYPE_CHECKING

from instructedit.cli.options import ModelChoice

if TYPE_CHECKING:
    from instructedit.backbone import Backbone
    from instructedit.editors import InstructedEditor


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
    """The model and a trained editor that was made for it.

    Errors: `ModelError` as `load_backbone`; `EditorFileError` when the editor is broken or belongs to
    another model; `UnknownNameError` when there is no such editor.
    """
    from instructedit.editors import load_editor

    made = load_editor(editor)
    return load_model(choice), made
