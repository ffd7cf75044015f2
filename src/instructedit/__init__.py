"""InstructEdit: correct a language model on one point, told in words what kind of correction it is.

What most programs need is here by name, and imported when it is first asked for: torch is not loaded before.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from instructedit.backbone import Backbone as Backbone
    from instructedit.backbone.loading import load_backbone as load_backbone
    from instructedit.data import case_from_request as case_from_request
    from instructedit.data import load_cases as load_cases
    from instructedit.delta import LowRankDelta as LowRankDelta
    from instructedit.editors import load_editor as load_editor
    from instructedit.editors import load_for_editor as load_for_editor
    from instructedit.editors.many import edit_many as edit_many
    from instructedit.evaluation import evaluate as evaluate
    from instructedit.evaluation import generate_greedy as generate_greedy
    from instructedit.evaluation import measure_perplexity as measure_perplexity
    from instructedit.factors import Factors as Factors
    from instructedit.types import EditCase as EditCase

_HOMES = {
    "Backbone": "backbone",
    "load_backbone": "backbone.loading",
    "case_from_request": "data",
    "load_cases": "data",
    "LowRankDelta": "delta",
    "load_editor": "editors",
    "load_for_editor": "editors",
    "edit_many": "editors.many",
    "evaluate": "evaluation",
    "generate_greedy": "evaluation",
    "measure_perplexity": "evaluation",
    "Factors": "factors",
    "EditCase": "types",
}


def __getattr__(name: str) -> Any:
    """A public name, from the module that it lives in."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
