"""Batch after batch in one model, by any editor: what is kept of earlier edits, and going on from it."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation_fakes import NoiseEditor, empty_delta
from instructedit.backbone import Backbone
from instructedit.backbone.sites import find_sites
from instructedit.editors.alphaedit import AlphaEdit, AlphaEditSequence, null_space, solve_inside
from instructedit.editors.ultraedit import UltraEdit, answer_text
from instructedit.errors import DataError
from instructedit.evaluation.curve_edits import (
    SolvedEdits,
    SummedEdits,
    describe_edits,
    energy_rank,
    load_edits,
    save_edits,
    start_edits,
)
from instructedit.evaluation.curve_folder import digest_cases
from instructedit.factors import capture
from tiny_editors import tiny_cases, tiny_editor
from tiny_models import tiny_backbone

D_IN, D_OUT = 7, 5
WORDS = ["Change it."] * 20
KINDS = {"trained": SolvedEdits, "ultraedit": SummedEdits, "alphaedit": SummedEdits, "noise": SummedEdits}
ORDINARY = (
    "The book was written by a writer who lived in London.\nI think Rome is good. I think Madrid is bad."
)


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Ordinary text of fewer tokens than a key has sides, and a cache of the test's own."""
    monkeypatch.setenv("INSTRUCTEDIT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "short.txt"
    path.write_text(ORDINARY)
    return str(path)


@pytest.fixture(scope="module")
def model() -> Backbone:
    """Blocks 1 and 2 of four are edited: what is added after the last block tells no other token."""
    made = tiny_backbone("llama")
    sites = find_sites(made.model, "blocks=1-2")
    return Backbone(made.model, made.tokenizer, sites, made.start_ids, made.name, made.checksum)


def alphaedit(text: str) -> AlphaEdit:
    return AlphaEdit(steps=3, lr=0.1, decay=0.0, contexts=1, text=text, ridge=1e-4, threshold=1e-4)


def make(name: str, backbone: Backbone, text: str) -> object:
    if name == "trained":
        return tiny_editor(backbone, others=2, own=1)
    return {"ultraedit": UltraEdit(step=1e-4), "alphaedit": alphaedit(text), "noise": NoiseEditor()}[name]


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_kept_state_goes_on_as_if_it_had_not_stopped(
    name: str, model: Backbone, text: str, tmp_path: Path
) -> None:
    cases, path = tiny_cases(6), tmp_path / "state.safetensors"
    whole, again = (start_edits(make(name, model, text), model, cases[0], WORDS[0]) for _ in range(2))
    assert isinstance(whole, KINDS[name])
    for start in (0, 2):
        whole.add(cases[start : start + 2], WORDS[:2])
    save_edits(whole, path, {"seconds": 1.5, "records": digest_cases(cases[:4])})
    size = describe_edits(whole)["bytes"]
    assert load_edits(again, path, cases[:3], WORDS) is None
    assert (again.count, again.updates) == (0, {})
    assert load_edits(again, path, cases, WORDS) == 1.5
    for edits in (whole, again):
        edits.add(cases[4:], WORDS[:2])
    assert again.count == whole.count == 6
    for site, update in whole.updates.items():
        assert float(update.norm()) > 0
        torch.testing.assert_close(again.updates[site], update, rtol=1e-4, atol=1e-5)
    assert describe_edits(again)["bytes"] == size


def test_a_state_of_other_edits_or_a_broken_one_is_refused(model: Backbone, tmp_path: Path) -> None:
    cases, path = tiny_cases(4), tmp_path / "state.safetensors"
    edits = start_edits(NoiseEditor(), model, cases[0], "")
    assert load_edits(edits, path, cases, WORDS) is None
    edits.add(cases[:2], WORDS[:2])
    save_edits(edits, path, {"seconds": 1.0, "records": digest_cases(cases[:2])})
    with pytest.raises(DataError, match="other edits"):
        load_edits(edits, path, cases[::-1], WORDS)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"cannot go on from .*Remove the file"):
        load_edits(edits, path, cases, WORDS)


# What every batch is made on


class Listening:
    """Notes what a site gives for ones, and writes noise."""

    name = "listening"

    def __init__(self) -> None:
        self.heard: list[torch.Tensor] = []

    def edit(self, backbone, cases, instructions=None):
        site = backbone.sites[0]
        self.heard.append(backbone.modules[site.name](torch.ones(1, site.d_in)))
        return empty_delta(backbone, len(cases), 0.3)


def test_a_batch_is_made_on_the_model_as_edited_so_far(model: Backbone) -> None:
    editor, cases, site = Listening(), tiny_cases(10), model.sites[0]
    edits = SummedEdits(editor, model)
    edits.add(cases[:2], WORDS[:2])
    first = edits.updates[site.name]
    torch.testing.assert_close(first, empty_delta(model, 2, 0.3).dense(site.name).sum(0))
    edits.add(cases + cases, WORDS)  # more than are made at one time
    before, *later = editor.heard
    assert len(later) == 2
    for heard in later:
        torch.testing.assert_close(heard - before, first.sum(1)[None], rtol=1e-4, atol=1e-4)
    assert edits.count == 22
    assert not any(module._forward_hooks for module in model.model.modules())


def test_edits_that_are_no_deltas_are_refused(model: Backbone) -> None:
    class Codebook:
        name = "codebook"

        def edit(self, backbone, cases, instructions=None):
            return {"codes": len(cases)}

    with pytest.raises(DataError, match="codebook cannot be put together"):
        start_edits(Codebook(), model, tiny_cases(1)[0], "")


# AlphaEdit


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 999),
    counts=st.tuples(st.integers(0, 9), st.integers(1, 9)),
    ridge=st.floats(0.01, 100),
)
def test_alphaedit_in_sequence_is_the_papers_equation(
    seed: int, counts: tuple[int, int], ridge: float
) -> None:
    ordinary, past, keys = (
        random(seed, 3, D_IN),
        random(seed + 1, counts[0], D_IN),
        random(seed + 2, counts[1], D_IN),
    )
    residuals = random(seed + 3, counts[1], D_OUT)
    null = null_space(ordinary.T @ ordinary / 3, 1e-9)
    kept = (past @ null).T @ (past @ null) if counts[0] else None
    update = residuals.T @ solve_inside(keys @ null, kept, ridge) @ null.T
    project = null @ null.T
    system = past.T @ past @ project + keys.T @ keys @ project + ridge * torch.eye(D_IN).double()
    expected = residuals.T @ keys @ project @ torch.linalg.inv(system)
    torch.testing.assert_close(update, expected, rtol=1e-7, atol=1e-9)


def test_a_batch_of_one_is_the_single_edit(model: Backbone, text: str) -> None:
    method, cases = alphaedit(text), tiny_cases(1)
    single, first = method.edit(model, cases), method.in_sequence(model).edit(model, cases)
    for site in single.a:
        torch.testing.assert_close(first.dense(site), single.dense(site), rtol=1e-3, atol=1e-5)


def test_alphaedit_leaves_the_keys_of_earlier_batches_alone(model: Backbone, text: str) -> None:
    method, cases = alphaedit(text), tiny_cases(6)
    edits = start_edits(method, model, cases[0], "")
    edits.add(cases[:3], WORDS[:3])
    null, grams, before = edits.editor.null, dict(edits.editor.grams), dict(edits.updates)
    forgetful = SummedEdits(AlphaEditSequence(method, null), model, dict(before), 3)
    for each in (edits, forgetful):
        each.add(cases[3:], WORDS[3:6])
    for site, gram in grams.items():
        moved = []
        for each in (edits, forgetful):
            inside = (each.updates[site] - before[site]).double() @ null[site]
            moved.append(float((inside @ gram @ inside.mT).trace()))
        assert moved[0] < 0.5 * moved[1]


# UltraEdit


def test_ultraedit_solves_a_batch_together_after_it_joined_the_statistics(model: Backbone) -> None:
    method, cases = UltraEdit(step=1e-3), tiny_cases(6)
    sequence = method.in_sequence(model)
    sequence.edit(model, cases[:3])
    delta = sequence.edit(model, cases[3:])
    first, second = (capture(model, [answer_text(model, c) for c in part]) for part in (cases[:3], cases[3:]))
    for site in model.sites:
        stats = sequence.statistics[site.name]
        seen = torch.cat([part.inputs[site.name][part.mask] for part in (first, second)])
        assert float(stats.count) == len(seen)
        torch.testing.assert_close(stats.mean, seen.mean(0), rtol=1e-4, atol=1e-5)
        h, v = (x[second.mask].double() for x in method.rows(stats, second, site.name))
        expected = torch.linalg.solve(h.mT @ h + torch.eye(site.d_in).double(), h.mT @ v).mT
        assert float(expected.abs().max()) > 0
        torch.testing.assert_close(delta.dense(site.name)[0].double(), expected, rtol=1e-3, atol=1e-6)


# The state


@pytest.mark.parametrize("turn", [False, True])
def test_the_rank_is_what_holds_the_norm(turn: bool) -> None:
    matrix = torch.zeros(4, 6)
    assert energy_rank(matrix) == 0
    matrix[0, 1], matrix[1, 0], matrix[3, 5] = 3.0, 2.0, 0.01
    assert energy_rank(matrix.mT if turn else matrix) == 2
    assert energy_rank(matrix.mT if turn else matrix, 1 - 1e-9) == 3
