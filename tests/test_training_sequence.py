"""Edits made in one model during training: the same update as in use, in lessons that do not contradict."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.editors.many import EditSequence
from instructedit.training.lesson_step import LessonStep
from instructedit.training.loop import train
from instructedit.training.sequence import propose_sequence
from tiny_editors import CONFIG, tiny_cases, tiny_course, tiny_editor

pytestmark = pytest.mark.slow

WORDS = ["Change it.", "Insert it.", "", "Change it.", "Replace it.", "Change it."]


@pytest.mark.parametrize("size", [2, 4, 6])
def test_training_meets_the_update_of_use(llama: Backbone, size: int) -> None:
    editor, cases = tiny_editor(llama, others=2, own=1, log_step=0.5), tiny_cases(6)
    sequence = EditSequence(editor, llama)
    for start in range(0, 6, size):
        sequence.add(cases[start : start + size], WORDS[start : start + size])
    found = propose_sequence(editor, llama, cases, WORDS, size)
    for name, update in sequence.updates.items():
        assert len(found.a[name]) == 1
        torch.testing.assert_close(found.dense(name)[0], update, rtol=2e-3, atol=1e-6)


def test_an_editor_that_sums_meets_the_sum(llama: Backbone) -> None:
    editor, cases = tiny_editor(llama, aggregation="sum"), tiny_cases(3)
    alone = editor.propose(llama, cases, WORDS[:3])
    whole = propose_sequence(editor, llama, cases, WORDS[:3], 2)
    for name in alone.a:
        torch.testing.assert_close(whole.dense(name)[0], alone.dense(name).sum(0), rtol=1e-4, atol=1e-6)


def test_every_weight_learns_from_every_batch(llama: Backbone) -> None:
    editor = tiny_editor(llama, others=1, log_step=0.5)
    course = tiny_course(replace(CONFIG, together=1.0, batch=4))
    step = LessonStep(editor, llama, None, replace(CONFIG, upon=2))
    lessons = course.lessons(0)
    loss, _ = step(lessons, True)
    loss.backward()
    assert all(float(shape.log_step.grad.abs().min()) > 0 for shape in editor.hypernetwork.shapes)
    alone, _ = step(lessons, False)
    assert float((alone - loss).detach().abs()) > 1e-6  # the edits feel one another


def test_no_two_edits_of_one_model_are_about_one_subject() -> None:
    config = replace(CONFIG, together=0.5, batch=4)
    course = tiny_course(config)
    joint = [step for step in range(40) if course.together(step)]
    assert 5 < len(joint) < 35
    for step in joint:
        subjects = [lesson.case.subject for lesson in course.lessons(step)]
        assert len(set(subjects)) == len(subjects) == 4
    plain = tiny_course(replace(config, together=0.0))
    for step in set(range(40)) - set(joint):
        assert course.lessons(step) == plain.lessons(step)


def test_a_run_makes_some_steps_together_and_is_scored_both_ways(llama: Backbone, tmp_path: Path) -> None:
    config = replace(CONFIG, together=0.5, upon=2, steps=6, batch=4, micro=4, validate_every=6)
    train(config, llama, tiny_course(config), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert 0 < sum("together/bare" in line for line in steps) < len(steps)
    readings = next(line for line in lines if "validation" in line)
    assert any(name.startswith("together/") for name in readings)
