"""Keeping an edit: a LoRA folder for peft, a merged copy of the model, or GGUF; each is loaded back."""

from instructedit.export.check import ExportReport
from instructedit.export.gguf_adapter import save_gguf
from instructedit.export.gguf_merged import save_gguf_merged
from instructedit.export.lora import save_lora
from instructedit.export.merged import save_merged

__all__ = ["ExportReport", "save_gguf", "save_gguf_merged", "save_lora", "save_merged"]
