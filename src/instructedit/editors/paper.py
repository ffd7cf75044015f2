"""The paper's InstructEdit: a MEND editor that has an instruction in front of every edit's text."""

from dataclasses import dataclass
from typing import ClassVar

from instructedit.editors.mend import MENDConfig, MENDEditor
from instructedit.editors.requests import EditorConfig


@dataclass(frozen=True)
class PaperConfig(MENDConfig):
    """The settings of the paper's editor: those of `MENDConfig`, and the prefix."""

    paper: ClassVar[str] = EditorConfig.paper

    name: str = "paper"
    prefix: bool = True
    kind: str = "paper"  # type: ignore[misc]  # a field here, so that files say it


class PaperEditor(MENDEditor):
    """InstructEdit as published: what an instruction changes is the text whose gradients are read.

    Source: InstructEdit (arXiv 2402.16123), section 3.
    """

    settings: ClassVar[type[EditorConfig]] = PaperConfig
