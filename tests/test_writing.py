"""A written edit: one key and one value a site, at the subject, that add up with those of other edits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.editors.editor_file import load_editor, save_editor
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.location import output_projections
from instructedit.editors.many import EditSequence, edit_many
from instructedit.editors.polish import PolishConfig
from instructedit.editors.writing import WriteConfig
from instructedit.factors import answer_nll
from instructedit.ledger.kept import pack_edit, read_edit, unpack_edit
from ledger_solving import solve_together
from tiny_editors import tiny_case, tiny_cases, tiny_editor, tiny_opinion

pytestmark = pytest.mark.slow

WORDS = ["Change it."] * 10
STEPS = WriteConfig(steps=12, fit=2, keep=2, margin=0.0, sites=2, rate=0.3, weight=0.1)


def made(backbone: Backbone, **changes: object) -> InstructedEditor:
    """An untrained editor that writes edits where they share a model."""
    editor = tiny_editor(backbone, others=2, own=1)
    editor.adjust(write=STEPS, distil=("sentiment",), **changes)
    return editor


@torch.no_grad()
def test_a_written_edit_makes_its_answer_likelier(backbone: Backbone) -> None:
    editor, case = made(backbone), tiny_case(0)
    practice = editor.texts.practice(backbone, case, WORDS[0])
    assert practice
    sequence, asked = EditSequence(editor, backbone), backbone.prefix(practice.fit)
    sequence.add([case], WORDS[:1])
    before = answer_nll(backbone, backbone.top(asked), practice.fit).mean()
    with sequence.delta.applied_to(backbone.model):
        after = answer_nll(backbone, backbone.top(asked), practice.fit).mean()
    assert float(after) < float(before) - 0.05


def test_it_is_one_key_and_one_value_at_the_first_output_projections(backbone: Backbone) -> None:
    editor = made(backbone, near=3)
    (rows,) = editor.rows(backbone, [tiny_case(0)], WORDS[:1])
    assert list(rows) == [site.name for site in output_projections(backbone)[:2]]
    for row in rows.values():
        assert row.keys.shape[:2] == row.values.shape[:2] == (1, 1)
        assert row.fixed is not None
        assert row.fixed.shape[1] > 4 * 3  # every token of three neighbours, and the request's own others
        assert torch.isfinite(row.values).all()
        assert row.values.any()


def test_keys_weigh_more_with_their_scale(llama: Backbone) -> None:
    """The scaled key is given k / (k + ridge) of its value, which grows with the scale."""
    shares = []
    for scale in (1.0, 10.0):
        editor = made(llama)
        editor.adjust(write=WriteConfig(steps=1, sites=1, scale=scale))
        (rows,) = editor.rows(llama, [tiny_case(0)], WORDS[:1])
        ((name, row),) = rows.items()
        statistics = editor.hypernetwork.statistics()[name]
        delta, key = editor.hypernetwork.solve(rows), row.keys[0, 0].detach() * statistics.spread
        given = delta.dense(name)[0] @ key
        value = row.values[0, 0] * statistics.output_size
        share = float((given @ value / value.square().sum()).detach())
        torch.testing.assert_close(given, share * value, rtol=1e-3, atol=1e-5)
        shares.append(share)
    assert 0 < shares[0] < shares[1] < 1


def test_a_store_writes_as_strongly_as_it_is_told(llama: Backbone) -> None:
    editor, cases = made(llama), [tiny_case(0), tiny_opinion(1)]
    plain = [read_edit(editor, llama, *pair).rounds[0] for pair in zip(cases, WORDS[:2], strict=True)]
    editor.adjust(write=replace(STEPS, strength=1.5))
    strong = [read_edit(editor, llama, *pair).rounds[0] for pair in zip(cases, WORDS[:2], strict=True)]
    for factor, before, after in zip(
        (1.5, 1.0), plain, strong, strict=True
    ):  # what a pass reads stays as it is
        for name, row in before.items():
            torch.testing.assert_close(after[name].values, factor * row.values, rtol=1e-4, atol=1e-6)


def test_a_polished_edit_writes_at_the_subject_in_the_place_of_its_pass(llama: Backbone) -> None:
    editor, case, opinion = made(llama), tiny_case(0), tiny_opinion(1)
    editor.adjust(polish=PolishConfig(steps=3, fit=2, keep=2, subject=True))
    passed = editor.propose(llama, [case], WORDS[:1], whole=True)
    polished = editor.edit(llama, [case], WORDS[:1])
    (rows,) = editor.rows(llama, [case], WORDS[:1])
    reads = {
        **passed.a,
        **editor.hypernetwork.solve(rows).a,
    }  # of the written sites the key's direction alone
    for name in passed.a:
        basis, new = torch.linalg.qr(reads[name][0].detach().mT).Q, polished.dense(name)[0]
        torch.testing.assert_close(new @ basis @ basis.mT, new, rtol=1e-3, atol=1e-5)
        assert new.any()
    beside = editor.edit(llama, [opinion, case], WORDS[:2])  # one that is not polished has all of its pass
    for name in passed.a:
        torch.testing.assert_close(beside[1].dense(name), polished.dense(name), rtol=1e-3, atol=1e-5)


def test_no_steps_and_no_answer_leave_it_to_the_pass(llama: Backbone) -> None:
    editor, opinion = made(llama), tiny_opinion(0)
    written, read = editor.rows(llama, [tiny_case(0), opinion], WORDS[:2])
    assert len(written) == 2
    assert set(read) == {site.name for site in llama.sites}
    editor.adjust(write=WriteConfig())
    assert set(editor.rows(llama, [tiny_case(0)], WORDS[:1])[0]) == set(read)


def test_written_and_read_edits_share_a_model(llama: Backbone) -> None:
    editor = made(llama)
    delta = edit_many(editor, llama, [tiny_case(0), tiny_opinion(1)], WORDS[:2])
    assert set(delta.a) == {site.name for site in llama.sites}
    assert all(torch.isfinite(delta.dense(name)).all() for name in delta.a)


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_store_solves_written_edits_in_any_order(llama: Backbone, rounds: int) -> None:
    editor, cases = made(llama, rounds=rounds), [*tiny_cases(3), tiny_opinion(3)]
    read = [read_edit(editor, llama, *pair) for pair in zip(cases, WORDS[:4], strict=True)]
    edits, kept = (
        [edit.rounds for edit in read],
        [unpack_edit(pack_edit(edit, "float32")).rounds for edit in read],
    )
    whole, other = (solve_together(editor.hypernetwork, order) for order in (edits, kept[::-1]))
    for name in whole.a:
        torch.testing.assert_close(whole.dense(name), other.dense(name), rtol=1e-4, atol=1e-6)
    alone = solve_together(editor.hypernetwork, edits[:1])
    assert {name for name, norm in alone.norms().items() if float(norm)} == set(edits[0][0])


def test_the_settings_are_kept_with_the_editor(llama: Backbone, tmp_path: Path) -> None:
    editor = made(llama)
    save_editor(editor, tmp_path / "editor.safetensors", llama, {})
    assert load_editor(tmp_path / "editor.safetensors", llama).config == editor.config
