"""Did the edit work, and what else did it change: every probe before and after, with intervals."""

from instructedit.evaluation.bootstrap import Estimate, clusters_of, estimate, paired_difference
from instructedit.evaluation.generation import generate_greedy
from instructedit.evaluation.leverage import LeverageResult, format_leverage, measure_leverage
from instructedit.evaluation.perplexity import Perplexity, measure_perplexity
from instructedit.evaluation.rows import read_rows, select, write_rows
from instructedit.evaluation.single import EvaluationResult, evaluate
from instructedit.evaluation.summary import format_summary, summarise

__all__ = [
    "Estimate",
    "EvaluationResult",
    "LeverageResult",
    "Perplexity",
    "clusters_of",
    "estimate",
    "evaluate",
    "format_leverage",
    "format_summary",
    "generate_greedy",
    "measure_leverage",
    "measure_perplexity",
    "paired_difference",
    "read_rows",
    "select",
    "summarise",
    "write_rows",
]
