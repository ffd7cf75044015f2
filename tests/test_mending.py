"""Mending: ordinary text gets its answers back, and the keys of edits are left where they are."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from instructedit.backbone import Backbone, Text
from instructedit.delta import LowRankDelta
from instructedit.editors.descent import dense_delta
from instructedit.editors.editor_file import load_editor, save_editor
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.many import EditSequence
from instructedit.editors.mending import MendConfig, mend, plan_mending
from instructedit.errors import DataError
from instructedit.evaluation.curve_edits import SolvedEdits, load_edits, save_edits
from instructedit.evaluation.curve_folder import digest_cases
from instructedit.factors import answer_rows
from instructedit.metrics import kl_divergence
from instructedit.types import EditCase
from test_together import STEPS, WORDS
from tiny_editors import tiny_cases, tiny_editor, tiny_opinion

pytestmark = pytest.mark.slow

CONFIG = MendConfig(steps=12, fit=1, keep=6, weight=50.0, rate=0.05)
PLACES = 2  # sites that are mended


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTRUCTEDIT_CACHE", str(tmp_path_factory.mktemp("cache")))


def noise(backbone: Backbone, size: float = 0.2) -> dict[str, torch.Tensor]:
    """Updates that nobody asked for."""
    draw = torch.Generator().manual_seed(0)
    sites = [site.name for site in backbone.sites][:PLACES]
    shapes = {name: backbone.modules[name].weight.shape for name in sites}
    return {name: size * torch.randn(*shape, generator=draw) for name, shape in shapes.items()}


def plain_systems(updates: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.eye(u.shape[1], dtype=torch.float64) for name, u in updates.items()}


@torch.no_grad()
def harm(backbone: Backbone, texts: list[Text], change: LowRankDelta) -> float:
    """Nats that ordinary text has been moved by."""
    hidden, (rows, positions, _) = backbone.prefix(texts), answer_rows(texts, backbone.device)
    before = backbone.logits(backbone.top(hidden)[rows, positions])
    with change.applied_to(backbone.model):
        return float(kl_divergence(before, backbone.logits(backbone.top(hidden)[rows, positions])).mean())


@given(st.integers(0, 9), st.integers(0, 500), st.integers(0, 500), st.integers(1, 70))
def test_steps_are_due_by_the_count_alone(steps: int, first: int, more: int, every: int) -> None:
    """However edits are cut into batches, so many of them bring so many steps."""
    config = MendConfig(steps=steps, every=every)
    parts = sum(config.steps_between(n, n + 1) for n in range(first, first + more))
    assert config.steps_between(first, first + more) == parts
    assert config.steps_between(0, every) == steps


@pytest.mark.parametrize("wrong", [{"every": 0}, {"steps": -1}])
def test_mending_that_cannot_be_done_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(DataError, match="Expected"):
        replace(CONFIG, **wrong)


def test_ordinary_text_gets_its_answers_back(llama: Backbone) -> None:
    updates, fact = noise(llama), llama.text("The capital of France is", "Rome")
    course = plan_mending(llama, [fact], "", CONFIG, random.Random(0))
    after = mend(llama, updates, plain_systems(updates), course, CONFIG)
    asked = list(course.practice.keep)
    assert harm(llama, asked, dense_delta({n: u[None] for n, u in after.items()})) < 0.8 * harm(
        llama, asked, dense_delta({n: u[None] for n, u in updates.items()})
    )


def test_a_key_that_the_edits_know_is_left_alone(llama: Backbone) -> None:
    updates, fact = noise(llama), llama.text("The capital of France is", "Rome")
    keys = {name: torch.randn(3, u.shape[1]).double() for name, u in updates.items()}
    systems = {name: eye + 1e6 * keys[name].mT @ keys[name] for name, eye in plain_systems(updates).items()}
    course = plan_mending(llama, [fact], "", CONFIG, random.Random(0))
    after = mend(llama, updates, systems, course, replace(CONFIG, rate=1e-4))
    for name, update in updates.items():
        moved = (after[name] - update).double()
        assert float(moved.norm()) > 0
        response = float((moved @ keys[name].mT).norm())
        assert response < 1e-2 * float(moved.norm() * keys[name].norm())


def test_a_step_is_as_long_as_its_rate_says(llama: Backbone) -> None:
    """One step of a course of one, of which the warming-up leaves a third: |D|_P = rate |U|_P / 3."""
    updates, fact = noise(llama), llama.text("The capital of France is", "Rome")
    mix = {name: torch.randn(u.shape[1], u.shape[1]).double() for name, u in updates.items()}
    systems = {name: eye + mix[name] @ mix[name].mT for name, eye in plain_systems(updates).items()}
    config = replace(CONFIG, steps=1, rate=0.3)
    after = mend(llama, updates, systems, plan_mending(llama, [fact], "", config, random.Random(0)), config)
    for name, update in updates.items():
        old, moved = update.double(), (after[name] - update).double()
        square = ((moved @ systems[name]) * moved).sum() / ((old @ systems[name]) * old).sum()
        assert float(square.sqrt()) == pytest.approx(0.1, rel=1e-3)


def test_other_edits_are_in_force_all_the_while(llama: Backbone) -> None:
    """What others have done is part of what is felt: the same updates go elsewhere under them."""
    updates, fact = noise(llama), llama.text("The capital of France is", "Rome")
    course, systems = plan_mending(llama, [fact], "", CONFIG, random.Random(0)), plain_systems(updates)
    last = llama.sites[-1].name
    under = dense_delta({last: torch.randn_like(llama.modules[last].weight)[None].float()})
    alone = mend(llama, updates, systems, course, CONFIG)
    beside = mend(llama, updates, systems, course, CONFIG, under)
    assert any(not torch.allclose(alone[name], beside[name]) for name in updates)
    again = mend(llama, updates, systems, course, CONFIG, LowRankDelta({}, {}))
    assert all(torch.equal(alone[name], again[name]) for name in updates)


# In a sequence


def mended(backbone: Backbone, every: int) -> InstructedEditor:
    editor = tiny_editor(backbone, others=2, own=1)
    editor.adjust(
        together=replace(STEPS, steps=3), distil=("sentiment",), mend=replace(CONFIG, steps=2, every=every)
    )
    return editor


def run(editor: InstructedEditor, backbone: Backbone, batches: list[list[EditCase]]) -> EditSequence:
    sequence = EditSequence(editor, backbone)
    for batch in batches:
        sequence.add(batch, WORDS[: len(batch)])
    return sequence


def test_a_sequence_is_mended_when_enough_edits_have_been_made(llama: Backbone) -> None:
    cases = tiny_cases(4)
    plain, early, late = (
        run(mended(llama, every), llama, [cases[:2], cases[2:]]).updates for every in (99, 4, 5)
    )
    assert all(torch.equal(plain[name], late[name]) for name in plain)
    assert all(not torch.equal(plain[name], early[name]) for name in plain)
    assert all(bool(torch.isfinite(update).all()) for update in early.values())


def test_the_settings_are_kept_with_the_editor(llama: Backbone, tmp_path: Path) -> None:
    editor = mended(llama, 2)
    save_editor(editor, tmp_path / "editor.safetensors", llama, {})
    assert load_editor(tmp_path / "editor.safetensors", llama).config.mend == replace(
        CONFIG, steps=2, every=2
    )


def test_opinions_alone_are_not_mended(llama: Backbone) -> None:
    opinions = [tiny_opinion(number) for number in range(2)]
    first, second = (run(mended(llama, every), llama, [opinions]).updates for every in (1, 99))
    assert first
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_kept_sequence_is_mended_as_if_it_had_never_stopped(llama: Backbone, tmp_path: Path) -> None:
    cases, path = tiny_cases(4), tmp_path / "state.safetensors"
    editor = mended(llama, 2)
    whole, first = SolvedEdits(editor, llama), SolvedEdits(editor, llama)
    for start in (0, 2):
        whole.add(cases[start : start + 2], WORDS[:2])
    first.add(cases[:2], WORDS[:2])
    save_edits(first, path, {"seconds": 1.0, "records": digest_cases(cases[:2])})
    again = SolvedEdits(editor, llama)
    assert load_edits(again, path, cases, WORDS[:4]) == 1.0
    again.add(cases[2:], WORDS[:2])
    for name, update in whole.updates.items():
        torch.testing.assert_close(again.updates[name], update)
