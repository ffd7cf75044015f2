"""Curves over the number of edits: what a point holds, and runs that are stopped, changed, or break."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluation_fakes import NoiseEditor
from instructedit.backbone import Backbone
from instructedit.errors import DataError, OutputError
from instructedit.evaluation import curve, evaluate, measure_perplexity
from instructedit.evaluation.curve import CurveSettings, run_curve
from instructedit.evaluation.curve_edits import start_edits
from instructedit.evaluation.curve_folder import CurveFolder, claim_folder
from instructedit.evaluation.curve_point import Asking, choose_probed, count_contradicted, measure_point
from instructedit.evaluation.rows import read_rows, select
from instructedit.instructions import instruction_for
from tiny_editors import tiny_case, tiny_cases, tiny_editor
from tiny_models import LINES

TIMES = ("seconds", "seconds_per_edit", "recent_seconds_per_edit", "measuring_seconds")


def numbers(points: list[dict]) -> list[dict]:
    return [{name: value for name, value in point.items() if name not in TIMES} for point in points]


class CountingEditor(NoiseEditor):
    """Writes down how many edits it makes at one time; from the call `last` on it does not work."""

    def __init__(self, last: int = 100, raises: bool = False) -> None:
        self.made: list[int] = []
        self.last, self.raises = last, raises

    def edit(self, backbone, cases, instructions=None):
        self.made.append(len(cases))
        delta = super().edit(backbone, cases, instructions)
        if len(self.made) < self.last:
            return delta
        if self.raises:
            raise torch.linalg.LinAlgError("not positive definite")
        return delta.scale(float("inf"))


# One point


@pytest.mark.slow
def test_a_point_is_what_evaluating_the_edits_together_finds(llama: Backbone, tmp_path: Path) -> None:
    editor, cases, text = tiny_editor(llama), tiny_cases(6), tmp_path / "text.txt"
    text.write_text("\n".join(LINES))
    edits = start_edits(editor, llama, cases[0], "")
    words = [instruction_for(case, split="unseen") for case in cases]
    for start in (0, 3):
        edits.add(cases[start : start + 3], words[start : start + 3])
    rows, point = measure_point(llama, edits.delta, cases, Asking(text=text, text_tokens=60))
    expected = evaluate(llama, editor, cases, instructed=False, together=3).summary["counterfact"]
    places = {
        "reliability": ("reliability", "exact"),
        "generalization": ("rephrase", "exact"),
        "locality": ("locality", "unchanged"),
    }
    for name, (group, metric) in places.items():
        assert point[name] == {side: expected[group]["bare"][metric][side] for side in ("base", "edited")}
    assert (point["probed"], point["contradicted"]) == (6, 0)
    told = measure_perplexity(llama, text, edits.delta, limit=60)
    assert point["perplexity"]["ratio"] == pytest.approx(told.per_token() / told.per_token("base"))
    assert point["perplexity"]["tokens"] == told.tokens
    assert not any(row["instructed"] for row in rows)


def test_a_sample_is_asked_where_the_whole_is_too_much(llama: Backbone) -> None:
    cases = tiny_cases(6)
    delta = NoiseEditor().edit(llama, cases[:1])
    rows, point = measure_point(llama, delta, cases, Asking(probe=2, seed=3))
    assert {row["case"] for row in select(rows, group="reliability")} == set(range(6))
    for group in ("rephrase", "locality"):
        asked = select(rows, group=group)
        assert {row["case"] for row in asked} == set(choose_probed(6, 2, 3))
        assert all(row["case_id"] == str(row["case"]) for row in asked)
    assert point["probed"] == point["locality"]["edited"]["cases"] == 2
    assert point["reliability"]["edited"]["cases"] == 6


@given(count=st.integers(1, 60), more=st.integers(0, 60), most=st.integers(1, 30), seed=st.integers(0, 9))
def test_a_sample_of_more_edits_has_no_other_old_ones(count: int, more: int, most: int, seed: int) -> None:
    few, many = choose_probed(count, most, seed), choose_probed(count + more, most, seed)
    assert few == sorted(set(few))
    assert len(few) == min(count, most)
    assert {place for place in many if place < count} <= set(few)
    assert choose_probed(count, None, seed) == list(range(count))


def test_edits_that_a_later_one_contradicts_are_counted() -> None:
    from dataclasses import replace

    again, other = tiny_case(0), replace(tiny_case(0), target_new="Madrid")
    assert count_contradicted([again, tiny_case(1), again]) == 0
    assert count_contradicted([again, other, tiny_case(1)]) == 1
    assert count_contradicted([again, other, again]) == 1


# A run


@pytest.mark.slow
def test_a_stopped_run_goes_on(llama: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases, settings = tiny_cases(6), CurveSettings((6, 2, 4), 2)
    once = run_curve(NoiseEditor(), llama, cases, settings, CurveFolder(tmp_path / "whole"))
    assert [point["edits"] for point in once] == [2, 4, 6]
    folder, real = CurveFolder(tmp_path / "stopped"), curve.measure_point

    def stop(backbone, change, asked, *rest):
        if len(asked) == 4:
            raise KeyboardInterrupt
        return real(backbone, change, asked, *rest)

    monkeypatch.setattr(curve, "measure_point", stop)
    with pytest.raises(KeyboardInterrupt):
        run_curve(NoiseEditor(), llama, cases, settings, folder)
    assert [point["edits"] for point in folder.points((2, 4, 6))] == [2]
    monkeypatch.setattr(curve, "measure_point", real)
    editor, said = CountingEditor(), []
    points = run_curve(editor, llama, cases, settings, folder, say=said.append)
    assert editor.made == [1, 2]  # the one that is thrown away, and the last batch
    assert said[0] == "goes on after 4 edits"
    assert numbers(points) == numbers(once)
    assert 0 < points[1]["recent_seconds_per_edit"] * 2 < points[1]["seconds"] < points[2]["seconds"]
    assert len(read_rows(folder.place(6) / "rows.parquet")) == 3 * 6
    editor = CountingEditor()
    assert run_curve(editor, llama, cases, settings, folder) == points
    assert editor.made == []


@pytest.mark.slow
def test_a_point_before_the_kept_state_is_made_again(llama: Backbone, tmp_path: Path) -> None:
    cases, folder, said = tiny_cases(4), CurveFolder(tmp_path / "run"), []
    (late,) = run_curve(NoiseEditor(), llama, cases, CurveSettings((4,), 2), folder)
    editor = CountingEditor()
    points = run_curve(editor, llama, cases, CurveSettings((2, 4), 2), folder, say=said.append)
    assert editor.made == [1, 2]
    assert "begins again" in said[0]
    assert points[1] == late
    whole = run_curve(NoiseEditor(), llama, cases, CurveSettings((2, 4), 2), CurveFolder(tmp_path / "two"))
    assert numbers(points) == numbers(whole)


@pytest.mark.parametrize(("raises", "after"), [(False, 4), (True, 2)])
def test_a_model_that_breaks_ends_its_own_run_only(
    raises: bool, after: int, llama: Backbone, tmp_path: Path
) -> None:
    editor, settings = CountingEditor(last=3, raises=raises), CurveSettings((2, 4, 6), 2)
    folder = CurveFolder(tmp_path / "run")
    points = run_curve(editor, llama, tiny_cases(6), settings, folder)
    assert [point.get("broken_after") for point in points] == [None, after, after]
    assert editor.made == [1, 2, 2]
    assert run_curve(CountingEditor(), llama, tiny_cases(6), settings, folder) == points


def test_other_records_are_refused(llama: Backbone, tmp_path: Path) -> None:
    cases, folder, settings = tiny_cases(4), CurveFolder(tmp_path / "run"), CurveSettings((2,), 2)
    run_curve(NoiseEditor(), llama, cases, settings, folder)
    with pytest.raises(OutputError, match="after 2 other edits"):
        run_curve(NoiseEditor(), llama, cases[::-1], settings, folder)
    with pytest.raises(DataError, match="found 2 edits and 4 are to be made"):
        run_curve(NoiseEditor(), llama, cases[:2], CurveSettings((2, 4), 2), folder)


@pytest.mark.parametrize(("at", "size"), [((5,), 2), ((0,), 1), ((), 1), ((4,), 0)])
def test_points_are_multiples_of_the_batch(at: tuple[int, ...], size: int) -> None:
    with pytest.raises(DataError, match="Expected"):
        CurveSettings(at, size)


def test_a_folder_keeps_to_its_settings(tmp_path: Path) -> None:
    claim_folder(tmp_path / "new", {"size": 2, "text": None})
    claim_folder(tmp_path / "new", {"size": 2, "text": None})
    with pytest.raises(OutputError, match="size was 2 and is 3"):
        claim_folder(tmp_path / "new", {"size": 3, "text": None})
    (tmp_path / "stopped").mkdir()
    (tmp_path / "stopped" / ".settings.json.x1").write_text("{")  # killed while it wrote them
    claim_folder(tmp_path / "stopped", {"size": 2})
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="something else"):
        claim_folder(tmp_path, {"size": 2})
    (tmp_path / "new" / "settings.json").write_text("[")
    with pytest.raises(OutputError, match="cannot read"):
        claim_folder(tmp_path / "new", {"size": 2})
