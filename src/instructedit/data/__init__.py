"""Records of any known layout, and the project's own facts, become `EditCase`."""

from instructedit.data.layouts import task_title
from instructedit.data.paraphrase import make_rephrases
from instructedit.data.plain import plain_facts
from instructedit.data.reading import SkippedRecords, case_from_request, load_cases
from instructedit.data.records import case_to_record
from instructedit.data.splits import split_by_subject

__all__ = [
    "SkippedRecords",
    "case_from_request",
    "case_to_record",
    "load_cases",
    "make_rephrases",
    "plain_facts",
    "split_by_subject",
    "task_title",
]
