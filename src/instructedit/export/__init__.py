"""Keeping an edit: as a PEFT LoRA folder, or merged into a copy of the model. Both are loaded back."""

from instructedit.export.check import ExportReport
from instructedit.export.lora import save_lora
from instructedit.export.merged import save_merged

__all__ = ["ExportReport", "save_lora", "save_merged"]
