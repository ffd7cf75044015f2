"""From options to a loaded model and its editor."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from instructedit.cli.options import MODEL, ModelChoice
from instructedit.errors import DataError, unknown_name

if TYPE_CHECKING:
    from instructedit.backbone import Backbone
    from instructedit.editors import Editor
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

    return load_for_editor(find_editor(editor), **_options(choice))


def load_by_name(choice: ModelChoice, name: str, settings: Sequence[str] = ()) -> "tuple[Backbone, Editor]":
    """A trained editor or a method, whichever has the name, and a model with the sites that it edits.

    `settings` are name=value: a method's, or fields of a trained editor's configuration.
    Errors: as `load_pair`, `load_for_method` and `set_fields`.
    """
    from instructedit.editors.registry import METHODS, load_for_method

    if name in METHODS:
        return load_for_method(name, read_settings(settings), **_options(choice))
    path = find_editor(name, [*EDITORS, *METHODS])
    check_fields(path, settings)  # before the model is loaded
    backbone, editor = load_pair(choice, name)
    set_fields(editor, settings)
    return backbone, editor


def check_settings(name: str, settings: Sequence[str]) -> None:
    """Refuse what `load_by_name` would refuse of a name and its settings; no model is needed."""
    from instructedit.editors.registry import METHODS, make_method

    if name in METHODS:
        make_method(name, read_settings(settings))
    else:
        check_fields(find_editor(name, [*EDITORS, *METHODS]), settings)


def set_fields(editor: "InstructedEditor", settings: Sequence[str]) -> None:
    """Set fields of a trained editor's configuration, given as name=value.

    Errors: as `read_changes` and `EditorConfig.changed`.
    """
    if settings:
        editor.adjust_by(read_changes(settings))


def check_fields(path: Path, settings: Sequence[str]) -> None:
    """Refuse settings that the editor in a file cannot have; no model is needed. Errors: as `set_fields`."""
    from instructedit.editors.editor_file import config_of, read_header

    if settings:
        config_of(read_header(path)).changed(read_changes(settings))


def read_changes(settings: Sequence[str]) -> dict[str, Any]:
    """Changes to a trained editor's configuration; those of a part by their path, as mend.steps=60.

    Errors: as `read_settings` and `nest`.
    """
    from instructedit.editors.settings import nest

    return nest(read_settings(settings))


def read_settings(texts: Sequence[str]) -> dict[str, Any]:
    """The values of name=value, read as YAML.

    Errors: `DataError` for a text without a name or a value that is no YAML.
    """
    settings: dict[str, Any] = {}
    for text in texts:
        name, mark, value = text.partition("=")
        try:
            settings[name.strip().replace("-", "_")] = _read_value(value)
        except yaml.YAMLError:
            mark = ""
        if not (mark and name.strip()):
            raise DataError(f"cannot read --setting {text!r}. Expected name=value, such as steps=20.")
    return settings


def _read_value(text: str) -> Any:
    value = yaml.safe_load(text)
    try:
        return float(value) if isinstance(value, str) else value  # to YAML, 1e-3 is a word
    except ValueError:
        return value


def _options(choice: ModelChoice) -> dict[str, Any]:
    """What `load_backbone` is told: the editor has its own in the place of what the options leave open."""
    chosen = {
        "model": choice.model if choice.model != MODEL.model else None,
        "sites": choice.sites,
        "start": choice.start if choice.start != MODEL.start else None,
    }
    options: dict[str, Any] = {"blocks": choice.blocks, "device": choice.device, "dtype": choice.dtype}
    return options | {name: value for name, value in chosen.items() if value is not None}


def find_editor(name: str, known: Sequence[str] = EDITORS) -> Path:
    """The file of an editor that is named, or given as a path.

    Errors: `UnknownNameError` with the nearest of the `known` names.
    """
    from instructedit.editors import shipped_editor

    if name in EDITORS:
        return shipped_editor()
    path = Path(name).expanduser()
    if not path.exists() and path.name == name and not path.suffix:
        raise unknown_name("editor", name, list(known))
    return path / "editor.safetensors" if path.is_dir() else path


def set_polish(editor: "Editor", steps: int | None) -> None:
    """Give a trained editor's edits so many steps of polish; None leaves it as it is.

    Errors: `DataError` for a method, which has none, and for fewer than 0 steps.
    """
    if steps is None:
        return
    from instructedit.editors.instructed import InstructedEditor

    if not isinstance(editor, InstructedEditor):
        raise DataError(f"--polish {steps} is for trained editors, and {editor.name} is none. Leave it out.")
    editor.adjust(polish=replace(editor.config.polish, steps=steps))
