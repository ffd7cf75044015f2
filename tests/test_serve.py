"""The command `serve`: what it would do, and what it refuses before anything is loaded."""

import json
from pathlib import Path

import pytest

from cli_run import Run
from instructedit import extras
from instructedit.cli.options import ModelChoice
from instructedit.cli.serve import Serving, _list_private, _name_editors, _name_models
from instructedit.errors import EditorFileError
from instructedit.ledger.store import create_store


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the extras were there: a dry run imports none of them."""
    monkeypatch.setattr(extras, "find_spec", lambda name: name)


@pytest.mark.usefixtures("installed")
def test_a_dry_run_says_where_and_what(cli: Run) -> None:
    code, text, _ = cli("serve", "--dry-run", "--json")
    assert code == 0
    assert json.loads(text) == {
        "host": "127.0.0.1",
        "port": 7860,
        "editors": ["default"],
        "store": None,
        "mcp": False,
    }


@pytest.mark.parametrize(
    ("missing", "option", "name"),
    [("gradio", [], "page"), ("mcp", ["--mcp"], "mcp")],
)
def test_a_missing_extra_is_one_clear_error(
    cli: Run, monkeypatch: pytest.MonkeyPatch, missing: str, option: list[str], name: str
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda module: None if module == missing else module)
    code, _, error = cli("serve", *option)
    assert code == 6
    assert f"pip install 'instructedit[{name}]'" in error


@pytest.mark.usefixtures("installed")
def test_what_cannot_be_served_is_refused(cli: Run, tmp_path: Path) -> None:
    store = tmp_path / "store"
    create_store(store, {"name": "m", "checksum": ""}, {"name": "default", "checksum": ""})
    for options, code, word in (
        (["--store", tmp_path / "none"], 3, "store init"),
        (["--store", store, "--editor", "default"], 3, "has its own editor"),
        (["--port", "70000"], 3, "0 to 65535"),
        (["--port=-1"], 3, "0 to 65535"),
        (["--editor", "deflaut"], 7, "Did you mean 'default'"),
    ):
        found = cli("serve", "--dry-run", *options)
        assert (found.code, word in found.err) == (code, True), found.err
    assert cli("serve", "--dry-run", "--store", store).code == 0


def test_editors_have_names_without_a_path(tmp_path: Path) -> None:
    files = tuple(str(tmp_path / name / "editor.safetensors") for name in ("facts", "a/facts"))
    other = str(tmp_path / "small.safetensors")
    names = _name_editors(Serving(editor=("default", *files, other, "default")))
    assert names == {"default": "default", "facts": files[0], "facts (3)": files[1], "small": other}


def test_no_visitor_may_read_where_editors_and_models_lie(tmp_path: Path) -> None:
    file, model = tmp_path / "team secret" / "editor.safetensors", tmp_path / "my models" / "small"
    private = _list_private({"secret": str(file)}, ModelChoice(model=str(model)))
    assert {file, file.parent, model} <= set(private)
    assert Path("default") not in _list_private({"default": "default"}, ModelChoice())


def test_editors_are_shown_with_their_models_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    assert _name_models({"default": "default"}) == {"default": "smollm2-135m-instruct"}
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\xff" * 64)
    with pytest.raises(EditorFileError, match="cannot read the editor"):
        _name_models({"broken": str(broken)})
