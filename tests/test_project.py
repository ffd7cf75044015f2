"""The project keeps its own promises: sizes, types, repeated lines, versions, what may be stored."""

import ast
import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
FILES = SOURCES + sorted((ROOT / "tests").rglob("*.py")) + sorted((ROOT / "examples").glob("*.py"))
MAX_FILE, MAX_FUNCTION, WINDOW, MAX_REPEATED = 300, 70, 6, 0.03
FORBIDDEN_NAMES = {"utils", "util", "base", "manager", "helper", "helpers", "common", "misc"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_file_and_functions_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_FILE
    long = [
        f"{f.name}: {f.end_lineno - f.lineno + 1}"
        for f in functions(path)
        if f.end_lineno - f.lineno >= MAX_FUNCTION
    ]
    assert not long


@pytest.mark.slow
@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_public_functions_are_typed_and_modules_say_what_they_are(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())) or not path.read_text().strip()
    assert path.stem not in FORBIDDEN_NAMES
    for function in functions(path):
        if function.name.startswith("_"):
            continue
        arguments = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
        untyped = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
        assert function.returns is not None, f"{function.name} has no return type"
        assert not untyped, f"{function.name}: {untyped}"


def repeated_share(paths: list[Path]) -> float:
    """The share of lines that stand in a six-line window which occurs more than once."""
    windows: Counter[tuple[str, ...]] = Counter()
    bodies = []
    for path in paths:
        lines = [line.strip() for line in path.read_text().splitlines()]
        lines = [line for line in lines if line and not line.startswith(("#", "import ", "from "))]
        bodies.append(lines)
        windows.update(tuple(lines[i : i + WINDOW]) for i in range(len(lines) - WINDOW + 1))
    repeated = 0
    for lines in bodies:
        marked = {
            i + k
            for i in range(len(lines) - WINDOW + 1)
            if windows[tuple(lines[i : i + WINDOW])] > 1
            for k in range(WINDOW)
        }
        repeated += len(marked)
    return repeated / max(1, sum(map(len, bodies)))


def test_little_is_repeated() -> None:
    assert repeated_share(SOURCES) <= MAX_REPEATED


def test_repetition_is_seen(tmp_path: Path) -> None:
    text = "\n".join(f"line_{i} = {i}" for i in range(10))
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(text)
    assert repeated_share([tmp_path / "a.py", tmp_path / "b.py"]) == 1.0


def test_nothing_is_pickled() -> None:
    pattern = re.compile(r"torch\.(save|load)\(|^\s*import pickle|from pickle|np\.save\(", re.MULTILINE)
    assert [name_of(path) for path in SOURCES if pattern.search(path.read_text())] == []


def test_global_random_state_is_left_alone() -> None:
    """A seed may be set inside `fork_rng`, which puts the old state back, and nowhere else."""
    pattern = re.compile(r"random\.seed\(|torch\.manual_seed\(|np\.random\.[a-z]+\(")
    texts = {path: path.read_text() for path in SOURCES}
    assert [name_of(p) for p, text in texts.items() if pattern.search(text) and "fork_rng" not in text] == []


def test_pinned_set_covers_the_dependencies() -> None:
    pinned = dict(
        re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    )
    names = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [re.match(r"[A-Za-z0-9_.-]+", d)[0] for d in project["dependencies"]]
    wanted += [
        re.match(r"[A-Za-z0-9_.-]+", d)[0]
        for extra in ("dev", "export")
        for d in project["optional-dependencies"][extra]
    ]
    assert [name for name in wanted if name.lower().replace("_", "-") not in names] == []
    assert names["torch"] == "2.13.0"
    assert not any("+" in version for version in pinned.values())


def test_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_ci_runs_the_tests_from_any_folder() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()
    assert "make test" in script.read_text()
