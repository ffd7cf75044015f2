"""`instructedit instructions make` from end to end, with a stand-in for the server and a tiny model."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat_stand_in import StandIn, listing, stand_in
from cli_run import Run
from instructedit.cli.making import Loop, choose_trial
from instructedit.cli.train_options import TrainModel, TrainSample
from instructedit.instructions.banks import read_bank
from instructedit.making import MakingConfig, Retraining, split_records
from instructedit.making.trace import TRACE
from tiny_editors import tiny_cases, tiny_editor

pytestmark = pytest.mark.slow

WORDINGS = (
    "Change it.",
    "Put another answer in its place.",
    "This fact is no longer so.",
    "Overwrite what was learned.",
)
NAMES = {"made, train", "made, unseen", "package, train", "package, unseen", "none"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with stand_in() as told:
        yield told


@pytest.fixture
def data(tmp_path: Path) -> Path:
    from instructedit.data import case_to_record

    path = tmp_path / "facts.jsonl"
    path.write_text("".join(json.dumps(case_to_record(case)) + "\n" for case in tiny_cases()))
    return path


@pytest.fixture
def small(folder: Path, data: Path, tmp_path: Path) -> tuple:
    """A task, its records, a tiny model and its editor, and a short loop."""
    from instructedit.backbone.loading import load_backbone
    from instructedit.editors.editor_file import save_editor

    backbone, editor = load_backbone(str(folder), start="none"), tmp_path / "editor.safetensors"
    save_editor(tiny_editor(backbone), editor, backbone, {})
    loop = ("--cases", 2, "--candidates", 2, "--rounds", 2)
    return ("counterfact_rome", "--data", data, "--model", folder, "--editor", editor, *loop)


def test_the_command_makes_a_bank(
    cli: Run, server: StandIn, small: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSTRUCTEDIT_KEY", "sk-secret-key")
    server.play(listing(*WORDINGS[:2]), listing(*WORDINGS[2:]))
    where = ("--url", server.url, "--writer", "m", "--out", tmp_path / "run")
    code, out, err = cli("instructions", "make", *small, *where, "--json")
    assert code == 0, err
    made = json.loads(out)
    assert made["rounds"] == 2
    assert set(made["check"]) == set(json.loads((tmp_path / "run" / "check.json").read_text())) == NAMES
    assert read_bank(Path(made["bank"])).tasks == ("counterfact_rome",)
    assert server.keys == ["Bearer sk-secret-key"] * 2
    assert "secret" not in out + err + (tmp_path / "run" / TRACE).read_text()
    code, out, _ = cli("instructions", "make", *small, *where)
    assert code == 0
    assert WORDINGS[0] in out
    assert len(server.bodies) == 2
    code, _, err = cli("instructions", "make", *small, *where, "--temperature", 0.5)
    assert code == 3
    assert "other settings (writer)" in err


def test_the_edited_model_writes_where_nobody_else_is_named(cli: Run, small: tuple, tmp_path: Path) -> None:
    code, _, err = cli("instructions", "make", *small, "--out", tmp_path / "run")
    assert code == 4
    assert "no chat template" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--out", "x", "--patience", 0), 3, "patience is 0"),
        ((), 6, "--out"),
        (("--out", "x", "--url", "ftp://x", "--writer", "m"), 4, "http://localhost"),
        (("--out", "x", "--url", "http://me:word@x/v1", "--writer", "m"), 4, "environment"),
        (("--out", "x", "--url", "http://x/v1"), 4, "--writer"),
        (("--out", "x", "--url", "http://x", "--writer", "m", "--key-variable", "sk-1"), 4, "never"),
    ],
)
def test_what_cannot_be_used_is_said_before_any_work(
    cli: Run, data: Path, arguments: tuple, code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    result = cli("instructions", "make", "plain", "--data", data, "--cases", 2, *arguments)
    assert result.code == code
    assert said in result.err
    assert not {"sk-1", "word"} & set(result.err.replace(":", " ").replace("@", " ").split())
    assert not (data.parent / "x").exists()


def test_an_unknown_task_suggests_the_nearest(cli: Run) -> None:
    result = cli("instructions", "make", "convsnt")
    assert result.code == 7
    assert "'convsent'" in result.err


def test_dry_run_shows_the_request(cli: Run) -> None:
    code, out, _ = cli("instructions", "make", "convsent", "--limit", 40, "--cases", 4, "--dry-run", "--json")
    assert code == 0
    plan = json.loads(out)
    assert "{subject} and {sentiment}" in plan["messages"][0]["content"]
    assert plan["edits_a_round"] == 10 * plan["check"] > 0


def test_blocks_and_seed_that_are_given_go_before_the_configurations(folder: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text("{seed: 7, blocks: 2, sites: null}")
    loop = Loop(out=tmp_path, retrain=True, training=str(settings))
    records = split_records(tiny_cases(), MakingConfig(cases=2))
    for given, expected in (((None, None), (2, 7)), ((1, 0), (1, 0))):
        model = TrainModel(model=str(folder), start="none", blocks=given[0])
        backbone, trial = choose_trial(records, loop, model, TrainSample(seed=given[1]))
        assert isinstance(trial, Retraining)
        assert (len({site.block for site in backbone.sites}), trial.config.seed) == expected
