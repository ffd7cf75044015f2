"""Free-words instructions: what kind of change an edit is, and how far it reaches."""

from instructedit.instructions.banks import count_instructions, list_tasks
from instructedit.instructions.compose import instruction_for, render

__all__ = ["count_instructions", "instruction_for", "list_tasks", "render"]
