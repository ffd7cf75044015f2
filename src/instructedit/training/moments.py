"""First look at the data: the normaliser's moments and the directions of ordinary keys."""

from collections.abc import Sequence

from instructedit.backbone import Backbone, PrefixCache, Text
from instructedit.editors.covariance import second_moments, update_statistics
from instructedit.editors.instructed import InstructedEditor
from instructedit.factors import capture
from instructedit.hypernetwork import Hypernetwork


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
        update_statistics(statistics, backbone, capture(backbone, edits[start : start + batch], cache))
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
