"""The command line as a whole: parsing, configuration files, the one error line, exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli_run import Run
from instructedit.cli import run
from instructedit.cli.report import Report, print_report
from instructedit.errors import InstructEditError


def one_line(text: str) -> bool:
    return len(text.strip().splitlines()) == 1 and "Traceback" not in text


def write_config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "options.yaml"
    path.write_text(text)
    return path


def test_no_command_shows_the_commands(cli: Run) -> None:
    code, out, _ = cli()
    assert code == 0
    assert all(
        name in out for name in ("model", "train", "edit", "evaluate", "export", "ls", "bench", "data")
    )


@pytest.mark.parametrize(
    "arguments", [["edti"], ["edit", "--bogus"], ["ls", "nothing"], ["edit", "--seed", "x"]]
)
def test_a_wrong_command_line_is_exit_code_2(cli: Run, arguments: list[str]) -> None:
    code, out, err = cli(*arguments)
    assert code == 2
    assert out == ""
    assert one_line(err)
    assert err.startswith("error: ")


def test_a_mistyped_command_suggests_the_nearest(cli: Run) -> None:
    assert 'Did you mean "edit"?' in cli("edti").err


@pytest.mark.slow
def test_config_fills_what_the_command_line_leaves_open(cli: Run, tmp_path: Path) -> None:
    config = write_config(tmp_path, f"limit: 3\nout: {tmp_path / 'facts.jsonl'}\nsplit: test\n")
    code, out, _ = cli("data", "make", "--config", config, "--json")
    assert code == 0
    assert json.loads(out)["edits"] == 3
    code, out, _ = cli("data", "make", "--config", config, "--json", "--limit", 2, "--force")
    assert json.loads(out)["edits"] == 2


def test_config_knows_flags_and_repeated_options(cli: Run, tmp_path: Path) -> None:
    config = write_config(tmp_path, "dry_run: true\nrephrase: [One, Two]\nscope: narrow\n")
    code, out, _ = cli("edit", "The sky is", "green", "--config", config, "--json")
    assert code == 0
    edit = json.loads(out)["edits"][0]
    assert edit["scope"] == "narrow"
    assert [probe["prompt"] for probe in edit["probes"]][:2] == ["One", "Two"]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("sede: 1\n", 7, "Did you mean 'seed'?"),
        ("- 1\n", 3, "no mapping"),
        ("a: [\n", 3, "not YAML"),
        ("seed: many\n", 2, "seed"),
    ],
)
def test_a_wrong_config_is_one_error(cli: Run, tmp_path: Path, text: str, code: int, said: str) -> None:
    result = cli("edit", "The sky is", "green", "--config", write_config(tmp_path, text), "--dry-run")
    assert (result.code, result.out) == (code, "")
    assert one_line(result.err)
    assert said in result.err


def test_a_missing_config_is_one_error(cli: Run, tmp_path: Path) -> None:
    result = cli("edit", "a", "b", "--config", tmp_path / "nowhere.yaml")
    assert result.code == 3
    assert "nowhere.yaml" in result.err


def test_json_is_alone_on_stdout_even_for_errors(cli: Run) -> None:
    code, out, err = cli("edit", "The sky is", " ", "--json")
    assert code == 3
    assert json.loads(out) == {"error": err.removeprefix("error: ").strip(), "exit_code": 3}


def test_debug_shows_where_an_error_comes_from() -> None:
    with pytest.raises(InstructEditError):
        run(["edit", "The sky is", "", "--debug"])


def test_interruption_is_exit_code_130(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("instructedit.cli.edit.read_requests", interrupted)
    code, _, err = cli("edit", "a", "b")
    assert code == 130
    assert "interrupted" in err


def test_a_write_that_the_system_refuses_is_exit_code_6(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("instructedit.cli.edit.read_requests", full)
    code, _, err = cli("edit", "a", "b")
    assert code == 6
    assert one_line(err)
    assert "No space left on device" in err


@pytest.mark.slow
def test_as_a_process_stdout_stderr_and_exit_code_are_kept_apart(tmp_path: Path) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "instructedit.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    good = call("edit", "The sky is", "green", "--dry-run", "--json")
    assert good.returncode == 0
    assert json.loads(good.stdout)["edits"][0]["target_new"] == "green"
    bad = call("edit", "--file", "nowhere.jsonl")
    assert (bad.returncode, bad.stdout) == (3, "")
    assert one_line(bad.stderr)


def test_prompts_that_look_like_options_or_markup_are_taken_as_they_are(cli: Run) -> None:
    code, out, _ = cli("edit", "--dry-run", "--", "--force [bold]is[/bold]", "[red]")
    assert code == 0
    assert "[bold]is[/bold]" in out


def test_a_path_that_looks_like_markup_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(Report({}, ["Kept in runs/[/x] [red] :smile:"]), as_json=False)
    assert capsys.readouterr().out == "Kept in runs/[/x] [red] :smile:\n"


@pytest.mark.slow
def test_the_page_of_help_texts_is_up_to_date() -> None:
    script = Path(__file__).parent.parent / "scripts" / "make_cli_docs.py"
    done = subprocess.run([sys.executable, str(script), "--check"], check=False)
    assert done.returncode == 0, "docs/cli.md differs from the commands' help: run `make docs`"
