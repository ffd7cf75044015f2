"""Importing the package and asking for help load no torch, and are quick."""

import json
import os
import subprocess
import sys

import pytest

import instructedit

HEAVY = ("torch", "transformers", "accelerate", "peft", "pyarrow", "tokenizers", "numpy")


def loaded_by(code: str) -> list[str]:
    """The heavy packages in `sys.modules` after a fresh interpreter ran `code`."""
    program = f"{code}\nimport json, sys\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_import_loads_nothing_heavy() -> None:
    assert (
        loaded_by("import instructedit, instructedit.types, instructedit.errors, instructedit.progress") == []
    )


def test_the_public_names_are_found_where_they_live() -> None:
    for name in instructedit._HOMES:
        assert getattr(instructedit, name).__name__ == name
    assert {"load_for_editor", "evaluate", "EditCase"} <= set(dir(instructedit))
    with pytest.raises(AttributeError, match="no attribute 'load_editr'"):
        instructedit.load_editr  # noqa: B018


def test_the_check_itself_can_fail() -> None:
    assert "numpy" in loaded_by("import numpy")


@pytest.mark.slow
def test_help_loads_nothing_heavy() -> None:
    commands = [["--help"], ["--version"], ["edit", "--help"], ["train", "--help"], ["ls", "tasks"]]
    assert loaded_by(f"from instructedit.cli import run\nfor c in {commands}: assert run(c) == 0") == []


@pytest.mark.slow
def test_help_is_quick() -> None:
    """Processor time, so that a busy machine does not count."""

    def measure() -> float:
        before = os.times()
        subprocess.run([sys.executable, "-m", "instructedit.cli", "--help"], capture_output=True, check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(measure() for _ in range(2)) < 1.0
