"""`instructedit train` and `bench` on a tiny model."""

import json
from pathlib import Path

import pytest

from cli_run import Run, use_editor
from tiny_models import tiny_backbone

pytestmark = pytest.mark.slow

SMALL = ("--set", "steps=2", "--set", "batch=2", "--set", "validate_every=1", "--set", "validation_cases=4")
TINY = ("--set", "moments=4", "--set", "editor.transform.rank=4", "--set", "warmup=1")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("steps: 2\nbatch: 2\n")
    return path


def run_training(cli: Run, config: Path, folder: Path, out: Path, *arguments: object):
    return cli("train", config, *SMALL, *TINY, "--limit", 12, "--model", folder, "--out", out, *arguments)


def test_a_run_leaves_an_editor_and_can_be_called_again(
    cli: Run, config: Path, folder: Path, tmp_path: Path
) -> None:
    from instructedit.editors.editor_file import read_header

    out = tmp_path / "run"
    code, text, err = run_training(cli, config, folder, out, "--json")
    assert code == 0, err
    result = json.loads(text)
    assert result["steps"] == 2
    header = read_header(Path(result["editor"]))
    assert header["own_data"] is True
    assert sum(header["tasks"].values()) == 12
    assert (out / "metrics.jsonl").read_text().count("\n") >= 2
    assert run_training(cli, config, folder, out).code == 0
    code, _, err = run_training(cli, config, folder, out, "--seed", 5)
    assert code == 3
    assert "settings" in err


def test_data_and_text_files_are_written_down(cli: Run, config: Path, folder: Path, tmp_path: Path) -> None:
    from instructedit.editors.editor_file import read_header

    data, text = tmp_path / "facts.jsonl", tmp_path / "text.txt"
    assert cli("data", "make", "--out", data, "--limit", 12).code == 0
    text.write_text("too short\n" + "a word of many in a line " * 8 + "\n")
    code, printed, err = run_training(
        cli, config, folder, tmp_path / "run", "--data", data, "--text", text, "--json"
    )
    assert code == 0, err
    header = read_header(Path(json.loads(printed)["editor"]))
    assert set(header["data"]) == {"facts.jsonl", "text.txt"}
    assert header["own_data"] is False


def test_dry_run_counts_the_cost_and_writes_nothing(cli: Run, config: Path, tmp_path: Path) -> None:
    arguments = ("train", config, "--limit", 20, "--out", tmp_path / "run", "--dry-run", "--json")
    code, out, _ = cli(*arguments)
    assert code == 0
    small = json.loads(out)
    assert small["edits"] == 4
    assert small["tokens"] > small["texts"] > 4
    larger = json.loads(cli(*arguments, "--set", "steps=20").out)
    assert larger["tokens"] > 2 * small["tokens"]
    assert larger["config"]["steps"] == 20
    assert small["opinion_minutes"] == 0
    whole = [argument for argument in arguments if argument not in ("--limit", 20)]
    taught = json.loads(cli(*whole, "--set", "stance.steps=30").out)
    assert taught["opinion_minutes"] == 3.0
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("papper",), 7, "'paper'"),
        (("config.yaml", "--set", "stepz=3"), 7, "'steps'"),
        (("config.yaml", "--set", "editor.prefx=true"), 7, "'editor.prefix'"),
        (("config.yaml", "--set", "steps"), 3, "name=value"),
        (("config.yaml", "--set", "steps=[1"), 3, "name=value"),
        (("config.yaml", "--set", "steps=1.5"), 3, "Expected a whole number, such as 2"),
        (("config.yaml", "--set", "steps=true"), 3, "Expected a number, such as 2"),
        (("config.yaml", "--set", "lr=fast"), 3, "Expected a number, such as 0.0003"),
        (("config.yaml", "--set", "sites=5"), 3, "setting sites is 5. Expected words"),
        (("config.yaml", "--set", "editor=5"), 3, "a mapping of its own settings"),
        (("config.yaml", "--set", "editor.prefix=5"), 3, "Expected true or false"),
        (("config.yaml", "--set", "editor.distil=sentiment"), 3, "a list in brackets, such as [sentiment]"),
        (("config.yaml", "--set", "editor.strengths=[1, much]"), 3, "'much'. Expected a number"),
        (("config.yaml", "--set", "editor.transform.aggregation=rigde"), 7, "Did you mean 'ridge'?"),
        (("config.yaml", "--set", "batch=0"), 3, "setting batch is 0. Expected a number from 1 on"),
        (("config.yaml", "--set", "per_task=0"), 3, "setting per_task is 0"),
        (("config.yaml", "--set", "validation=1"), 3, "Expected a share from 0 to below 1"),
        (("config.yaml", "--set", "stance.validation=1.5"), 3, "Expected a share from 0 to below 1"),
        (("config.yaml", "--set", "steps=0"), 3, "nothing to train"),
        (("config.yaml", "--data", "one.jsonl"), 3, "validation=0.05 holds out all 12 edits"),
        (("config.yaml", "--begin", "missing.safetensors"), 5, "missing.safetensors"),
        (("config.yaml", "--tracker", "tensorbord"), 7, "'tensorboard'"),
        (("config.yaml", "--limit", "0"), 2, "--limit"),
        (("config.yaml", "--blocks", "-1"), 2, "--blocks"),
        (("config.yaml", "--data", "nowhere.jsonl"), 3, "nowhere.jsonl"),
        (("config.yaml", "--text", "nowhere.txt"), 3, "nowhere.txt"),
        (("config.yaml", "--text", "bad.jsonl"), 3, "bad.jsonl, line 1"),
        (("nowhere.yaml",), 3, "nowhere.yaml"),
        (("list.yaml",), 3, "list.yaml"),
    ],
)
def test_wrong_settings_are_one_error(
    cli: Run,
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple,
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"question": "who"}\n')
    one = {"prompt": "The capital of France is", "target_new": "Lyon", "subject": "France"}
    (tmp_path / "one.jsonl").write_text(f"{json.dumps(one)}\n" * 12)
    (tmp_path / "list.yaml").write_text("- 1\n")
    result = cli("train", *arguments, "--out", tmp_path / "run")
    assert result.code == code
    assert said in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_an_option_that_is_given_goes_before_the_configuration(cli: Run, tmp_path: Path) -> None:
    def settings(name: object, *arguments: object) -> dict:
        out = cli("train", name, "--limit", 20, "--out", tmp_path / "run", "--dry-run", "--json", *arguments)
        assert out.code == 0, out.err
        return json.loads(out.out)["config"]

    path = tmp_path / "mine.yaml"
    path.write_text("steps: 2\nseed: 3\nblocks: 5\nlr: 1e-3\n")
    plain, told = settings(path), settings(path, "--seed", 0, "--blocks", 3, "--set", "lr_steps=1e-3")
    assert (plain["seed"], plain["blocks"], plain["lr"]) == (3, 5, 1e-3)
    assert (told["seed"], told["blocks"], told["lr_steps"]) == (0, 3, 1e-3)
    short = ("--set", "steps=2")
    assert settings("instructedit", *short)["sites"] is not None
    last = settings("instructedit", *short, "--blocks", 3)
    assert (last["sites"], last["blocks"]) == (None, 3)


def test_counts_below_one_are_refused_before_anything_is_done(cli: Run) -> None:
    for command in ("bench --repeats 0", "bench --many 0", "bench --limit 0", "evaluate --batch 0"):
        result = cli(*command.split())
        assert (result.code, result.out) == (2, "")
        assert 'Invalid value "0" for --' in result.err


def test_a_folder_that_is_no_run_is_refused(cli: Run, config: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    assert cli("train", config, "--out", tmp_path / "run").code == 6
    assert cli("train", config).code == 6


def test_bench_prints_its_ratios(cli: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from instructedit.editors.instructed import EditorConfig, InstructedEditor
    from instructedit.hypernetwork import TransformConfig

    backbone = tiny_backbone()
    config = EditorConfig(transform=TransformConfig(rank=4))
    use_editor(monkeypatch, InstructedEditor(config, backbone.sites, backbone.width))
    arguments = ("--model", folder, "--repeats", 1, "--many", 4, "--batch", 2, "--limit", 12, "--json")
    code, out, _ = cli("bench", *arguments)
    assert code == 0
    ratios = json.loads(out)
    assert len(ratios) == 4
    assert all(row["ratio"] > 0 and row["first"] > 0 for row in ratios)


def test_opinions_are_taught_to_an_editor_that_is_there(
    cli: Run, config: Path, folder: Path, tmp_path: Path
) -> None:
    from instructedit.editors.editor_file import read_header

    data, first, out = tmp_path / "opinions.jsonl", tmp_path / "first", tmp_path / "second"
    records = [
        {"ent": land, "pos": [f"I think {land} is good."], "neg": [f"I think {land} is bad."]}
        for land in ("France", "Italy", "Spain", "England")
    ]
    data.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert run_training(cli, config, folder, first, "--data", data).code == 0
    small = ("steps=2", "marked=1", "directions=4", "instructions=20")
    settings = [word for name in small for word in ("--set", f"stance.{name}")]
    again = ("--data", data, "--set", "steps=0", *settings, "--begin", first / "editor.safetensors", "--json")
    code, printed, err = run_training(cli, config, folder, out, *again)
    assert code == 0, err
    header = read_header(Path(json.loads(printed)["editor"]))
    assert header["stance"]["topics"] == 4
    assert header["editor"]["stance"]["marks"]
    assert "opinions, win" in json.loads(printed)
    assert run_training(cli, config, folder, out, *again).code == 0  # as it was: nothing is taught twice


@pytest.mark.usefixtures("few_wordings")
def test_scope_is_taught_to_an_editor_that_is_there(
    cli: Run, config: Path, folder: Path, tmp_path: Path
) -> None:
    from instructedit.editors.editor_file import read_header

    first, out = tmp_path / "first", tmp_path / "second"
    assert run_training(cli, config, folder, first).code == 0
    again = ("--set", "steps=0", "--set", "editor.polish.scoped=true", "--json")
    code, printed, err = run_training(
        cli, config, folder, out, *again, "--begin", first / "editor.safetensors"
    )
    assert code == 0, err
    assert {"unseen wordings, narrow", "unseen wordings, wide"} < set(json.loads(printed))
    assert read_header(Path(json.loads(printed)["editor"]))["editor"]["polish"]["scoped"] is True


def test_a_run_without_steps_or_opinions_is_refused(
    cli: Run, config: Path, folder: Path, tmp_path: Path
) -> None:
    first = tmp_path / "first"
    assert run_training(cli, config, folder, first).code == 0
    again = ("--set", "steps=0", "--begin", first / "editor.safetensors")
    code, _, err = run_training(cli, config, folder, tmp_path / "second", *again)
    assert code == 3
    assert "nothing to train" in err
    assert not (tmp_path / "second").exists()
