"""One editor, one safetensors file: half-precision weights and a JSON header that says what they are for."""

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from instructedit.backbone import Backbone, Site
from instructedit.editors.gates import GateConfig
from instructedit.editors.instructed import EditorConfig, InstructedEditor
from instructedit.editors.mending import MendConfig
from instructedit.editors.neuron_config import NeuronConfig
from instructedit.editors.polish import PolishConfig
from instructedit.editors.registry import find_trained
from instructedit.editors.stance import StanceConfig
from instructedit.editors.together import TogetherConfig
from instructedit.editors.writing import WriteConfig
from instructedit.errors import EditorFileError, UnknownNameError
from instructedit.hypernetwork import TransformConfig
from instructedit.storage import load_tensors, save_tensors

FORMAT = "instructedit-editor-1"
KEY = "instructedit"
WIDE = ("moments",)  # eigenvalues: neither the largest nor the smallest of them fit into float16


def save_editor(editor: InstructedEditor, path: Path, backbone: Backbone, facts: dict[str, Any]) -> None:
    """Write an editor: matrices in float16, vectors and moments in float32, and all that is needed to use it.

    `facts` joins the header: tasks, data checksums, training config, seed, metrics.
    """
    header = {
        **facts,
        "format": FORMAT,
        "version": version("instructedit"),
        "model": {"name": backbone.name, "checksum": backbone.checksum, "width": backbone.width},
        "start_ids": list(backbone.start_ids),
        "sites": [asdict(site) for site in backbone.sites],
        "editor": asdict(editor.config),
    }
    tensors = {name: _pack(name, value) for name, value in editor.state_dict().items()}
    save_tensors(path, tensors, {KEY: json.dumps(header)})


def _pack(name: str, value: torch.Tensor) -> torch.Tensor:
    wide = value.ndim < 2 or name.rpartition(".")[2] in WIDE
    return value.float() if wide else value.half()


def read_header(path: Path) -> dict[str, Any]:
    """The header of an editor file, without its weights.

    Errors: `EditorFileError` when the file is missing, broken, or no editor.
    """
    return _read(path)[1]


def read_facts(path: Path) -> dict[str, Any]:
    """What an editor's header says beside what `save_editor` writes anew. Errors: as `read_header`."""
    return {name: x for name, x in read_header(path).items() if name not in ("editor", "sites", "model")}


def load_editor(path: Path, backbone: Backbone | None = None) -> InstructedEditor:
    """Read an editor; with a backbone, check that it was made for this one.

    Errors: `EditorFileError` with the reason: unreadable, another format, another model or other sites.
    """
    tensors, header = _read(path)
    if backbone is not None:
        check_match(header, backbone, path)
    try:
        sites = [Site(**site) for site in header["sites"]]
        kind = find_trained(header["editor"].get("kind", EditorConfig.kind))
        editor = kind(config_of(header), sites, header["model"]["width"])
        editor.load_state_dict({name: value.float() for name, value in tensors.items()})
    except (RuntimeError, TypeError, KeyError, UnknownNameError) as error:
        raise EditorFileError(
            f"{path} does not hold the weights that its header describes: {error}"
        ) from error
    return editor.to(backbone.device if backbone is not None else "cpu").eval()


def config_of(header: dict[str, Any]) -> EditorConfig:
    """The configuration that an editor's header holds.

    Errors: `TypeError`, `KeyError` or `UnknownNameError` where it holds none of this version.
    """
    config = dict(header["editor"])
    kind = find_trained(config.pop("kind", EditorConfig.kind))
    config["transform"] = TransformConfig(**config["transform"])
    config["gate"] = GateConfig(**config.get("gate", {}))
    config["polish"] = PolishConfig(**config.get("polish", {}))
    config["write"] = WriteConfig(**config.get("write", {}))
    config["together"] = TogetherConfig(**config.get("together", {}))
    config["neurons"] = NeuronConfig(**config.get("neurons", {}))
    config["mend"] = MendConfig(**config.get("mend", {}))
    config["stance"] = StanceConfig.read(config.get("stance", {}))
    return kind.settings(**config)


def check_match(header: dict[str, Any], backbone: Backbone, path: Path) -> None:
    """Refuse an editor that was trained for other weights, other sites or another start token."""
    model = header["model"]
    if model["checksum"] != backbone.checksum:
        raise EditorFileError(
            f"{path} was trained for the model {model['name']!r} (checksum {model['checksum'][:12]}) and "
            f"this is {backbone.name!r} (checksum {backbone.checksum[:12]}). Load that model, or train "
            "an editor for this one with `instructedit train`."
        )
    sites = [asdict(site) for site in backbone.sites]
    if header["sites"] != sites or header["start_ids"] != list(backbone.start_ids):
        raise EditorFileError(
            f"{path} edits {len(header['sites'])} sites, first {header['sites'][0]['name']}, with start "
            f"tokens {header['start_ids']}; the model was loaded with {len(sites)}, first "
            f"{sites[0]['name']}, and {list(backbone.start_ids)}. Load the backbone with the "
            "editor's own: load_for_editor(path)."
        )


def site_names(header: dict[str, Any]) -> str:
    """The editor's sites as a `--sites` value."""
    return ",".join(site["name"] for site in header["sites"])


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    try:
        tensors, metadata = load_tensors(Path(path))
        header = json.loads(metadata.get(KEY, "null"))
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise EditorFileError(
            f"cannot read the editor {path}: {error}. Expected a file that `instructedit train` wrote."
        ) from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else "no header"
        raise EditorFileError(f"{path} is not an editor of this version: found {found}, expected {FORMAT}.")
    missing = {"model", "sites", "start_ids", "editor"} - header.keys()
    if missing:
        raise EditorFileError(
            f"the header of {path} lacks {', '.join(sorted(missing))}. Train the editor again."
        )
    return tensors, header
