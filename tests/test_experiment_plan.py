"""A plan: wrong names are one error, and the plan of the paper is a right one."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli_run import Run
from experiment_plans import plan_values, register, start, write_records
from instructedit.cli.experiment import override, put_models
from instructedit.editors.registry import METHODS
from instructedit.errors import DataError, UnknownNameError
from instructedit.experiment.cells import all_cells, choose_cells
from instructedit.experiment.cost import estimate_costs
from instructedit.experiment.making import training_config
from instructedit.experiment.plan import parse_plan, read_plan
from instructedit.experiment.sources import Records, reword
from instructedit.experiment.specs import EditorSpec
from instructedit.training.config import named_config
from tiny_editors import tiny_case, tiny_cases, tiny_opinion

ROOT = Path(__file__).parent.parent


@pytest.fixture
def values(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    register(monkeypatch)
    return plan_values(folder, write_records(tmp_path / "lands.jsonl"))


@pytest.mark.parametrize(
    ("table", "error", "said"),
    [
        ({"editors": ["instructedti"]}, UnknownNameError, "editor in the table main 'instructedti'"),
        ({"editors": ["nosy"]}, UnknownNameError, "Did you mean 'noisy'"),
        ({"data": ["seas"]}, UnknownNameError, "data in the table main 'seas'"),
        ({"measures": ["relability"]}, UnknownNameError, "Did you mean 'reliability'"),
        ({"published": "gpt3"}, UnknownNameError, "published table"),
        ({"edtors": ["noisy"]}, UnknownNameError, "Did you mean 'editors'"),
        ({"pairs": [["noisy"]]}, DataError, "pairs is ..'noisy'... Expected a list of pairs"),
        (["noisy"], DataError, "Expected a mapping"),
    ],
)
def test_a_wrong_plan_is_one_clear_error(
    values: dict[str, Any], tmp_path: Path, cli: Run, table: Any, error: type[Exception], said: str
) -> None:
    main = {**values["tables"]["main"], **table} if isinstance(table, dict) else table
    values["tables"] = {"main": main}
    with pytest.raises(error, match=said):
        parse_plan(values)
    path = tmp_path / "plan.yaml"
    path.write_text(json.dumps(values))  # JSON is YAML
    result = cli("experiment", path, "--out", tmp_path / "run")
    assert result.code == error.exit_code
    assert len(result.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_the_plan_of_the_paper_names_nothing_unknown() -> None:
    plan = parse_plan(read_plan(ROOT / "experiments" / "paper.yaml"))
    assert {"motivation", "main", "held-out", "unseen", "controls", "question-form"} <= plan.tables.keys()
    assert {"leverage", "scaling", "where", "main-gemma3", "settings"} <= plan.tables.keys()
    assert "year" in plan.tables["held-out"].data
    assert {name for name in METHODS if not plan.editors[name].settings_file} == set()


@pytest.mark.slow
def test_what_the_paper_plan_says_about_training_is_of_the_trained_pass() -> None:
    """And what it holds out has no record of the kind whose instructions it is to be told by."""
    plan = parse_plan(read_plan(ROOT / "experiments" / "paper.yaml"))
    for table in ("held-out", "erasing", "unseen", "controls", "question-form"):
        for name in plan.tables[table].editors:
            if plan.editors.get(name, EditorSpec()).train == "instructedit":
                spec = plan.editors[name]
                editor = training_config(spec, plan, 0).editor.changed(spec.edit)
                assert (editor.gate.wordings, editor.polish.steps) == (0, 0), f"{name} in {table}"
    assert training_config(plan.editors["instructedit"], plan, 0).editor.gate.wordings > 0
    held = {"counterfact": "change", "recent": "insert", "convsent": "sentiment", "erase": "erase"}
    assert {task: plan.training[f"without-{task}"].drop for task in held} == {
        t: (k,) for t, k in held.items()
    }


def test_wordings_of_a_plan_are_drawn_by_kind_and_sentiment() -> None:
    wordings = {"change": ["Mach das.", "Tu das."], "positive": ["Lobe {subject}."]}
    told = reword([tiny_case(0), tiny_opinion(1)], wordings, seed=0)
    assert told[0].instruction in wordings["change"]
    assert told[1].instruction == "Lobe {subject}."
    with pytest.raises(DataError, match="kind sentiment"):
        reword([tiny_opinion(1)], {"change": ["x"]}, seed=0)


def test_a_smaller_draw_lies_within_a_larger_and_keeps_the_order() -> None:
    records = Records(tuple(tiny_cases()))
    small, large = (records.draw(limit, seed=3).cases for limit in (3, 6))
    assert len(small) == 3
    assert set(small) < set(large)
    assert list(large) == [case for case in records.cases if case in large]
    assert records.draw(None, seed=3).digest == records.digest
    assert records.draw(3, seed=3).digest != records.draw(3, seed=4).digest


def test_cells_are_chosen_by_table_by_name_and_by_pattern(values: dict[str, Any]) -> None:
    more = {**values["tables"]["main"], "editors": ["noisy"], "conditions": ["none"]}
    values["tables"]["controls"] = more
    values["conditions"] = {"right": {}, "none": {"control": "none"}}
    plan = parse_plan(values)
    chosen = {
        pattern: [str(cell) for cell in choose_cells(plan, [pattern])]
        for pattern in ("controls", "noisy", "*/st*/lands/*", "nothing")
    }
    assert chosen == {
        "controls": ["tiny/noisy/lands/none/0"],
        "noisy": ["tiny/noisy/lands/right/0", "tiny/noisy/lands/none/0"],
        "*/st*/lands/*": ["tiny/still/lands/right/0"],
        "nothing": [],
    }
    assert choose_cells(plan, []) == all_cells(plan)


def test_a_method_has_one_seed_and_a_trained_editor_all(values: dict[str, Any], tmp_path: Path) -> None:
    values["training"] = {"own": {"own": True}}
    values["editors"] = {"mend": {"train": "mend", "data": "own"}}
    values["tables"]["main"] |= {"editors": ["noisy", "mend"], "seeds": [4, 5]}
    found = [(cell.editor, cell.seed) for cell in all_cells(parse_plan(values))]
    assert sorted(found) == [("mend", 4), ("mend", 5), ("noisy", 4)]


def test_a_pattern_that_names_no_cell_is_refused(values: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="tiny/base/lands/right/0"):
        start(values, tmp_path / "run", only=["mian"], dry_run=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"limit": "ten"}, "the plan: limit is 'ten'. Expected a whole number, or nothing"),
        ({"limit": 0}, "the plan's limit is 0. Expected 1 or more"),
        ({"batch": -1}, "the plan's batch is -1"),
        ({"steps": 0}, "the plan's steps is 0"),
        ({"models": {"small": "x"}}, "models.small is 'x'. Expected a mapping"),
        ({"conditions": {"right": {"leverage": True, "control": "none"}}}, "leverage stands beside control"),
        ({"conditions": {"right": {"limit": 0}}}, "condition right: limit is 0"),
        ({"editors": {"mine": {"method": "rome", "settings": [1]}}}, r"editors.mine.settings is \[1\]"),
        ({"cache": 2}, "the plan: cache is 2. Expected true or false"),
        ({"tables": {"main": {"editors": "base"}}}, "tables.main lacks data. See docs"),
        ({"editors": {"mine": {"train": "mend", "steps": "1"}}}, "editors.mine: steps is '1'"),
        ({"editors": {"mine": {"method": "rome", "file": "x"}}}, "editor mine: found method and file. Exp"),
        (
            {"editors": {"mine": {"method": "rome", "edit": {"rounds": 1}}}},
            "edit stands beside the method rome",
        ),
        ({"editors": {"mine": {}}}, "editor mine: found none of them. Expected one of method"),
    ],
)
def test_a_value_of_another_form_is_told(values: dict[str, Any], changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        parse_plan({**values, **changes})


def test_an_option_that_no_model_has_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UnknownNameError, match="option of the model small 'modle'"):
        parse_plan({**values, "models": {"small": {"modle": "x"}}})
    assert parse_plan({**values, "models": {"default": None}}).models == {"default": {}}


def test_a_plan_without_a_cell_is_refused(values: dict[str, Any], tmp_path: Path) -> None:
    for empty in ({"tables": {}}, {"seeds": []}):
        with pytest.raises(DataError, match="the plan tiny has no cell"):
            start({**values, **empty}, tmp_path / "run", dry_run=True)


def test_the_plan_in_the_docs_is_a_plan() -> None:
    text = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    plan = parse_plan({"name": "docs", **yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])})
    assert len(all_cells(plan)) == 2 * (4 + 3)  # the trained editor has three seeds


def test_caps_of_steps_an_editors_before_the_plans_and_the_command_lines_before_both(
    values: dict[str, Any],
) -> None:
    values["training"] = {"own": {"own": True}}
    told: dict[str, Any] = {"train": "mend", "data": "own", "set": {"decay": 5000}}
    values["editors"] = {"capped": told, "own": {**told, "steps": 7}, "short": {**told, "set": {"steps": 3}}}
    values["tables"]["main"]["editors"] = ["capped", "own", "short"]

    def steps(given: int | None, plan_cap: int | None = 20) -> dict[str, int]:
        plan = parse_plan(override({**values, "steps": plan_cap}, None, (), given))
        return {name: training_config(plan.editors[name], plan, 0).steps for name in values["editors"]}

    whole = named_config("mend").steps
    assert steps(None) == {"capped": 20, "own": 7, "short": 3}
    assert steps(None, None) == {"capped": whole, "own": 7, "short": 3}
    assert steps(5) == {"capped": 5, "own": 5, "short": 3}
    assert steps(100_000) == {"capped": whole, "own": whole, "short": 3}
    plan = parse_plan({**values, "steps": 20})
    assert training_config(plan.editors["capped"], plan, 0).decay is None  # it decays within its own steps
    whole_plan = parse_plan(values)
    assert training_config(whole_plan.editors["capped"], whole_plan, 0).decay == 5000
    values["editors"]["own"] = {"method": "noisy", "steps": 7}
    with pytest.raises(DataError, match="of a training"):
        parse_plan(values)


def test_no_lesson_erases_where_the_data_drop_erasures(values: dict[str, Any]) -> None:
    values["training"] = {
        "all": {"own": True},
        "less": {"own": True, "drop": ["sentiment", "erase"]},
        "some": {"own": True, "keep": ["change", "insert"]},
    }
    names = list(values["training"])
    values["editors"] = {name: {"train": "instructedit", "data": name} for name in names}
    plan = parse_plan(values)
    found = {name: training_config(plan.editors[name], plan, 0).lessons.erase for name in names}
    assert found == {"all": named_config("instructedit").lessons.erase, "less": 0.0, "some": 0.0}
    assert found["all"] > 0


@pytest.mark.slow
def test_the_cost_counts_the_steps_that_are_run(values: dict[str, Any], tmp_path: Path) -> None:
    values["training"] = {"own": {"own": True}}
    values["editors"] = {"mend": {"train": "mend", "data": "own", "steps": 7}}
    values["tables"]["main"]["editors"] = ["mend"]
    session = start({**values, "steps": 20}, tmp_path / "run", dry_run=True)
    (cost,) = estimate_costs(session.workshop, session.left)
    assert cost.steps == 7


def test_models_are_put_at_other_places(values: dict[str, Any]) -> None:
    put = put_models({**values, "models": {"a": {"dtype": "bfloat16"}, "b": {}}}, ["a=~/x=y"])
    assert put["models"] == {"a": {"dtype": "bfloat16", "model": "~/x=y"}, "b": {}}
    with pytest.raises(UnknownNameError, match="Did you mean 'tiny'"):
        put_models(values, ["tinny=x"])
    with pytest.raises(DataError, match="name=place"):
        put_models(values, ["tiny"])


@pytest.mark.slow
def test_a_model_that_is_not_to_be_had_leaves_its_cells_out(
    values: dict[str, Any], tmp_path: Path, cli: Run
) -> None:
    place = values["models"]["tiny"]
    values["models"] = {"tiny": place, "second": {**place, "model": "second.gguf", "blocks": 2}}
    values["tables"]["main"]["models"] = ["tiny", "second"]
    values["tables"]["main"]["editors"] = ["still"]
    path = tmp_path / "plan.yaml"
    path.write_text(json.dumps(values))
    result = cli("experiment", path, "--out", tmp_path / "run", "--json")
    assert result.code == 1
    assert "--model second=PLACE" in result.err
    found = json.loads(result.out)
    assert found["done"] == ["tiny/still/lands/right/0"]
    assert list(found["missing"]) == ["second"]
    assert cli("experiment", path, "--out", tmp_path / "run", "--only", "second").code == 4
    there = cli(
        "experiment", path, "--out", tmp_path / "run", "--model", f"second={place['model']}", "--json"
    )
    assert there.code == 0, there.err
    assert json.loads(there.out)["done"] == ["second/still/lands/right/0"]
