"""Training on a tiny model: the loss falls, the best editor is kept, and what decides a run is checked."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.editors.editor_file import load_editor, read_header
from instructedit.editors.instructed import InstructedEditor
from instructedit.errors import DataError
from instructedit.storage import load_tensors
from instructedit.training import loop
from instructedit.training.checkpoint import load_checkpoint
from instructedit.training.course import Course
from instructedit.training.loop import STEP_SIZES, parameter_groups, schedule, train
from tiny_editors import CONFIG, tiny_cases, tiny_course, tiny_editor
from tiny_models import tiny_backbone

pytestmark = pytest.mark.slow


def run(out: Path, backbone: Backbone, **changes: object) -> loop.TrainResult:
    config = replace(CONFIG, **changes)
    return train(config, backbone, tiny_course(config), out, cache_folder=out.parent / "cache")


def lines(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_the_loss_falls_and_is_written_down(llama: Backbone, tmp_path: Path) -> None:
    result = run(tmp_path / "run", llama, steps=30, batch=4, validate_every=15)
    steps = [line for line in lines(tmp_path / "run") if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 31))
    losses = torch.tensor([line["loss"] for line in steps])
    assert float(losses[-8:].mean()) < 0.9 * float(losses[:4].mean())
    scores = {line["step"]: line["validation"] for line in lines(tmp_path / "run") if "validation" in line}
    assert list(scores) == [15, 30]
    assert result.score == pytest.approx(max(scores.values()), abs=1e-5)
    assert result.steps_run == 30
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "editor.safetensors",
        "metrics.jsonl",
        "checkpoint.safetensors",
    }
    header = read_header(result.editor)
    assert header["config"]["steps"] == 30
    assert header["step"] == result.step
    load_editor(result.editor, llama).edit(llama, tiny_cases(1))


def test_the_best_editor_is_kept(llama: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, seen = iter([0.1, 0.5, 0.3]), []

    def score(module: torch.nn.Module, _lessons: object) -> tuple[float, dict[str, float]]:
        seen.append({name: value.clone() for name, value in module.editor.state_dict().items()})
        return next(scores), {}

    monkeypatch.setattr(loop, "validation_score", score)
    result = run(tmp_path / "run", llama, validate_every=2)
    assert (result.step, result.score, result.steps_run) == (4, 0.5, 6)
    best = load_editor(result.editor, llama).state_dict()
    for name, value in seen[1].items():
        assert torch.equal(best[name], value.half().float() if value.ndim > 1 else value)
    assert any(not torch.equal(seen[1][name], seen[2][name]) for name in best)


def test_without_validation_lessons_the_last_editor_is_kept(llama: Backbone, tmp_path: Path) -> None:
    changes = {"validation": 0.0, "steps": 4, "validate_every": 1, "patience": 1}
    result = run(tmp_path / "run", llama, **changes)
    assert (result.step, result.steps_run) == (4, 4)
    learned = load_tensors(result.editor)[0]
    state = load_tensors(tmp_path / "run" / "checkpoint.safetensors")[0]
    for name, value in learned.items():
        expected = state[f"model.{name}"]
        assert torch.equal(value, expected.half() if value.dtype == torch.float16 else expected)


def test_all_processes_decide_by_the_score_of_the_main_one(
    llama: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter([0.7, 0.6, 0.6, 0.6])  # what another process hears, whatever it has found itself

    def hear(values: list[float]) -> None:
        values[0] = next(told)

    monkeypatch.setattr(loop, "broadcast_object_list", hear)
    result = run(tmp_path / "run", llama, steps=9, validate_every=1, patience=2)
    assert (result.score, result.step, result.steps_run) == (0.7, 1, 4)


def test_training_stops_when_nothing_gets_better(llama: Backbone, tmp_path: Path) -> None:
    result = run(tmp_path / "run", llama, steps=20, validate_every=1, patience=1, lr=0.0, lr_steps=0.0)
    assert (result.step, result.steps_run) == (1, 3)
    assert [line["step"] for line in lines(tmp_path / "run") if "loss" in line] == [1, 2, 3]


def test_one_process_stays_on_the_device_of_its_model(
    llama: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = property(lambda _self: torch.device("meta"))  # as "cuda" beside a model on cuda:1
    monkeypatch.setattr("accelerate.Accelerator.device", elsewhere)
    result = run(tmp_path / "run", llama, steps=1)
    assert all(value.device.type == "cpu" for value in load_tensors(result.editor)[0].values())


def test_the_seed_decides(llama: Backbone, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    editors = [run(tmp_path / name, llama, seed=seed).editor for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    assert editors[0].read_bytes() == editors[1].read_bytes()
    first, other = (load_tensors(editors[index])[0] for index in (0, 2))
    assert all(not torch.equal(first[n], other[n]) for n in first if n.endswith((".down", ".up", "log_step")))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("prefix", [False, True])
def test_half_precision_and_both_ways_of_instruction(tmp_path: Path, prefix: bool) -> None:
    source = tiny_backbone("llama")
    model = source.model.to(torch.bfloat16)
    backbone = Backbone(model, source.tokenizer, source.sites, (0,), "half", source.checksum)
    editor = replace(
        CONFIG.editor, prefix=prefix, transform=replace(CONFIG.editor.transform, code=0 if prefix else 8)
    )
    result = run(tmp_path / "run", backbone, editor=editor, steps=3)
    tensors, _ = load_tensors(result.editor)
    assert all(torch.isfinite(value).all() for value in tensors.values())
    assert all(line["loss"] > 0 for line in lines(tmp_path / "run") if "loss" in line)


@pytest.mark.parametrize("change", [{"lr": 1e-4}, {"seed": 3}, {"editor": "rank"}])
def test_another_run_is_refused(llama: Backbone, tmp_path: Path, change: dict) -> None:
    run(tmp_path / "run", llama, steps=2)
    if "editor" in change:
        change = {"editor": replace(CONFIG.editor, transform=replace(CONFIG.editor.transform, rank=5))}
    before = (tmp_path / "run" / "editor.safetensors").read_bytes()
    with pytest.raises(DataError, match="another folder"):
        run(tmp_path / "run", llama, steps=2, **change)
    with pytest.raises(DataError, match="other settings, data or model"):
        train(replace(CONFIG, steps=2), llama, Course(tiny_cases(4), [], CONFIG), tmp_path / "run")
    assert (tmp_path / "run" / "editor.safetensors").read_bytes() == before


def test_a_broken_checkpoint_is_one_message(llama: Backbone, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"cut")
    editor = tiny_editor(llama)
    with pytest.raises(DataError, match="remove it to begin again"):
        load_checkpoint(
            tmp_path / "checkpoint.safetensors", editor, torch.optim.Adam(editor.parameters()), ""
        )


def test_every_parameter_is_in_one_group(llama: Backbone) -> None:
    editor: InstructedEditor = tiny_editor(llama, others=1)
    rest, steps = parameter_groups(editor, CONFIG)
    ids = [id(p) for group in (rest, steps) for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in editor.parameters())
    names = {id(p): name.rsplit(".", 1)[-1] for name, p in editor.named_parameters()}
    assert {names[id(p)] for p in steps["params"]} == set(STEP_SIZES)
    assert (rest["lr"], steps["lr"]) == (CONFIG.lr, CONFIG.lr_steps)


def test_held_subjects_are_never_taught() -> None:
    course = tiny_course(replace(CONFIG, batch=20, validation=0.3))
    held = {case.subject for case in course.held}
    taught = [lesson for step in range(20) for lesson in course.lessons(step)]
    assert held
    assert {lesson.case.subject for lesson in taught} == {case.subject for case in course.train}
    assert held.isdisjoint(case.subject for case in course.train)
    prompts = [item.prompt for lesson in taught for item in lesson.items]
    assert not [prompt for prompt in prompts if any(subject in prompt for subject in held)]
    assert {lesson.case.subject for lesson in course.validation()} <= held
    assert course.validation() == tiny_course(replace(CONFIG, batch=20, validation=0.3)).validation()


def test_lessons_depend_on_seed_and_step_alone() -> None:
    course = tiny_course()
    later = course.lessons(5)
    assert [course.lessons(step) for step in range(6)][5] == later == tiny_course().lessons(5)
    assert course.lessons(4) != later
    assert tiny_course(replace(CONFIG, seed=1)).lessons(5) != later


def test_all_texts_of_a_run_are_known_before_it_begins(llama: Backbone, tmp_path: Path, monkeypatch) -> None:
    run(tmp_path / "first", llama)
    monkeypatch.setattr(llama, "encode", lambda _texts: pytest.fail("a text was not in the cache"))
    run(tmp_path / "second", llama)


def test_how_many_edits_are_in_memory_changes_nothing_else(llama: Backbone, tmp_path: Path) -> None:
    first = run(tmp_path / "whole", llama, batch=4, micro=4)
    second = run(tmp_path / "parts", llama, batch=4, micro=1)
    whole, parts = (load_tensors(result.editor)[0] for result in (first, second))
    for name, value in whole.items():
        torch.testing.assert_close(parts[name].float(), value.float(), atol=5e-3, rtol=5e-2, msg=name)


def test_the_decay_may_be_laid_out_for_more_steps_than_are_run() -> None:
    plain = replace(CONFIG, steps=100, warmup=1)
    assert schedule(100, plain) == pytest.approx(0.05)
    assert schedule(100, replace(plain, decay=200)) == pytest.approx(0.05 + 0.95 * 0.5)
    assert schedule(60, replace(plain, decay=50)) == pytest.approx(0.05)
