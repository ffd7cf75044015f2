"""First look at the data: the normaliser's moments and the directions of ordinary keys."""

from collections.abc import Sequence

import torch

from instructedit.backbone import Backbone, PrefixCache, Text
from instructedit.editors.instructed import InstructedEditor
from instructedit.factors import capture, watch_sites
from instructedit.hypernetwork import Hypernetwork
from instructedit.statistics import scale_by_edit


def collect_moments(
    hypernetwork: Hypernetwork,
    backbone: Backbone,
    edits: Sequence[Text],
    ordinary: Sequence[Text],
    cache: PrefixCache | None = None,
    batch: int = 16,
) -> None:
    """Fill every site's statistics from the edits' factors, and its directions from ordinary texts."""
    statistics = hypernetwork.statistics()
    for start in range(0, len(edits), batch):
        factors = capture(backbone, edits[start : start + batch], cache)
        for name, stats in statistics.items():
            inputs = factors.inputs[name][factors.mask]
            gradients = scale_by_edit(factors.gradients[name], factors.mask)[factors.mask]
            with torch.no_grad():
                outputs = backbone.modules[name](inputs.to(backbone.dtype)).float()
            stats.update(inputs, gradients, outputs)
    if hypernetwork.config.directions:
        for name, moment in second_moments(backbone, ordinary, cache, batch).items():
            statistics[name].set_directions(moment)


def measure_instructions(
    editor: InstructedEditor,
    backbone: Backbone,
    instructions: Sequence[str],
    cache: PrefixCache | None = None,
) -> None:
    """Take the scale of instruction states, where the editor reads a code and there are instructions."""
    if editor.hypernetwork.reader is not None and len(instructions) > 1:
        editor.hypernetwork.reader.measure(editor.read(backbone, instructions, cache)[0])


@torch.no_grad()
def second_moments(
    backbone: Backbone, texts: Sequence[Text], cache: PrefixCache | None = None, batch: int = 16
) -> dict[str, torch.Tensor]:
    """E[x x.T] of every site's input over the tokens of texts, the start token left out."""
    sums: dict[str, torch.Tensor] = {}
    rows = 0
    skip = len(backbone.start_ids)
    for start in range(0, len(texts), batch):
        part = texts[start : start + batch]
        hidden = backbone.prefix(part, cache)
        with watch_sites(backbone) as (inputs, _):
            backbone.top(hidden)
        lengths = torch.tensor([len(text.ids) for text in part], device=hidden.device)
        positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
        mask = (positions < lengths[:, None]) & (positions >= skip)
        rows += int(mask.sum())
        grams: dict[int, torch.Tensor] = {}  # gate and up read the same tensor: one product for both
        for name, x in inputs.items():
            if x.data_ptr() not in grams:
                flat = x[mask].float()
                grams[x.data_ptr()] = flat.mT @ flat
            sums[name] = sums.get(name, 0) + grams[x.data_ptr()]
    return {name: total / max(rows, 1) for name, total in sums.items()}
