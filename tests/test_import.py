"""Importing the package and asking for help load no torch, and are quick."""

import json
import subprocess
import sys
import time

import pytest

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


def test_the_check_itself_can_fail() -> None:
    assert "numpy" in loaded_by("import numpy")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["edit", "--help"], ["train", "--help"], ["ls", "tasks"], ["--version"]]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    assert loaded_by(f"from instructedit.cli import run\nassert run({arguments!r}) == 0") == []


def test_help_is_quick() -> None:
    def measure() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "instructedit.cli", "--help"], capture_output=True, check=True)
        return time.perf_counter() - start

    assert min(measure() for _ in range(3)) < 1.0
