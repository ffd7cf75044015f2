"""General ability by lm-eval: what it asks is answered as the evaluation does, before and after."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from instructedit import extras
from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.errors import DataError, OutputError
from instructedit.evaluation import abilities, generate_greedy
from instructedit.evaluation.abilities import check_tasks, measure_abilities
from instructedit.evaluation.abilities_answers import Asked
from instructedit.evaluation.scoring import score_texts
from tiny_models import CONTEXT

needs_lm_eval = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="the extra `eval`")
PROMPT, CITIES = "The capital of France is", ("Rome", "Madrid", "London", "Paris")


def delta_of(backbone: Backbone, size: float) -> LowRankDelta:
    draw = torch.Generator().manual_seed(1)
    a = {s.name: torch.randn(1, 2, s.d_in, generator=draw) for s in backbone.sites}
    return LowRankDelta(
        a, {s.name: size * torch.randn(1, s.d_out, 2, generator=draw) for s in backbone.sites}
    )


@pytest.fixture
def asked(llama: Backbone) -> Asked:
    return Asked(llama, delta_of(llama, 0.3))


def test_a_continuation_is_scored_as_an_answer(llama: Backbone, asked: Asked) -> None:
    expected = score_texts(llama, asked.delta, [llama.text(PROMPT, "Rome")], [0])
    count = len(llama.text(PROMPT, "Rome").targets)
    for side in ("base", "edited"):
        spaced, unspaced = asked.score([(PROMPT, " Rome"), (f"{PROMPT} ", "Rome")], side)
        assert spaced == pytest.approx(unspaced)
        assert spaced[0] == pytest.approx(float(expected[f"{side}_log_prob"]) * count)
        assert spaced[1] == bool(expected[f"{side}_exact"])
    assert asked.score([(PROMPT, " Rome")], "base") != asked.score([(PROMPT, " Rome")], "edited")


def test_a_text_longer_than_the_context_keeps_its_end(asked: Asked) -> None:
    text = asked._text("The book. " * 200, "It was good.")
    assert len(text.ids) == CONTEXT
    assert text.targets == asked._text("The book.", " It was good.").targets
    assert asked._text("", "Rome").answer_start == 1


def test_every_token_of_a_whole_text_counts_once(llama: Backbone, asked: Asked) -> None:
    words = "Paris is a city in France, and people there speak French. " * 40
    windows = asked._windows(words)
    assert len(windows) > 1
    assert tuple(token for window in windows for token in window.targets) == asked._ids(words)
    (alone,) = asked.score_whole(["A city."], "base")
    half, other = asked.score_whole(["A city.", words], "base")
    assert alone == pytest.approx(half)
    assert other < alone < 0
    assert asked.score_whole([""], "edited") == [0.0]


def test_a_generation_ends_at_the_first_stop(llama: Backbone, asked: Asked) -> None:
    (whole,) = asked.write([(PROMPT, {"max_gen_toks": 8})], "base")
    assert len(whole) > 2
    stop = whole[1:3]
    options = {"until": ["never there", stop], "max_gen_toks": 8}
    short, other = asked.write([(PROMPT, options), (PROMPT, {"max_gen_toks": 3})], "base")
    assert short == whole[: whole.index(stop)]
    assert [other] == generate_greedy(llama, [PROMPT], max_new_tokens=3, first_line=False)
    assert asked.write([(PROMPT, {"max_gen_toks": 8})], "edited") != [whole]


def test_a_missing_extra_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _name: None)
    with pytest.raises(OutputError, match=r"instructedit\[eval\]"):
        check_tasks(tmp_path)
    monkeypatch.setattr(extras, "find_spec", lambda name: name)
    with pytest.raises(DataError, match="no tasks at"):
        check_tasks(tmp_path / "none.yaml")


def results(*right: float) -> dict[str, Any]:
    """What lm-eval gives for one task with a choice of two, and one value a question."""
    samples = [
        {
            "doc_id": number,
            "filter": "none",
            "acc": value,
            "target": 1,
            "arguments": [(f"Question {number}", " no"), (f"Question {number}", " yes")],
        }
        for number, value in enumerate(right)
    ]
    values = {"alias": "quiz", "acc,none": sum(right) / len(right), "acc_stderr,none": "N/A"}
    higher = {"quiz": {"acc": True}}
    return {"results": {"quiz": values}, "samples": {"quiz": samples}, "higher_is_better": higher}


def test_scores_are_paired_by_question_and_lost_ones_are_named() -> None:
    before, after = results(1.0, 1.0, 0.0, 1.0), results(1.0, 0.0, 1.0, 0.0)
    (score,) = abilities._scores(before, after, seed=0)
    assert (score["metric"], score["before"], score["after"]) == ("acc", 0.75, 0.5)
    assert (score["difference"]["mean"], score["documents"]) == (-0.25, 4)
    assert score["difference"]["low"] < -0.25 < score["difference"]["high"]
    lost = abilities._lost(before, after)
    assert lost["count"] == 2
    assert lost["shown"][0] == {"task": "quiz", "prompt": "Question 1", "target": "yes"}


def write_task(folder: Path) -> None:
    """A quiz of capitals whose data lie beside the task, under a relative path."""
    lands = ("Italy", "Spain", "England", "France")
    lines = [json.dumps({"land": land, "answer": place}) for place, land in enumerate(lands)]
    (folder / "quiz.jsonl").write_text("\n".join(lines))
    (folder / "quiz.yaml").write_text(
        "task: quiz\ndataset_path: json\ndataset_kwargs: {data_files: {test: quiz.jsonl}}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: 'The capital of {{land}} is'\n"
        f"doc_to_target: answer\ndoc_to_choice: [{', '.join(CITIES)}]\n"
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\nmetadata: {version: 1.0}\n"
    )


@needs_lm_eval
def test_a_local_task_is_run_before_and_after(
    llama: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    write_task(tmp_path)
    monkeypatch.chdir(tmp_path)
    delta = delta_of(llama, 0.3)
    found = measure_abilities(llama, delta, "quiz.yaml")
    (score,) = [score for score in found["scores"] if score["metric"] == "acc"]
    asked = Asked(llama, delta)
    for name, side in (("before", "base"), ("after", "edited")):
        right = 0
        for place, land in enumerate(("Italy", "Spain", "England", "France")):
            pairs = [(f"The capital of {land} is", f" {city}") for city in CITIES]
            chances = [chance for chance, _ in asked.score(pairs, side)]
            right += chances.index(max(chances)) == place
        assert score[name] == right / 4
    assert (score["documents"], found["versions"]) == (4, {"quiz": "1.0"})
    assert Path.cwd() == tmp_path
    same = measure_abilities(llama, delta_of(llama, 0.0), tmp_path, limit=2)
    assert [s["before"] == s["after"] for s in same["scores"]] == [True]
    assert (same["scores"][0]["documents"], same["lost"]["count"]) == (2, 0)


@needs_lm_eval
def test_a_task_without_its_data_is_one_clear_error(llama: Backbone, tmp_path: Path) -> None:
    write_task(tmp_path)
    (tmp_path / "quiz.jsonl").unlink()
    with pytest.raises(DataError, match="lm-eval cannot run the tasks"):
        measure_abilities(llama, delta_of(llama, 0.0), tmp_path / "quiz.yaml")
    (tmp_path / "quiz.yaml").unlink()
    with pytest.raises(DataError, match="holds no task"):
        measure_abilities(llama, delta_of(llama, 0.0), tmp_path)
