"""Teaching an editor to read from an instruction whether it erases, and how far an edit shall reach."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from jaxtyping import Bool, Float
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.editors.editor_file import load_editor, read_facts, save_editor
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.reading import Reader
from instructedit.editors.told import ERASES, are_erasures, are_narrow, kind_states, scope_states
from instructedit.errors import DataError
from instructedit.instructions.banks import Split
from instructedit.training.asked import free_wordings, kinds_to_read, scopes_to_read

OPERATIONS, SCOPES = 4, 6  # that each wording of a scope is put behind; that each operation is put before
RIDGE = 2.6  # for each number that is read
TURNS, HARDER = 8, 5


def teach_told_file(path: Path, target: Path, backbone: Backbone, seed: int = 0) -> dict[str, float]:
    """`teach_told` for the editor in the file `path`; it is written to `target`, which may be the same.

    Of several processes the main one does it all, the others give nothing. Errors: as `teach_told`.
    """
    if not Accelerator(cpu=backbone.device.type == "cpu").is_main_process:
        return {}
    editor = load_editor(path, backbone)
    right = teach_told(editor, backbone, seed)
    told = {"seed": seed, "validation": right}
    save_editor(editor, target, backbone, {**read_facts(path), "told": told})
    return right


@torch.no_grad()
def teach_told(editor: InstructedEditor, backbone: Backbone, seed: int = 0) -> dict[str, float]:
    """Have an editor tell erasures and narrow scopes from the rest, by the wordings of the banks and of
    ``asked.yaml`` alone.

    Gives the share of unseen wordings that it reads right, by what they ask for. Errors: `DataError` for an
    editor that reads no instructions.
    """
    if editor.hypernetwork.reader is None:
        raise DataError(
            "this editor reads no instructions, so it cannot be told a kind or a scope. Expected one with "
            "editor.transform.code above zero, or --set editor.polish.scoped=false."
        )
    editor.adjust(polish=replace(editor.config.polish, scoped=True))
    editor.scope, editor.kind = (Reader(2 * backbone.width).to(backbone.device) for _ in range(2))
    states, narrow = _read(backbone, scope_states, _narrow("train", seed))
    _fit(editor.scope, states, ~narrow)
    kinds = kinds_to_read("train", SCOPES, seed)
    _learn_kinds(
        editor.kind, *_read(backbone, kind_states, kinds, twice=kinds.keys() - free_wordings("train"))
    )

    small = _right(partial(are_narrow, editor.scope), backbone, _narrow("unseen", seed))
    gone = _right(partial(are_erasures, editor.kind), backbone, kinds_to_read("unseen", SCOPES, seed))
    return {"narrow": small[True], "wide": small[False], "erase": gone[True], "keep": gone[False]}


def _right(
    read: Callable[[Backbone, Sequence[str]], Tensor], backbone: Backbone, told: Mapping[str, bool]
) -> dict[bool, float]:
    """The share of instructions that are read as `told`, of either side."""
    words, sides = list(told), torch.tensor(list(told.values()))
    found = torch.cat([read(backbone, words[i : i + 64]).cpu() for i in range(0, len(words), 64)])
    return {side: float((found == side)[sides == side].float().mean()) for side in (True, False)}


def _fit(reader: Reader, states: Float[Tensor, "n _"], sides: Bool[Tensor, " n"]) -> None:
    reader.learn(states, torch.where(sides, 1.0, -1.0), RIDGE * states.shape[1])


def _learn_kinds(reader: Reader, states: Float[Tensor, "n _"], erases: Bool[Tensor, " n"]) -> None:
    """Tell erasures from the rest, both sides counting alike.

    An instruction that erases nothing must not be read as if it did: such a one counts more in the next turn.
    """
    kept = states[~erases]
    known, sides = states, erases
    for _ in range(TURNS):
        _fit(reader, *_balance(known, sides))
        wrong = kept[reader(kept, kept.new_zeros(len(kept), dtype=torch.bool)) > ERASES]
        if not len(wrong):
            return
        known = torch.cat([known, wrong.repeat(HARDER, 1)])
        sides = torch.cat([sides, sides.new_zeros(HARDER * len(wrong))])


def _narrow(split: Split, seed: int) -> dict[str, bool]:
    return {words: scope == "narrow" for words, scope in scopes_to_read(split, OPERATIONS, seed).items()}


def _read(
    backbone: Backbone,
    see: Callable[[Backbone, Sequence[str]], Tensor],
    told: Mapping[str, bool],
    twice: Collection[str] = (),
) -> tuple[Float[Tensor, "n _"], Bool[Tensor, " n"]]:
    """What the editor sees of every instruction, and what `told` says of it; some of them `twice`."""
    words = sorted(told, key=len)  # of like length side by side, so that little is padding
    states = torch.cat([see(backbone, words[i : i + 64]) for i in range(0, len(words), 64)])
    places = [*range(len(words)), *(place for place, text in enumerate(words) if text in twice)]
    sides = torch.tensor([told[words[place]] for place in places], device=states.device)
    return states[places], sides


def _balance(
    states: Float[Tensor, "n _"], sides: Bool[Tensor, " n"]
) -> tuple[Float[Tensor, "m _"], Bool[Tensor, " m"]]:
    """As many of both sides: those of the smaller one are repeated by turns."""
    true, false = sides.nonzero()[:, 0], (~sides).nonzero()[:, 0]
    most = torch.arange(max(len(true), len(false)), device=states.device)
    places = torch.cat([true[most % len(true)], false[most % len(false)]])
    return states[places], sides[places]
