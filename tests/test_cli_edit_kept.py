"""`instructedit edit` where it can be known beforehand: what cannot be kept, and what is not read yet."""

from pathlib import Path

import pytest

from cli_run import PatientEditor, Run, use_editor
from test_cli_edit import PROMPT, TARGET, edit


@pytest.fixture
def cli(cli: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    use_editor(monkeypatch, PatientEditor())
    return cli


def test_what_cannot_be_kept_is_said_before_any_work(
    cli: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("instructedit.cli.loading.load_pair", None)
    (tmp_path / "file").write_text("mine")
    for out, word in ((tmp_path / "file", "is a file"), (tmp_path / "file" / "lora", "is a file")):
        code, _, err = edit(cli, folder, PROMPT, TARGET, "--out", out, "--force")
        assert (code, word in " ".join(err.split())) == (6, True)
    monkeypatch.setattr("instructedit.extras.find_spec", lambda _name: None)
    code, _, err = edit(cli, folder, PROMPT, TARGET, "--out", tmp_path / "lora")
    assert (code, "pip install 'instructedit[export]'" in " ".join(err.split())) == (6, True)
    assert (
        edit(cli, folder, PROMPT, TARGET, "--dry-run").code == 0
    )  # where nothing is kept, nothing is missing


def test_a_dry_run_says_that_no_model_has_read_the_words(cli: Run, folder: Path) -> None:
    code, text, _ = edit(cli, folder, PROMPT, TARGET, "--instruction", "Forget this.", "--dry-run")
    assert (code, "No model has read the instructions yet" in " ".join(text.split())) == (0, True)
