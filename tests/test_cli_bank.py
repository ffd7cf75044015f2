"""Instructions of one's own on the command line: drawn from where they fit, refused where they are none."""

import json
from pathlib import Path

import pytest

from cli_run import PatientEditor, Run, use_editor
from experiment_plans import write_records
from instructedit.instructions import instruction_for
from instructedit.types import EditCase

pytestmark = pytest.mark.slow

WORDS = "Do as this bank says."
EDIT = ("edit", "The capital of France is", "Rome", "--start", "none", "--json")


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    path = tmp_path / "bank.yaml"
    told = {"kind": "change", "tasks": ["plain", "counterfact"], "scoped": False}
    path.write_text(json.dumps({**told, "train": [WORDS], "unseen": [f"{WORDS[:-1]} still."]}))
    return path


@pytest.fixture
def cli(cli: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    use_editor(monkeypatch, PatientEditor(steps=0))
    return cli


def test_an_edit_is_told_in_the_words_of_a_bank(cli: Run, folder: Path, bank: Path) -> None:
    told = cli(*EDIT, "--model", folder, "--bank", bank)
    assert told.code == 8  # an editor of no steps changes nothing
    assert json.loads(told.out)["edits"][0]["instruction"] == WORDS
    plain = cli(*EDIT, "--model", folder)
    assert json.loads(plain.out)["edits"][0]["instruction"] != WORDS
    own = cli(*EDIT, "--model", folder, "--bank", bank, "--instruction", "My own words.")
    assert json.loads(own.out)["edits"][0]["instruction"] == "My own words."


def test_an_evaluation_edits_with_the_words_of_a_bank(
    cli: Run, folder: Path, bank: Path, tmp_path: Path
) -> None:
    from instructedit.evaluation import read_rows

    records = write_records(tmp_path / "lands.jsonl", 2)
    asked = ("evaluate", "--data", records, "--model", folder, "--start", "none", "--bank", bank)
    assert cli(*asked, "--out", tmp_path / "out").code == 0
    assert {row["instruction"] for row in read_rows(tmp_path / "out" / "rows.parquet")} == {
        f"{WORDS[:-1]} still."
    }
    assert instruction_for(EditCase("The capital of France is", "Rome", task="plain")) != WORDS


@pytest.mark.parametrize("command", [EDIT, ("evaluate", "--data", "lands.jsonl")])
def test_a_file_that_is_no_bank_is_refused_before_a_model_is_loaded(
    cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_records(tmp_path / "lands.jsonl", 2)
    (tmp_path / "no.yaml").write_text("kind: change\n")
    for name in ("no.yaml", "nowhere.yaml"):
        result = cli(*command, "--dry-run", "--bank", name)
        assert result.code == 3
        assert name in result.err
