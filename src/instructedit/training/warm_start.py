"""Begin a run with the weights of an editor that knows some of its sites."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from instructedit.editors.instructed import InstructedEditor
from instructedit.errors import DataError
from instructedit.hypernetwork import ShapeTransform

SITE_AXIS = {
    "scale": 0,
    "shift": 0,
    "log_step": 0,
    "step_code": 1,
    "log_ridge": 0,
    "log_damping": 0,
    "log_anchor": 0,
    "anchor_code": 1,
}  # where a weight has one entry a site
FAINT = 2.0  # a site that is new steps by so much less, in log units, and disturbs nothing at first


@torch.no_grad()
def warm_start(editor: InstructedEditor, known: InstructedEditor) -> None:
    """Copy what `known` has learned: all shared weights, and those of the sites that both have.

    A new site takes the mean of the known ones of its shape, with a fainter step; its statistics stay. So
    do those of instructions: they are read where the edited blocks begin, and that place may have moved.
    Errors: `DataError` when the networks differ in more than their sites.
    """
    before = {(shape.d_in, shape.d_out): shape for shape in _shapes(known)}
    if editor.hypernetwork.config != known.hypernetwork.config:
        raise DataError(
            f"the editor to begin with has the network {known.hypernetwork.config} and the run "
            f"{editor.hypernetwork.config}. Expected the same: set editor.transform as that editor has it."
        )
    for shape in _shapes(editor):
        if (shape.d_in, shape.d_out) in before:
            _copy_shape(shape, before[shape.d_in, shape.d_out])
    if editor.hypernetwork.reader is not None and known.hypernetwork.reader is not None:
        for name, value in editor.hypernetwork.reader.named_parameters():
            value.copy_(known.hypernetwork.reader.get_parameter(name))


def _shapes(editor: InstructedEditor) -> Iterator[ShapeTransform]:
    shapes: Any = editor.hypernetwork.shapes
    yield from shapes


def _copy_shape(shape: ShapeTransform, known: ShapeTransform) -> None:
    places = {site.name: index for index, site in enumerate(known.sites)}
    old = [places.get(site.name) for site in shape.sites]
    for name, value in shape.named_parameters():
        axis = SITE_AXIS.get(name.rsplit(".", 1)[-1])
        source = known.get_parameter(name)
        if axis is not None:
            source = _by_site(source, axis, old)
        value.copy_(source)
    fresh = torch.tensor([float(place is None) for place in old], device=shape.log_step.device)
    shape.log_step.sub_(FAINT * fresh)
    for index, place in enumerate(old):
        if place is not None:
            shape.statistics[index].load_state_dict(known.statistics[place].state_dict())


def _by_site(source: Tensor, axis: int, places: list[int | None]) -> Tensor:
    """The entries of each place along an axis, the mean of all for a place that is None."""
    mean = source.mean(axis)
    return torch.stack([mean if place is None else source.select(axis, place) for place in places], axis)
