"""The search of settings: the same number of tries, kept as they are made, and read by what comes after."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli_run import Run
from experiment_plans import CALLS, DURING, plan_values, register, write_records
from instructedit.cli.search import read_grid
from instructedit.editors.registry import METHODS, find_method, make_method
from instructedit.errors import DataError, UnknownNameError
from instructedit.evaluation.rows import make_row
from instructedit.experiment.chosen import Chosen, Try, read_chosen, read_search
from instructedit.experiment.making import training_config
from instructedit.experiment.plan import parse_plan, read_plan
from instructedit.experiment.search import find_grid, list_settings, load_grids, score_rows
from instructedit.experiment.search_training import to_train_on, with_settings
from instructedit.training.config import named_config
from instructedit.types import EditCase, Probe

ALL_METHODS = tuple(METHODS)


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    register(monkeypatch)
    return write_records(tmp_path / "lands.jsonl")


@pytest.mark.parametrize("method", ALL_METHODS)
def test_every_method_gets_the_same_number_of_tries_its_papers_settings_first(method: str) -> None:
    settings = list_settings(method, find_grid(method))
    defaults = {setting.name: setting.default for setting in fields(find_method(method))}
    assert len(settings) == load_grids()["tries"]
    assert settings[0] == {name: defaults[name] for name in find_grid(method)}
    assert all(make_method(method, one) for one in settings)
    assert len({str(one) for one in settings}) == len(settings)


def test_a_large_grid_is_drawn_from_by_the_seed() -> None:
    grid = {"lr": [0.1, 0.2, 0.3], "steps": [1, 2, 3]}
    first, second = (list_settings("ft-l", grid, 5, seed) for seed in (0, 1))
    assert len(first) == len(second) == 5
    assert first[0] == second[0] == {"lr": 5e-4, "steps": 25}
    assert first != second
    assert list_settings("ft-l", grid, 5, 0) == first
    assert len(list_settings("ft-l", grid)) == load_grids()["tries"]
    with pytest.raises(UnknownNameError, match="Did you mean 'steps'"):
        list_settings("ft-l", {"stps": [1]})
    with pytest.raises(DataError, match="0 settings"):
        list_settings("ft-l", grid, 0)


def test_a_grid_is_read_from_the_command_line() -> None:
    assert read_grid("ft-l", ("lr=1e-3,0.5", "steps=2")) == {"lr": [1e-3, 0.5], "steps": [2]}
    assert read_grid("rome", ()) == find_grid("rome")
    for wrong in ("lr", "lr=", "=1", "lr=1,,2"):
        with pytest.raises(DataError, match="name=value,value"):
            read_grid("ft-l", (wrong,))


def test_the_score_is_the_mean_over_tasks_of_the_mean_of_their_measures() -> None:
    """Task t has reliability 1/2 and locality 1, task u reliability 1 alone: (3/4 + 1) / 2."""
    told: list[tuple[str, int, str, dict[str, float]]] = [
        ("t", 0, "reliability", {"edited_exact": 1.0}),
        ("t", 1, "reliability", {"edited_exact": 0.0}),
        ("t", 0, "locality", {"edited_unchanged": 1.0}),
        ("u", 2, "reliability", {"edited_exact": 1.0}),
        ("u", 2, "old_answer", {"edited_exact": 0.0}),
    ]
    rows = [make_row({"task": t, "case": c, "group": g}, values) for t, c, g, values in told]
    score, measures = score_rows(rows)
    assert score == pytest.approx(0.875)
    assert measures == {"reliability": pytest.approx(0.75), "locality": 1.0}


def test_the_first_of_equal_tries_is_chosen_and_the_file_is_read_back(tmp_path: Path) -> None:
    tries = (
        Try({"lr": 1e-6}, 0.5, {"locality": 0.5}, 2.0),
        Try({"lr": 0.1}, 0.5),
        Try({"lr": 0.2}, error="ValueError: no"),
    )
    chosen = Chosen("ft-l", {"cases": 3}, tries, {"command": "x"})
    path = tmp_path / "ft-l.yaml"
    chosen.save(path)
    assert read_search(path, "ft-l") == chosen
    assert read_chosen(path, "ft-l") == {"lr": 1e-6}
    with pytest.raises(DataError, match="settings of 'ft-l', not of 'rome'"):
        read_chosen(path, "rome")
    path.write_text("settings: 3")
    with pytest.raises(DataError, match="holds no settings"):
        read_chosen(path, "ft-l")


def arguments(records: Path, folder: Path, out: Path) -> tuple[object, ...]:
    where = ("--model", folder, "--start", "none", "--out", out, "--limit", 4)
    return ("search", "noisy", "--data", records, *where, "--grid", "strength=0,0.1,0.6")


@pytest.mark.slow
def test_a_search_goes_on_after_an_interruption_and_its_choice_is_used(
    cli: Run, folder: Path, records: Path, tmp_path: Path
) -> None:
    out = tmp_path / "noisy.yaml"
    DURING.append(lambda: (_ for _ in ()).throw(KeyboardInterrupt()))
    assert cli(*arguments(records, folder, out)).code == 130
    assert not out.exists()
    CALLS.clear()
    assert cli(*arguments(records, folder, out)).code == 0
    assert len(CALLS) == 4  # the method's own 0.3, and three others
    found = read_search(out, "noisy")
    assert [one.settings["strength"] for one in found.tries] == [0.3, 0, 0.1, 0.6]
    assert found.facts["cases"] == 4
    best = found.best
    assert best is not None
    assert best.score == max(one.score for one in found.tries if one.score is not None)
    assert found.tries[1].measures["locality"] == 1.0
    assert cli(*arguments(records, folder, out)).code == 0
    assert len(CALLS) == 4  # nothing is tried twice

    asked = ("--data", records, "--model", folder, "--start", "none", "--editor", "noisy", "--json")
    read = cli("evaluate", *asked, "--settings-file", out)
    named = cli("evaluate", *asked, "--setting", f"strength={best.settings['strength']}")
    assert read.code == named.code == 0, read.err
    assert read.out == named.out
    over = cli("evaluate", *asked, "--settings-file", out, "--setting", "strength=0")
    assert over.out == cli("evaluate", *asked, "--setting", "strength=0").out


@pytest.mark.slow
def test_another_search_is_not_mixed_into_a_file(
    cli: Run, folder: Path, records: Path, tmp_path: Path
) -> None:
    out = tmp_path / "noisy.yaml"
    Chosen("noisy", {"cases": 3}, (Try({"strength": 0.3}, 0.1),)).save(out)
    refused = cli(*arguments(records, folder, out))
    assert refused.code == 6
    assert "cases" in refused.err
    assert cli(*arguments(records, folder, out), "--dry-run").code == 0
    assert CALLS == []
    assert cli(*arguments(records, folder, out), "--tries", 2, "--force").code == 0
    assert len(read_search(out, "noisy").tries) == 2


@pytest.mark.slow
def test_more_tries_can_be_asked_for_and_failed_ones_are_made_again(
    cli: Run, folder: Path, records: Path, tmp_path: Path
) -> None:
    out = tmp_path / "noisy.yaml"
    assert cli(*arguments(records, folder, out), "--tries", 2).code == 0
    first = read_search(out, "noisy")
    replace(first, tries=(replace(first.tries[0], score=None, error="no memory"), first.tries[1])).save(out)
    CALLS.clear()
    assert cli(*arguments(records, folder, out), "--tries", 3).code == 0
    assert len(CALLS) == 2
    found = read_search(out, "noisy")
    assert len(found.tries) == 3
    assert all(one.score is not None for one in found.tries)


def test_tries_that_fail_are_noted_and_a_search_of_failures_is_one(
    cli: Run, folder: Path, records: Path, tmp_path: Path
) -> None:
    out = tmp_path / "broken.yaml"
    where = ("--model", folder, "--start", "none", "--out", out, "--limit", 1)
    result = cli("search", "broken", "--data", records, *where, "--grid", "strength=0,1")
    assert result.code == 1
    assert "this one is broken" in result.err
    assert [one.error for one in read_search(out, "broken").tries] == ["RuntimeError: this one is broken"] * 2
    assert cli("search", "nosy", "--data", records, *where).code == 7
    assert cli("search", "rome", "--data", records).code == 6


def test_a_plan_takes_settings_from_the_file_beside_it(tmp_path: Path, records: Path, folder: Path) -> None:
    (tmp_path / "settings").mkdir()
    Chosen("noisy", {}, (Try({"strength": 0.6}, 0.9),)).save(tmp_path / "settings" / "noisy.yaml")
    described: dict[str, Any] = {"method": "noisy", "settings_file": "settings/noisy.yaml"}
    values = plan_values(folder, records, editors={"noisy": described})
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(values))
    assert parse_plan(read_plan(path)).editors["noisy"].settings == {"strength": 0.6}
    values["editors"]["noisy"] = {**described, "settings": {"strength": 0.1}}
    path.write_text(yaml.safe_dump(values))
    assert parse_plan(read_plan(path)).editors["noisy"].settings == {"strength": 0.1}
    values["editors"]["noisy"] = {**described, "settings_file": "nowhere.yaml"}
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(DataError, match="instructedit search noisy"):
        read_plan(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ke", "malmen", "mend", "paper", "instructedit"])
def test_every_configuration_gets_as_many_tries_its_own_settings_first(name: str) -> None:
    grid = find_grid(name)
    settings = list_settings(name, grid)
    assert len(settings) == load_grids()["tries"]
    assert with_settings(name, settings[0]) == named_config(name)
    assert len({str(with_settings(name, one)) for one in settings}) == len(settings)
    with pytest.raises(UnknownNameError, match=r"Did you mean 'editor.transform.log_step'"):
        list_settings(name, {"editor.transform.log_stop": [1.0]})


@pytest.mark.slow
def test_a_search_trains_an_editor_for_every_try_on_what_none_is_scored_on(
    cli: Run, folder: Path, tmp_path: Path
) -> None:
    records, out = write_records(tmp_path / "lands.jsonl"), tmp_path / "mend.yaml"
    where = ("--model", folder, "--start", "none", "--out", out, "--limit", 2, "--steps", 1)
    command = ("search", "mend", "--data", records, *where, "--grid", "lr=0.0008,0.5")
    first = cli(*command)
    assert first.code == 0, first.err
    found = read_search(out, "mend")
    assert [one.settings for one in found.tries] == [{"lr": 0.0008}, {"lr": 0.5}]
    assert found.tries[0].measures != found.tries[1].measures
    assert (found.facts["cases"], found.facts["steps"]) == (2, 1)
    own = cli("search", "mend", "--data", records, *where[:-1], 2, "--grid", "lr=0.0008,0.5")
    assert own.code == 6
    assert "steps" in own.err
    for wrong in (("--steps", 0), ("--sites", "blocks=0")):
        assert cli("search", "mend", "--data", records, *where[:-2], *wrong).code == 3
    refused = cli("search", "rome", "--data", records, *where[:-2], "--own")
    assert refused.code == 3
    assert "--own" in refused.err


def test_what_is_trained_on_has_no_subject_and_no_question_of_what_is_scored() -> None:
    near = Probe("locality", "Bob is", ("a",))
    scored = [EditCase("Ann is", "old", "Ann", probes=(near,))]
    cases = [EditCase("ann was", "young", "ann"), EditCase("Cid is", "here", "Cid"), *scored]
    text = [Probe("locality", "bob is?", ("b",)), Probe("locality", "Dan is", ("c",))]
    taught = to_train_on(cases, text, scored)
    assert taught.cases == (cases[1],)
    assert taught.text == (text[1],)


def test_a_plan_trains_with_the_settings_of_the_file_beside_it(
    tmp_path: Path, records: Path, folder: Path
) -> None:
    Chosen("mend", {}, (Try({"lr": 0.5, "editor.transform.rank": 8}, 0.9),)).save(tmp_path / "mend.yaml")
    described: dict[str, Any] = {"train": "mend", "data": "lands", "settings_file": "mend.yaml"}
    values = plan_values(folder, records, training={"lands": {"files": [str(records)]}})
    values["editors"] = {"mend": {**described, "set": {"editor": {"transform": {"depth": 1}}, "steps": 2}}}
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(values))
    plan = parse_plan(read_plan(path))
    config = training_config(plan.editors["mend"], plan, 0)
    assert (config.lr, config.steps) == (0.5, 2)
    assert (config.editor.transform.rank, config.editor.transform.depth) == (8, 1)
    described["train"] = "malmen"
    path.write_text(yaml.safe_dump({**values, "editors": {"mend": described}}))
    with pytest.raises(DataError, match="settings of 'mend', not of 'malmen'"):
        read_plan(path)
