"""Instructions by a loop: a language model describes a task, an editor is scored with each description."""

from instructedit.making.choosing import write_bank
from instructedit.making.loop import Making, MakingConfig, Records, Writer, prepare_cases, split_records
from instructedit.making.trace import Score, open_trace
from instructedit.making.trial import Examiner, Retraining, TrialEditor, keep_editor

__all__ = [
    "Examiner",
    "Making",
    "MakingConfig",
    "Records",
    "Retraining",
    "Score",
    "TrialEditor",
    "Writer",
    "keep_editor",
    "open_trace",
    "prepare_cases",
    "split_records",
    "write_bank",
]
