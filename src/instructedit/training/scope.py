"""Teaching an editor to read how far an edit is to reach, once it is trained."""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.reading import Reader
from instructedit.errors import DataError
from instructedit.instructions import instruction_for
from instructedit.instructions.banks import Split, find_bank, load_banks
from instructedit.training.teaching import teach
from instructedit.types import EditCase

CHUNK = 64  # instructions read at one time
SIGNS = {"narrow": -1.0, "wide": 1.0, "unsaid": 1.0}  # an edit is wide where nothing is said of it


@dataclass(frozen=True)
class ScopeConfig:
    """How scopes are learned to be read; no `instructions` leave them unread."""

    instructions: int = 0  # drawn from the banks
    unseen: int = 400  # of kept wordings, that the reading is tried on
    ridge: float = 3000.0

    def __post_init__(self) -> None:
        if self.instructions < 0:
            raise DataError(f"{self.instructions} instructions to read scopes from. Expected 0 or more.")


def teach_scope(
    path: Path, target: Path, backbone: Backbone, config: ScopeConfig, seed: int = 0
) -> dict[str, float]:
    """Teach the editor in the file `path` to read scopes, as `teach` does.

    Gives the share of unseen wordings of each scope that it reads rightly.
    """

    def learn(editor: InstructedEditor, _run: str) -> dict[str, Any]:
        readings = learn_scope(editor, backbone, config, seed)
        return {"config": asdict(config), "seed": seed, "validation": readings}

    told = draw_scopes(config.instructions, "train", seed)
    return teach("scope", path, target, backbone, [asdict(config), seed, told], learn)


def learn_scope(
    editor: InstructedEditor, backbone: Backbone, config: ScopeConfig, seed: int
) -> dict[str, float]:
    """Give an editor a reader of scopes that has learned from the banks; the share that it reads rightly."""
    told = draw_scopes(config.instructions, "train", seed)
    editor.adjust(scope=True)
    editor.scope = reader = Reader(backbone.width).to(backbone.device)
    sides = torch.tensor([SIGNS[scope] for _, scope in told], device=backbone.device)
    reader.learn(_states(editor, backbone, [words for words, _ in told]), sides, config.ridge)
    tried = draw_scopes(config.unseen, "unseen", seed)
    states = _states(editor, backbone, [words for words, _ in tried])
    found = reader(states, torch.zeros(len(tried), dtype=torch.bool, device=states.device)).tolist()
    right = {
        scope: [SIGNS[s] * x > 0 for (_, s), x in zip(tried, found, strict=True) if s == scope]
        for scope in SIGNS
    }
    return {scope: sum(hits) / len(hits) for scope, hits in right.items() if hits}


def draw_scopes(count: int, split: Split, seed: int) -> list[tuple[str, str]]:
    """Instructions for facts, each with its scope: half narrow, the others wide or silent about it."""
    rng = random.Random(f"{seed}-scopes-{split}")
    banks = [bank for bank in load_banks() if bank.scoped]
    told = []
    for number in range(count):
        scope = ("narrow", "wide", "narrow", "unsaid")[number % 4]
        bank = rng.choice(banks)
        case = EditCase(f"{number}", "", task=bank.tasks[0], kind=bank.kind)
        if scope == "unsaid":
            words = rng.choice(find_bank(case.task, case.kind).wordings[split])
        else:
            words = instruction_for(replace(case, scope=scope), split=split, seed=seed)
        told.append((words, scope))
    return told


@torch.no_grad()
def _states(editor: InstructedEditor, backbone: Backbone, words: Sequence[str]) -> Float[Tensor, "n d"]:
    parts = [words[start : start + CHUNK] for start in range(0, len(words), CHUNK)]
    return torch.cat([editor.read(backbone, part)[0] for part in parts])
