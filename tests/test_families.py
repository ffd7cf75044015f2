"""The whole way in every family: edit, apply, score, keep and read back."""

from pathlib import Path

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.editor_file import load_editor, save_editor
from instructedit.evaluation import evaluate
from instructedit.factors import answer_nll
from tiny_editors import tiny_cases, tiny_editor

pytestmark = pytest.mark.slow


def test_an_edit_is_made_applied_scored_and_kept(backbone: Backbone, tmp_path: Path) -> None:
    editor, cases = tiny_editor(backbone, log_step=-3.0), tiny_cases(2)
    save_editor(editor, tmp_path / "editor.safetensors", backbone, {})
    editor = load_editor(tmp_path / "editor.safetensors", backbone)
    delta = editor.edit(backbone, cases)
    delta.save(tmp_path / "edit.safetensors")
    loaded = LowRankDelta.load(tmp_path / "edit.safetensors")
    texts = [backbone.text(case.prompt, case.target_new) for case in cases]
    weights = {name: value.clone() for name, value in backbone.model.state_dict().items()}

    def ask() -> torch.Tensor:
        return answer_nll(backbone, backbone.top(backbone.prefix(texts)), texts)

    before = ask()
    with loaded.applied_to(backbone):
        after = ask()
        logits = backbone.model(torch.tensor([texts[0].ids] * 2)).logits
    assert bool((after < before).all())
    assert not torch.equal(logits[0], logits[1])  # each row under its own edit
    assert torch.equal(ask(), before)
    assert all(torch.equal(value, weights[name]) for name, value in backbone.model.state_dict().items())


def test_evaluation_sees_the_probabilities_move(backbone: Backbone) -> None:
    result = evaluate(backbone, tiny_editor(backbone, log_step=-3.0), tiny_cases(2))
    assert result.rows
    assert len({row["case_id"] for row in result.rows}) == 2
    sides = [(row["base_log_prob"], row["edited_log_prob"]) for row in result.rows]
    assert max(abs(edited - base) for base, edited in sides if base is not None) > 1e-3
