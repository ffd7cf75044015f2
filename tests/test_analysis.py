"""Directions of edits on a tiny model: what is collected, told, drawn, and what the command keeps."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from cli_run import PatientEditor, Run, use_editor
from instructedit.analysis import (
    STAGES,
    analyse,
    choose_cases,
    collect_vectors,
    make_conditions,
    measure_turn,
    principal_components,
)
from instructedit.analysis.collect import ALL_SITES
from instructedit.analysis.geometry import normalise_rows
from instructedit.analysis.pictures import COLOURS, MARKERS, Panel, choose_look, draw_panels
from instructedit.analysis.study import make_views
from instructedit.delta import LowRankDelta
from instructedit.errors import DataError, OutputError
from instructedit.storage import load_tensors
from instructedit.types import EditCase
from tiny_editors import tiny_cases, tiny_editor, tiny_opinion
from tiny_models import tiny_backbone

EACH = 6  # edits of a task


def three_tasks() -> list[EditCase]:
    questions = [replace(case, task="zsre", prompt=f"What is {case.subject}?") for case in tiny_cases(EACH)]
    return [*tiny_cases(EACH), *(tiny_opinion(number) for number in range(EACH)), *questions]


def awake(backbone: object, seed: int = 1):
    """A tiny editor whose transform does something, told by the code what."""
    editor = tiny_editor(backbone)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in editor.hypernetwork.named_parameters():
            if name.endswith(".up"):
                value.copy_(torch.randn(value.shape, generator=generator))
    return editor


# What is collected


@pytest.mark.slow
def test_an_untrained_transform_changes_no_direction(llama) -> None:
    cases = three_tasks()
    right, none, _ = make_conditions(cases)
    found = collect_vectors(llama, tiny_editor(llama), cases, right.instructions, sketch=64)
    assert tuple(found) == STAGES
    names = {site.name: (site.d_in, site.d_out) for site in llama.sites}
    for stage, sites in found.items():
        assert set(sites) == {ALL_SITES, *names}
        for site, rows in sites.items():
            assert len(rows) == len(cases)
            torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(cases)))
            if site != ALL_SITES and stage != "delta":
                assert rows.shape[1] == names[site][stage.startswith("gradient")]
    for side in ("input", "gradient"):
        for site, rows in found[f"{side} before"].items():
            torch.testing.assert_close(found[f"{side} after"][site], rows, atol=1e-5, rtol=1e-4)
    bare = collect_vectors(llama, tiny_editor(llama), cases, none.instructions, sketch=64)
    torch.testing.assert_close(bare["gradient after"], found["gradient after"])


def test_all_sites_have_the_mean_of_the_sites_cosines(llama) -> None:
    cases = tiny_cases(4)
    found = collect_vectors(llama, tiny_editor(llama), cases, [""] * 4, sketch=64)
    sites = [rows @ rows.mT for site, rows in found["input before"].items() if site != ALL_SITES]
    pooled = found["input before"][ALL_SITES]
    torch.testing.assert_close(pooled @ pooled.mT, torch.stack(sites).mean(0))


@pytest.mark.slow
def test_the_instruction_turns_what_is_behind_the_transform_and_not_before(llama) -> None:
    cases = three_tasks()[::2]
    right, none, other = make_conditions(cases)
    told, bare, wrong = (
        collect_vectors(llama, awake(llama), cases, condition.instructions, sketch=256)
        for condition in (right, none, other)
    )
    torch.testing.assert_close(told["input before"], bare["input before"])
    for stage in ("input after", "gradient after", "delta"):
        for less in (bare, wrong):
            assert measure_turn(told[stage][ALL_SITES], less[stage][ALL_SITES])["cosine"] < 0.9999


def test_the_batch_changes_nothing(llama) -> None:
    cases = three_tasks()[5:8]
    words = [f"Change {case.subject}." for case in cases]
    one, many = (collect_vectors(llama, awake(llama), cases, words, batch=b, sketch=64) for b in (1, 3))
    for stage in STAGES:
        torch.testing.assert_close(one[stage], many[stage], atol=1e-4, rtol=1e-3)


def test_the_delta_of_a_method_is_looked_at_and_nothing_else(llama) -> None:
    cases = tiny_cases(2)
    editor = PatientEditor(2)
    found = collect_vectors(llama, editor, cases, ["", ""], sketch=4096)
    assert tuple(found) == ("delta",)
    site = llama.sites[0].name
    dense = normalise_rows(editor.edit(llama, cases).dense(site).flatten(1))
    cosine = float(found["delta"][site][0] @ found["delta"][site][1])
    assert cosine == pytest.approx(float(dense[0] @ dense[1]), abs=0.15)


def test_an_edit_that_is_no_delta_points_nowhere(llama) -> None:
    class Keeper:
        name = "keeper"

        def edit(self, *_: object) -> object:
            return object()

    with pytest.raises(DataError, match="keeper"):
        collect_vectors(llama, Keeper(), tiny_cases(1), [""])


# Conditions


def test_other_is_never_the_own_bank_and_names_the_own_subject() -> None:
    cases = three_tasks()
    right, none, other = make_conditions(cases, seed=3)
    tasks = tuple(case.task for case in cases)
    assert right.told == tasks
    assert set(none.instructions) == {""}
    assert all(told != own for told, own in zip(other.told, tasks, strict=True))
    for task in set(tasks):  # dealt in turn
        donors = [told for told, own in zip(other.told, tasks, strict=True) if own == task]
        assert sorted(donors.count(name) for name in set(donors)) == [EACH // 2] * 2
    pairs = zip(other.told, other.instructions, cases, strict=True)
    assert all(case.subject in words for told, words, case in pairs if told == "convsent")
    assert make_conditions(cases, seed=3) == [right, none, other]
    assert [view.title for view in make_views(tasks, [right, none, other])] == [
        "right",
        "none",
        "other, by task",
        "other, by told",
    ]


def test_with_two_banks_what_was_told_is_all_that_can_be_asked() -> None:
    cases = [*tiny_cases(5), *(tiny_opinion(number) for number in range(5))]
    conditions = make_conditions(cases)
    views = make_views([case.task for case in cases], conditions)
    assert [(view.condition, view.by) for view in views] == [
        ("right", "task"),
        ("none", "task"),
        ("other", "told"),
    ]


def test_tasks_that_share_a_bank_have_no_other() -> None:
    cases = [*tiny_cases(2), *(replace(case, task="counterfact_rome") for case in tiny_cases(2))]
    right, none = make_conditions(cases)
    assert set(right.told) == {"counterfact + counterfact_rome"}
    assert none.name == "none"


def test_one_edit_a_subject_and_enough_of_each_task() -> None:
    cases = three_tasks()
    assert choose_cases([*cases, replace(cases[0], target_new="Madrid")]) == cases
    with pytest.raises(DataError, match="two tasks"):
        choose_cases(tiny_cases())
    with pytest.raises(DataError, match=r"convsent 3.*--limit"):
        choose_cases(cases[: EACH + 3])


# The whole, pictures, the command


class Drawn:
    """Edits that know their subject and nothing else."""

    name = "drawn"

    def edit(self, backbone, cases: list[EditCase], _instructions: object = None) -> LowRankDelta:
        draws = [torch.Generator().manual_seed(sum(map(ord, case.subject))) for case in cases]
        a = {
            s.name: torch.stack([torch.randn(2, s.d_in, generator=g) for g in draws]) for s in backbone.sites
        }
        b = {
            s.name: torch.stack([torch.randn(s.d_out, 2, generator=g) for g in draws]) for s in backbone.sites
        }
        return LowRankDelta(a, b)


@pytest.fixture
def guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe that takes no time and knows nothing."""

    def guess(_points: torch.Tensor, labels: torch.Tensor, *_: int) -> torch.Tensor:
        return torch.full((int(labels.max()) + 1,), 0.5, dtype=torch.float64)

    monkeypatch.setattr("instructedit.analysis.numbers.probe_labels", guess)


@pytest.mark.usefixtures("guesses")
def test_the_study_numbers_every_stage_site_and_view() -> None:
    backbone = tiny_backbone("llama", blocks=1)
    cases = three_tasks()
    seen = {"counterfact", "convsent"}
    found = analyse(backbone, Drawn(), cases, trained=seen, permutations=0, sketch=64)
    rows = found.numbers["rows"]
    assert len(rows) == 4 * (1 + len(backbone.sites))  # views by sites, at the one stage of a method
    assert {row["n"] for row in rows} == {len(cases)}
    assert {task for task, facts in found.numbers["tasks"].items() if facts["held_out"]} == {"zsre"}
    (turn,) = [t for t in found.numbers["turns"] if t["condition"] == "none" and t["site"] == ALL_SITES]
    assert turn["cosine"] == pytest.approx(1)  # such a method does not hear the instruction
    sites = {site.name for site in backbone.sites}
    assert set(found.tensors()) == {f"{c}/delta/{s}" for c in ("right", "none", "other") for s in sites}


def test_no_two_of_many_labels_look_the_same() -> None:
    pairs = len(COLOURS) * len(MARKERS)
    assert len({choose_look(number) for number in range(pairs)}) == pairs


@pytest.mark.slow
def test_pictures_are_the_same_every_time_and_show_what_was_held_out() -> None:
    points = torch.arange(20.0).view(10, 2) % 7
    panels = [
        [Panel("one", points[:6], ("a", "b", "c") * 2, ("x", "y")), Panel("two", points[6:], ("a",) * 4)]
    ]
    first, second = draw_panels(panels, ["b"]), draw_panels(panels, ["b"])
    assert first == second
    text = first.decode()
    ElementTree.fromstring(text)
    assert "b (held out)" in text
    assert "a (held out)" not in text
    assert "dc:date" not in text
    assert text != draw_panels(panels).decode()


@pytest.fixture
def cli(cli: Run, guesses: None, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Three tasks of tiny edits for whatever is read, and what is slow replaced."""
    use_editor(monkeypatch, Drawn())
    monkeypatch.setattr("instructedit.cli.analyse.read_cases", lambda *_a, **_k: three_tasks())
    monkeypatch.setattr("instructedit.analysis.pictures.embed_tsne", lambda x, _: principal_components(x)[0])
    return cli


@pytest.mark.slow
def test_the_command_keeps_numbers_vectors_and_pictures(cli: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "directions"
    arguments = ("analyse", "--model", folder, "--start", "none", "--blocks", 1, "--permutations", 1)
    code, text, err = cli(*arguments, "--out", out)
    assert code == 0, err
    assert "shuffled labels" in text
    assert "delta" in text
    numbers = json.loads((out / "numbers.json").read_text())
    assert {path.name for path in out.iterdir()} == {
        "numbers.json",
        "vectors.safetensors",
        "pca.svg",
        "tsne.svg",
    }
    assert {row["stage"] for row in numbers["rows"]} == {"delta"}
    assert "zsre (held out)" in (out / "pca.svg").read_text()  # the shipped editor never saw it
    vectors, header = load_tensors(out / "vectors.safetensors")
    labels = json.loads(header["labels"])
    assert set(labels) == {"right/task", "none/task", "other/task", "other/told"}
    assert {len(rows) for rows in vectors.values()} == {len(labels["right/task"])}
    assert cli(*arguments, "--out", out).code == 6


def test_a_dry_run_says_what_it_would_look_at(cli: Run, tmp_path: Path) -> None:
    code, text, _ = cli("analyse", "--model", tmp_path / "nowhere", "--dry-run", "--json")
    assert code == 0
    assert json.loads(text) == {
        "edits": 18,
        "tasks": {"counterfact": 6, "convsent": 6, "zsre": 6},
        "told": ["right", "none", "other"],
        "repeated_subjects": 0,
    }


def test_a_missing_extra_is_one_error_with_the_command_that_installs_it(
    cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    code, out, err = cli("analyse", "--dry-run")
    assert (code, out) == (OutputError.exit_code, "")
    assert len(err.strip().splitlines()) == 1
    assert "needs scikit-learn," in err
    assert "pip install 'instructedit[plot]'" in err
