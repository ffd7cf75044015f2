"""What was measured, as a person reads it: the compact table, the bars, the model card. Needs no torch."""

from instructedit.report.bars import Bar, check_bars, format_bars, read_bars
from instructedit.report.card import CardFacts, make_card, read_facts
from instructedit.report.scores import Evaluation, Lever, Score, read_evaluations, read_levers, read_scores
from instructedit.report.tables import format_levers, format_scores, format_tables

__all__ = [
    "Bar",
    "CardFacts",
    "Evaluation",
    "Lever",
    "Score",
    "check_bars",
    "format_bars",
    "format_levers",
    "format_scores",
    "format_tables",
    "make_card",
    "read_bars",
    "read_evaluations",
    "read_facts",
    "read_levers",
    "read_scores",
]
