"""The last check of a GGUF file: what llama.cpp itself answers, where `llama-cpp-python` is installed."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.errors import ModelError
from instructedit.types import EditCase

TOKENS = 8  # of each answer
PROMPTS = ("The capital of France is", "Water freezes at", "My brother plays the")
_PROMPTS_AT_MOST = 20
_BROKEN = (ValueError, RuntimeError, OSError, AssertionError)


@dataclass(frozen=True, slots=True)
class Answers:
    """Whether llama.cpp could be asked, and one sentence on what came of it.

    Answers may differ without an error: llama.cpp rounds activations where a weight is quantised.
    """

    asked: bool
    said: str


def find_llama_cpp() -> Any:
    """The class `llama_cpp.Llama`, or None where llama-cpp-python is not installed or cannot be loaded."""
    try:
        return import_module("llama_cpp").Llama
    except (ImportError, OSError, RuntimeError):
        return None


def compare_answers(
    delta: LowRankDelta,
    backbone: Backbone,
    cases: Sequence[EditCase],
    model: Path | None,
    adapter: Path | None = None,
) -> Answers:
    """Ask llama.cpp for greedy answers to the edits' prompts and compare them with the edited model's.

    `model` is a whole model in GGUF, `adapter` what is put on it. Token ids go in and come out, so that
    tokenizers play no part. Errors: `ModelError` when llama.cpp cannot load what was written.
    """
    llama = find_llama_cpp()
    if llama is None:
        return Answers(
            False, "llama.cpp: llama-cpp-python is not installed, so its answers were not compared"
        )
    if model is None:
        return Answers(False, "llama.cpp: no GGUF file of the base model is at hand to put the adapter on")
    prompts = [case.prompt for case in cases if case.prompt][:_PROMPTS_AT_MOST] or list(PROMPTS)
    rows = [list(backbone.text(prompt).ids) for prompt in prompts]
    with delta.to(backbone.device).applied_to(backbone.model):
        expected = [_continue(backbone.model, row) for row in rows]
    try:
        found = _ask(llama, rows, model, adapter)
    except _BROKEN as error:
        raise ModelError(
            f"llama.cpp cannot load {(adapter or model).name}: {error}. Nothing was kept. Is "
            "llama-cpp-python older than this model's architecture?"
        ) from error
    same = sum(wanted == made for wanted, made in zip(expected, found, strict=True))
    return Answers(True, f"llama.cpp: {same} of {len(rows)} greedy answers are the edited model's")


def _ask(llama: Any, rows: Sequence[list[int]], model: Path, adapter: Path | None) -> list[list[int]]:
    room = max(map(len, rows)) + TOKENS
    runner = llama(
        model_path=str(model), lora_path=str(adapter) if adapter else None, n_ctx=room, verbose=False
    )
    made = (runner.generate(row, temp=0.0, repeat_penalty=1.0) for row in rows)
    return [[int(token) for token in islice(tokens, TOKENS)] for tokens in made]


@torch.no_grad()
def _continue(model: Any, ids: Sequence[int]) -> list[int]:
    """The most likely next tokens, one by one."""
    row = list(ids)
    for _ in range(TOKENS):
        logits = model(input_ids=torch.tensor([row], device=model.device), use_cache=False).logits
        row.append(int(logits[0, -1].argmax()))
    return row[len(ids) :]
