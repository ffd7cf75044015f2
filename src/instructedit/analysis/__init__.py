"""Which way edits point: factors and deltas of several tasks as directions, in numbers and in pictures."""

from instructedit.analysis.cells import correlate_cells, join_cells
from instructedit.analysis.collect import STAGES, collect_vectors
from instructedit.analysis.conditions import Condition, choose_cases, make_conditions
from instructedit.analysis.correlation import Correlation, correlate
from instructedit.analysis.geometry import mean_cosines, principal_angles, principal_components, silhouette
from instructedit.analysis.numbers import measure_labels, measure_turn
from instructedit.analysis.pictures import draw_embedding
from instructedit.analysis.probe import probe_labels
from instructedit.analysis.sketch import sketch_delta
from instructedit.analysis.study import Study, analyse

__all__ = [
    "STAGES",
    "Condition",
    "Correlation",
    "Study",
    "analyse",
    "choose_cases",
    "collect_vectors",
    "correlate",
    "correlate_cells",
    "draw_embedding",
    "join_cells",
    "make_conditions",
    "mean_cosines",
    "measure_labels",
    "measure_turn",
    "principal_angles",
    "principal_components",
    "probe_labels",
    "silhouette",
    "sketch_delta",
]
