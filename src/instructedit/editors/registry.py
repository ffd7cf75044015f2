"""Methods of editing by name; the file of one is imported only when it is asked for."""

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, get_type_hints

from instructedit.editors.settings import read_value
from instructedit.errors import DataError, unknown_name

if TYPE_CHECKING:
    from instructedit.backbone import Backbone
    from instructedit.editors import Editor

Result = Literal["delta", "codebook", "context"]


class Method(Protocol):
    """What a method's class says of itself: a dataclass of settings that is an `Editor`.

    `paper` cites it, `result` is what its edits are, and `depth` where it edits: one block at this share of
    the model's depth, or the last three blocks where it is None. A setting `layers` edits so many, that one
    the last of them.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    result: ClassVar[Result]
    depth: ClassVar[float | None]


METHODS: dict[str, str] = {
    "alphaedit": "alphaedit:AlphaEdit",
    "calinet": "calinet:CaliNet",
    "ft-l": "ft_l:FTL",
    "grace": "grace:GRACE",
    "ike": "ike:IKE",
    "locft-bf": "locft_bf:LocFTBF",
    "lora": "lora:LoRA",
    "memit": "memit:MEMIT",
    "rome": "rome:ROME",
    "ultraedit": "ultraedit:UltraEdit",
}


# Editors with weights of their own, by the kind that a training's settings name; each has its `settings`.
TRAINED: dict[str, str] = {
    "instructed": "instructed:InstructedEditor",
    "ke": "ke:KnowledgeEditor",
    "malmen": "malmen:MALMENEditor",
    "mend": "mend:MENDEditor",
    "paper": "paper:PaperEditor",
}


def find_method(name: str) -> Any:
    """The class of a method.

    Errors: `UnknownNameError` with the nearest name.
    """
    if name not in METHODS:
        raise unknown_name("method", name, list(METHODS))
    return _import(METHODS[name])


def find_trained(kind: str) -> Any:
    """The class of a kind of trained editor.

    Errors: `UnknownNameError` with the nearest kind.
    """
    if kind not in TRAINED:
        raise unknown_name("kind of editor", kind, list(TRAINED))
    return _import(TRAINED[kind])


def _import(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(f"instructedit.editors.{module}"), name)


def make_method(name: str, settings: Mapping[str, Any] | None = None) -> "Editor":
    """A method with its settings; what is not named keeps the value of the method's paper.

    Errors: `UnknownNameError` for a method or a setting that does not exist, `DataError` for a wrong value.
    """
    kind, given = find_method(name), dict(settings or {})
    known, kinds = {field.name: field.default for field in fields(kind)}, get_type_hints(kind)
    for setting, value in given.items():
        if setting not in known:
            raise unknown_name(f"setting of {name}", setting, list(known))
        given[setting] = read_value(f"{setting} of {name}", kinds[setting], value, known[setting])
    try:
        return kind(**given)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} does not take {given}: {error}.") from error


def load_for_method(
    name: str, settings: Mapping[str, Any] | None = None, **options: Any
) -> "tuple[Backbone, Editor]":
    """A method and a backbone with the sites that the method edits, unless `options` name others.

    `options` go to `load_backbone`. Errors: as `make_method` and `load_backbone`.
    """
    from instructedit.backbone import Backbone
    from instructedit.backbone.loading import load_backbone
    from instructedit.backbone.sites import find_sites

    editor = make_method(name, settings)
    backbone, depth = load_backbone(**options), find_method(name).depth
    if depth is not None and "sites" not in options:
        block = min(int(depth * len(backbone.blocks)), len(backbone.blocks) - 1)
        first = max(0, block + 1 - getattr(editor, "layers", 1))
        sites = find_sites(backbone.model, f"blocks={first}-{block}")
        backbone = Backbone(
            backbone.model, backbone.tokenizer, sites, backbone.start_ids, backbone.name, backbone.checksum
        )
    return backbone, editor
