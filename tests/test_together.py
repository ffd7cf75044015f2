"""Facts that share a model: written at their subjects, a batch at once, and left alone by later batches."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instructedit.backbone import Backbone, PrefixCache, Text
from instructedit.editors import many
from instructedit.editors.course import Company, plan_course
from instructedit.editors.drill import DescentConfig, Practice
from instructedit.editors.editor_file import load_editor, save_editor
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.many import EditSequence, Pair, edit_many
from instructedit.editors.together import FactWriter, TogetherConfig, single_out
from instructedit.errors import ModelError
from instructedit.evaluation import evaluate
from instructedit.evaluation.curve_edits import SolvedEdits, load_edits, save_edits
from instructedit.evaluation.curve_folder import digest_cases
from instructedit.factors import answer_nll
from instructedit.types import EditCase
from tiny_editors import tiny_case, tiny_cases, tiny_editor, tiny_opinion

pytestmark = pytest.mark.slow

WORDS = ["Change it."] * 10
STEPS = TogetherConfig(
    steps=10,
    depth=0.0,
    sites=2,
    margin=0.0,
    rate=0.5,
    weight=0.1,
    drift=0.0,
    exchange=0.0,
    ridge=0.01,
    rounds=1,
    asked=0,
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTRUCTEDIT_CACHE", str(tmp_path_factory.mktemp("cache")))


def made(backbone: Backbone, **changes: object) -> InstructedEditor:
    """An untrained editor whose facts are written where they share a model."""
    editor = tiny_editor(backbone, others=2, own=1)
    editor.adjust(together=replace(STEPS, **changes), distil=("sentiment",), near=2)
    return editor


def matrix(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# What singles a key out


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_rows_are_those_of_the_normal_equation(count: int, known: int, seed: int) -> None:
    """(K P^-1 K.T + I)^-1 K P^-1 = ((P + K.T K)^-1 K.T).T, by Woodbury's identity."""
    keys, past = matrix(seed, count, 7), matrix(seed + 1, known, 7)
    system = past.mT @ past + torch.eye(7, dtype=torch.float64)
    primal = torch.linalg.solve(system + keys.mT @ keys, keys.mT).mT
    torch.testing.assert_close(single_out(keys, system), primal, rtol=1e-8, atol=1e-10)


def test_a_key_is_singled_out_from_its_batch_and_from_the_past() -> None:
    keys, past = matrix(0, 3, 12), matrix(1, 4, 12)
    rows = single_out(keys, 1e-6 * torch.eye(12, dtype=torch.float64) + 1e4 * past.mT @ past)
    torch.testing.assert_close(rows @ keys.mT, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-3)
    assert float((rows @ past.mT).abs().max()) < 1e-3


# What is practised


def texts(first: int, count: int) -> tuple[Text, ...]:
    return tuple(Text((0, first + i, 9), 2) for i in range(count))


def test_a_course_asks_each_fact_and_its_company_by_weight() -> None:
    practices = [Practice(texts(10, 5), texts(20, 6)), Practice(texts(30, 5), texts(40, 1))]
    company = Company(texts(50, 8), texts(60, 9), replay=2, texts=3, weight=6.0)
    config = DescentConfig(steps=4, fit=2, keep=3, weight=1.5)
    course = plan_course(practices, company, config, random.Random(0))
    told = (*course.practice.fit, *course.practice.keep)
    assert len(course.steps) == 4
    for step in course.steps:
        by_text = {told[place].ids[1]: weight for place, weight in step.items()}
        for bare in (10, 30):
            assert by_text[bare] == pytest.approx(1 / 3)  # with every step
            assert sum(w for i, w in by_text.items() if bare <= i < bare + 5) == pytest.approx(1)
        assert sum(w for i, w in by_text.items() if 20 <= i < 26) == pytest.approx(1.5)
        assert by_text[40] == pytest.approx(1.5)  # the only one takes all of the weight
        assert [w for i, w in by_text.items() if 50 <= i < 58] == [1, 1]
        assert [w for i, w in by_text.items() if 60 <= i < 69] == [2.0, 2.0, 2.0]
    assert set().union(*course.steps) == set(range(len(told)))  # what is never asked is not computed
    assert course == plan_course(practices, company, config, random.Random(0))


# What is written


@torch.no_grad()
def test_a_batch_makes_its_answers_likelier(backbone: Backbone) -> None:
    editor, cases = made(backbone), tiny_cases(2)
    practices = [editor.texts.practice(backbone, case, WORDS[0]) for case in cases]
    asked = [text for practice in practices if practice for text in practice.fit]
    sequence = EditSequence(editor, backbone)
    wide = sequence.backbone
    before = answer_nll(wide, wide.top(wide.prefix(asked)), asked)
    sequence.add(cases, WORDS[:2])
    with sequence.delta.applied_to(backbone.model):
        after = answer_nll(wide, wide.top(wide.prefix(asked)), asked)
    assert float((after - before).mean()) < -0.02
    assert {name.split(".")[2] for name in sequence.updates} == {"0", "1"}  # of the first two blocks


def test_what_is_written_below_the_editors_own_sites_is_measured(llama: Backbone, tmp_path: Path) -> None:
    """The prefix of the editor's own backbone would hide an edit of the first block."""
    editor, cases = made(llama), tiny_cases(2)
    delta = edit_many(editor, llama, cases, WORDS[:2])
    assert llama.first_block == 1
    assert llama.reaching(delta.a).first_block == 0
    cache = PrefixCache(tmp_path, llama)
    result = evaluate(llama, editor, cases, together=2, resamples=0, instructed=False, cache=cache)
    found = next(row for row in result.rows if row["group"] == "reliability" and row["case"] == 0)
    text = llama.text(cases[0].prompt, cases[0].wanted)
    ids = torch.tensor([text.ids])
    with (
        torch.no_grad(),
        edit_many(editor, llama, cases, [row["instruction"] for row in result.rows][:1] * 2).applied_to(
            llama.model
        ),
    ):
        logits = llama.model(input_ids=ids).logits[0].log_softmax(-1)
    whole = torch.stack([logits[p, text.ids[p + 1]] for p in text.positions]).mean()
    assert found["edited_log_prob"] != pytest.approx(found["base_log_prob"], abs=1e-3)
    assert found["edited_log_prob"] == pytest.approx(float(whole), abs=0.05)


def test_a_backbone_reaches_what_it_has_already(llama: Backbone) -> None:
    assert llama.reaching([site.name for site in llama.sites]) is llama
    low = ["model.layers.0.mlp.down_proj", "model.layers.0.mlp.up_proj"]
    lower = llama.reaching(low)
    assert {site.name for site in lower.sites} == {*low, *(site.name for site in llama.sites)}
    assert llama.reaching(low[::-1]) is lower  # made, and its head checked, once
    assert lower.reaching(low) is lower
    with pytest.raises(ModelError, match="no layer matches"):
        llama.reaching(["model.layers.9.mlp.down_proj"])


def test_a_later_batch_leaves_earlier_keys_alone(llama: Backbone) -> None:
    editor, cases = made(llama, replay=0), tiny_cases(4)
    sequence = EditSequence(editor, llama)
    sequence.add(cases[:2], WORDS[:2])
    first, before = dict(sequence.updates), sequence.delta
    forgetful = EditSequence(editor, llama, updates=first)  # the same updates, and no memory of their keys
    assert sequence.writer
    assert forgetful.writer
    name = sequence.writer.names[0]  # what its keys are does not depend on what is written
    for edits in (sequence, forgetful):
        edits.add(cases[2:], WORDS[2:4])
    held = FactWriter(llama, replace(STEPS, ridge=0.0))
    held.systems = {site: torch.zeros(64, 64, dtype=torch.float64) for site in held.names}
    held.hold(cases[:2], before)
    kept, free = (
        float(torch.trace(change @ held.systems[name].float() @ change.mT))
        for edits in (sequence, forgetful)
        for change in [(edits.delta.dense(name) - before.dense(name))[0]]
    )
    assert kept < 0.5 * free


def test_ordinary_text_is_the_users_where_there_is_some(llama: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("\n".join(f"In our shop the number {n} is sold every day of the week" for n in range(9)))
    editor, found = made(llama), []
    for text in ("", str(path)):
        editor.adjust(text=text)
        sequence = EditSequence(editor, llama)
        sequence.add(tiny_cases(2), WORDS[:2])
        assert sequence.writer
        found.append((sequence.writer.read_ordinary(), sequence.updates))
    for name in found[0][0]:
        assert not torch.allclose(found[0][0][name], found[1][0][name])
        assert not torch.allclose(found[0][1][name], found[1][1][name])


def test_ordinary_keys_are_given_less_where_drift_costs_more(llama: Backbone) -> None:
    felt = []
    for drift in (0.0, 100.0):
        sequence = EditSequence(made(llama, drift=drift), llama)
        sequence.add(tiny_cases(2), WORDS[:2])
        assert sequence.writer
        ordinary = sequence.writer.read_ordinary()
        felt.append(
            sum(
                float(torch.trace(update.double() @ ordinary[name] @ update.double().mT))
                for name, update in sequence.updates.items()
            )
        )
    assert 0 < felt[1] < 0.7 * felt[0]


def test_what_is_lost_of_earlier_edits_is_made_again(
    llama: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor, cases = made(llama, rounds=4, asked=16, steps=2), tiny_cases(4)
    written: list[list[EditCase]] = []
    monkeypatch.setattr(
        editor, "taken", lambda _backbone, asked, _delta: [case != cases[1] for case in asked]
    )
    sequence = EditSequence(editor, llama)
    plain = sequence._write

    def noted(writer: FactWriter, part: Sequence[Pair], past: Sequence[Pair]) -> None:
        written.append([case for case, _ in part])
        plain(writer, part, past)

    monkeypatch.setattr(sequence, "_write", noted)
    sequence.add(cases[:2], WORDS[:2])
    assert written == [cases[:2], *[cases[1:2]] * 3]
    written.clear()
    sequence.add(cases[2:3], WORDS[:1])
    assert written == [cases[2:3], *[cases[1:2]] * 3]
    written.clear()
    sequence.add(
        [replace(cases[1], target_new="Paris")], WORDS[:1]
    )  # it takes the place of the one that is lost
    assert all(part[0].target_new == "Paris" for part in written)
    written.clear()
    sequence.add(cases[3:4], WORDS[:1])  # nothing is lost now, and nothing asked of an empty list
    assert written == [cases[3:4]]
    assert (sequence.count, len(sequence.past)) == (5, 4)


def test_a_large_batch_is_written_in_parts_that_spare_one_another(
    llama: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = tiny_cases(5)
    monkeypatch.setattr(many, "WRITTEN", 2)
    parts, whole = (EditSequence(made(llama, replay=0, steps=3), llama) for _ in range(2))
    parts.add(cases, WORDS[:5])
    for start in (0, 2, 4):
        part = cases[start : start + 2]
        whole.add(part, WORDS[: len(part)])
    for name, update in parts.updates.items():
        torch.testing.assert_close(update, whole.updates[name], rtol=1e-3, atol=1e-5)


def test_opinions_are_read_beside_facts_that_are_written(llama: Backbone) -> None:
    delta = edit_many(made(llama), llama, [tiny_case(0), tiny_opinion(1)], WORDS[:2])
    written = {"model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"}
    assert set(delta.a) == {site.name for site in llama.sites} | written
    assert all(torch.isfinite(delta.dense(name)).all() for name in delta.a)
    opinion = edit_many(made(llama), llama, [tiny_opinion(1), tiny_opinion(2)], WORDS[:2])
    assert set(opinion.a) == {site.name for site in llama.sites}


def test_a_kept_sequence_goes_on_as_if_it_had_not_stopped(llama: Backbone, tmp_path: Path) -> None:
    cases, path = tiny_cases(4), tmp_path / "state.safetensors"
    whole, again = (SolvedEdits(made(llama), llama) for _ in range(2))
    whole.add(cases[:2], WORDS[:2])
    save_edits(whole, path, {"seconds": 1.0, "records": digest_cases(cases[:2])})
    assert load_edits(again, path, cases, WORDS) == 1.0
    for edits in (whole, again):
        edits.add(cases[2:], WORDS[:2])
    for name, update in whole.updates.items():
        torch.testing.assert_close(again.updates[name], update, rtol=1e-4, atol=1e-6)


def test_the_settings_are_kept_with_the_editor(llama: Backbone, tmp_path: Path) -> None:
    editor = made(llama)
    save_editor(editor, tmp_path / "editor.safetensors", llama, {})
    assert load_editor(tmp_path / "editor.safetensors", llama).config == editor.config
