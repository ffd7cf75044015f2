"""`instructedit model`: fetch a model, and say what an edit of it would touch."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from instructedit.cli.loading import load_model
from instructedit.cli.options import COMMON, MODEL, Common, ModelChoice
from instructedit.cli.report import Report, make_facts, make_table

if TYPE_CHECKING:
    from instructedit.backbone import Backbone


def show_model(
    name: str | None = None,
    /,
    *,
    model: ModelChoice = MODEL,
    common: Common = COMMON,
) -> Report:
    """Fetch and convert a model if it is not here yet, load it, and show its layers and edit sites.

    Parameters
    ----------
    name
        The same as --model: the default model, a hub id, a folder or a GGUF file.
    """
    from instructedit.backbone.default_model import model_folder
    from instructedit.backbone.loading import DEFAULT, resolve

    choice = replace(model, model=name) if name else model
    if common.dry_run:
        wanted = "the default model, fetched if it is not here" if choice.model == DEFAULT else choice.model
        return Report({"model": choice.model}, [f"Would load {wanted}."])
    place = model_folder(download=True) if choice.model == DEFAULT else resolve(choice.model)
    backbone = load_model(choice)
    data = describe_model(backbone, str(place), choice.start)
    facts = {key: value for key, value in data.items() if not isinstance(value, list | dict)}
    sites = [(site["name"], site["d_in"], site["d_out"]) for site in data["sites"]]
    shown = [make_facts("Model", facts), make_table("Edit sites", ("layer", "in", "out"), sites)]
    losses = sorted(data["start_losses"].items(), key=lambda item: item[1])
    if losses:
        shown.append(make_table("Start token, measured", ("token", "loss, nats a token"), losses))
    return Report(data, shown)


def describe_model(backbone: "Backbone", place: str, start: str = "auto") -> dict[str, Any]:
    """What there is to know about a loaded model before it is edited, ready for JSON."""
    from instructedit.backbone.start_token import find_start_token

    opening = find_start_token(backbone.model, backbone.tokenizer, start)
    return {
        "model": backbone.name,
        "place": place,
        "type": type(backbone.model).__name__,
        "parameters": sum(parameter.numel() for parameter in backbone.model.parameters()),
        "blocks": len(backbone.blocks),
        "hidden": backbone.width,
        "vocabulary": int(backbone.head.weight.shape[0]),
        "context": backbone.context,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "checksum": backbone.checksum,
        "start": opening.token,
        "start_losses": opening.losses,
        "sites": [{"name": s.name, "d_in": s.d_in, "d_out": s.d_out} for s in backbone.sites],
    }
