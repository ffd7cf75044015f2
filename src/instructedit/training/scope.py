"""Teaching an editor to read from an instruction how far an edit shall reach."""

from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from jaxtyping import Bool, Float
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.editors.editor_file import load_editor, read_facts, save_editor
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.reading import Reader
from instructedit.editors.scope import NARROW, scope_states
from instructedit.errors import DataError
from instructedit.instructions import scope_instructions
from instructedit.instructions.banks import Split

OPERATIONS = 4  # that each wording of a scope is put behind
RIDGE = 150.0


def teach_scope_file(path: Path, target: Path, backbone: Backbone, seed: int = 0) -> dict[str, float]:
    """`teach_scope` for the editor in the file `path`; it is written to `target`, which may be the same.

    Of several processes the main one does it all, the others give nothing. Errors: as `teach_scope`.
    """
    if not Accelerator(cpu=backbone.device.type == "cpu").is_main_process:
        return {}
    editor = load_editor(path, backbone)
    right = teach_scope(editor, backbone, seed)
    told = {"seed": seed, "validation": right}
    save_editor(editor, target, backbone, {**read_facts(path), "scope": told})
    return right


@torch.no_grad()
def teach_scope(editor: InstructedEditor, backbone: Backbone, seed: int = 0) -> dict[str, float]:
    """Have an editor learn narrow scopes from wide ones, from the wordings of the banks and nothing else.

    Gives the share of unseen wordings that it reads right, by scope. Errors: `DataError` for an editor that
    reads no instructions.
    """
    if editor.hypernetwork.reader is None:
        raise DataError(
            "this editor reads no instructions, so it cannot be told a scope. Expected one with "
            "editor.transform.code above zero, or --set editor.polish.scoped=false."
        )
    editor.adjust(polish=replace(editor.config.polish, scoped=True))
    editor.scope = Reader(2 * backbone.width).to(backbone.device)
    states, narrow = _states(backbone, "train", seed)
    editor.scope.learn(states, torch.where(narrow, -1.0, 1.0), RIDGE)
    states, narrow = _states(backbone, "unseen", seed)
    found = editor.scope(states, torch.zeros_like(narrow)) < NARROW
    return {"narrow": float(found[narrow].float().mean()), "wide": float((~found)[~narrow].float().mean())}


def _states(backbone: Backbone, split: Split, seed: int) -> tuple[Float[Tensor, "n d2"], Bool[Tensor, " n"]]:
    """What the editor sees of every instruction, and whether it is a narrow one."""
    told = scope_instructions(split, OPERATIONS, seed)
    words = sorted(told, key=len)  # of like length side by side, so that little is padding
    states = torch.cat([scope_states(backbone, words[i : i + 64]) for i in range(0, len(words), 64)])
    return states, torch.tensor([told[text] == "narrow" for text in words], device=states.device)
