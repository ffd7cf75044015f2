"""From edits to directions: what one pass of an editor holds at every site, one unit vector an edit."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from instructedit.analysis.geometry import normalise_rows
from instructedit.analysis.sketch import sketch_delta
from instructedit.backbone import Backbone, PrefixCache
from instructedit.delta import LowRankDelta
from instructedit.editors.instructed import InstructedEditor
from instructedit.errors import DataError
from instructedit.hypernetwork import ShapeTransform
from instructedit.progress import track
from instructedit.types import EditCase

if TYPE_CHECKING:
    from instructedit.editors import Editor

STAGES = ("input before", "gradient before", "input after", "gradient after", "delta")
ALL_SITES = "all sites"
SKETCH = 2048  # numbers of a delta's sketch

Vectors = dict[str, dict[str, Float[Tensor, "n _"]]]  # stage -> site -> one row an edit
Found = list[tuple[str, str, Float[Tensor, "b _"]]]  # stage, site, rows of a batch


def collect_vectors(
    backbone: Backbone,
    editor: "Editor",
    cases: Sequence[EditCase],
    instructions: Sequence[str],
    *,
    batch: int = 16,
    cache: PrefixCache | None = None,
    sketch: int = SKETCH,
    seed: int = 0,
) -> Vectors:
    """Edit every case once, for the unedited model, and keep the direction of each stage at each site.

    - ``before``: the factors in the units of the site's statistics, which is what the transform begins with.
    - ``after``: the same behind the trained transform; an untrained one changes nothing.
    - ``delta``: the update that is made of them, by its sketch (see `sketch_delta`).

    One vector an edit and side: the gradients of its rows added up (the gradient of a bias), and its inputs
    weighted by the size of their row's gradient, as rows without one take no part. An editor without a
    transform has fewer stages, a method that is not trained the delta alone. Only the first round of an
    edit is looked at. ``all sites`` is every site at equal weight: its cosines are the mean of theirs.

    Errors: `DataError` for a method whose edits are no deltas, and for a batch below 1.
    """
    if batch < 1:
        raise DataError(f"batch is {batch}. Expected 1 edit or more to be made together.")
    parts: dict[str, dict[str, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
    for start in track(range(0, len(cases), batch), "collecting"):
        chunk, words = cases[start : start + batch], instructions[start : start + batch]
        for stage, site, rows in _look(backbone, editor, chunk, words, cache, sketch, seed):
            parts[stage][site].append(normalise_rows(rows.detach().float()).cpu())
    found = {stage: {site: torch.cat(rows) for site, rows in parts[stage].items()} for stage in parts}
    return {stage: {ALL_SITES: _pool(found[stage]), **found[stage]} for stage in STAGES if stage in found}


def _look(
    backbone: Backbone,
    editor: "Editor",
    cases: Sequence[EditCase],
    words: Sequence[str],
    cache: PrefixCache | None,
    sketch: int,
    seed: int,
) -> Found:
    found: Found = []
    if isinstance(editor, InstructedEditor):
        with torch.no_grad():
            found += _look_at_factors(backbone, editor, cases, words, cache)
            delta: Any = editor.propose(backbone, cases, words, cache, whole=True)
    else:
        delta = editor.edit(backbone, cases, words)
    if not isinstance(delta, LowRankDelta):
        raise DataError(
            f"the edits of {editor.name} are no deltas and point nowhere. Expected one that makes deltas."
        )
    for site, a in delta.a.items():
        found.append(("delta", site, sketch_delta(a.float(), delta.b[site].float(), sketch, seed)))
    return found


def _look_at_factors(
    backbone: Backbone,
    editor: InstructedEditor,
    cases: Sequence[EditCase],
    words: Sequence[str],
    cache: PrefixCache | None,
) -> Found:
    factors = editor.capture(backbone, cases, words, cache, True)
    network, mask, found = editor.hypernetwork, factors.mask, []
    for site, stats in network.statistics().items():
        rows = stats.normalise(factors.inputs[site], factors.gradients[site], mask)
        found += _sides("before", site, *rows, mask)
    transforms: list[Any] = [shape for shape in network.shapes if isinstance(shape, ShapeTransform)]
    if transforms:
        z = network.condition(*editor.read(backbone, words, cache))
        for shape in transforms:
            keys, values = shape.transform(factors, z)
            for index, site in enumerate(shape.sites):
                found += _sides("after", site.name, keys[index], values[index], mask)
    return found


def _sides(
    when: str,
    site: str,
    inputs: Float[Tensor, "b n d_in"],
    gradients: Float[Tensor, "b n d_out"],
    mask: Bool[Tensor, "b n"],
) -> Found:
    """One vector a side: inputs weighted by the size of their row's gradient; the sum of the gradients."""
    gradients = gradients * mask[..., None]
    return [
        (f"input {when}", site, (inputs * gradients.norm(dim=-1, keepdim=True)).sum(1)),
        (f"gradient {when}", site, gradients.sum(1)),
    ]


def _pool(sites: Mapping[str, Float[Tensor, "n _"]]) -> Float[Tensor, "n _"]:
    return torch.cat(list(sites.values()), 1) / len(sites) ** 0.5
