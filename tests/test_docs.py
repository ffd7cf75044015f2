"""What README and docs say exists: links resolve, commands parse, imports and files are there."""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from instructedit.cli.application import make_app

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
WRITTEN_BY_HAND = [page for page in PAGES if page.name not in ("cli.md", "CONTRIBUTING.md")]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def name_of(path: Path) -> str:
    return path.name


def blocks(page: Path, *languages: str) -> list[str]:
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [code for language, code in found if language in languages]


def broken_links(page: Path) -> list[str]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    links = [link for link in LINK.findall(text) if "://" not in link]
    return [link for link in links if not resolves(page, link)]


def resolves(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings get: small letters, no marks, dashes for spaces."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_resolves(page: Path) -> None:
    assert broken_links(page) == []


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One two\n[a](page.md#one-two) [b](gone.md) [c](#three) [d](https://x.y)\n")
    assert broken_links(page) == ["gone.md", "#three"]


def commands(page: Path) -> Iterator[tuple[bool, list[str]]]:
    """Every ``instructedit`` as arguments, whole ones (in blocks of shell) and mentioned ones (in spans)."""
    text = page.read_text(encoding="utf-8")
    whole = [line for code in blocks(page, "bash", "") for line in code.replace("\\\n", " ").split("\n")]
    whole += re.findall(r"^    (instructedit .*)$", text, re.MULTILINE)
    mentioned = re.findall(r"`(instructedit [^`]+)`", FENCE.sub("", text))
    for is_whole, lines in ((True, whole), (False, mentioned)):
        for line in lines:
            words = shlex.split(line, comments=True)
            if words[:1] == ["instructedit"]:
                yield is_whole, words[1:]


def option_names(arguments: list[str]) -> set[str]:
    """The options of the command that `arguments` begin with; KeyError where there is no such command."""
    app = make_app()[arguments[0]]
    if arguments[0] in ("data", "instructions", "store") and len(arguments) > 1:
        app = app[arguments[1]]
    return {name for argument in app.assemble_argument_collection() for name in argument.names}


def problems(arguments: list[str], *, whole: bool = True) -> list[str]:
    """What is wrong with a command line; of one that is only mentioned, the options are looked up."""
    try:
        known = option_names(arguments)
    except KeyError:
        return [f"no command {arguments[0]}"]
    unknown = [word for word in arguments if word.startswith("--") and word not in known]
    if unknown or not whole:
        return unknown
    try:
        make_app().parse_args(arguments)
    except Exception as error:
        return [f"{shlex.join(arguments)}: {error}"]
    return []


@pytest.mark.slow
@pytest.mark.parametrize("page", WRITTEN_BY_HAND, ids=name_of)
def test_every_command_parses(page: Path) -> None:
    assert [problem for whole, words in commands(page) for problem in problems(words, whole=whole)] == []


def test_enough_commands_are_looked_at() -> None:
    assert sum(len(list(commands(page))) for page in WRITTEN_BY_HAND) > 40


@pytest.mark.parametrize("line", ["edti a b", "edit a b --bogus", "ls nothing", "evaluate --limit many"])
def test_a_wrong_command_is_seen(line: str) -> None:
    assert problems(line.split())


def test_every_target_of_make_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"^make (\w+)", page.read_text(), re.MULTILINE)}
    named |= {name for page in PAGES for name in re.findall(r"`make (\w+)", page.read_text())}
    assert named
    assert named <= targets


@pytest.mark.parametrize("page", WRITTEN_BY_HAND, ids=name_of)
def test_python_blocks_compile_and_their_imports_exist(page: Path) -> None:
    for code in blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("instructedit"):
                module = importlib.import_module(str(node.module))
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_the_tree_in_the_readme_is_the_real_one() -> None:
    tree = next(code for code in blocks(README, "text") if "src/instructedit/" in code)
    parent, listed = "", set()
    for line in tree.splitlines():
        name = line.split()[0]
        parent = parent if line.startswith(" ") else name
        listed.add(f"{parent}{name}" if line.startswith(" ") else name)
    assert [path for path in listed if not (ROOT / path).exists()] == []
    inside = {
        p for p in (ROOT / "src" / "instructedit").iterdir() if p.suffix == ".py" or any(p.glob("*.py"))
    }
    missing = {p.name for p in inside} - {Path(path).name for path in listed} - {"__init__.py"}
    assert missing == set()


def test_the_readme_is_short_and_names_no_place_of_ours() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) < 200
    for page in PAGES:
        assert not re.search(r"\bshared/|/root/|/work/|/home/", page.read_text(encoding="utf-8")), page.name


def test_the_layout_in_the_docs_reads_the_record_in_the_docs() -> None:
    import json

    import yaml

    from instructedit.data.layouts import parse_layout
    from instructedit.data.records import build_cases

    page = ROOT / "docs" / "data.md"
    record = next(json.loads(code) for code in blocks(page, "json") if '"q"' in code)
    layout = parse_layout("quiz", yaml.safe_load(blocks(page, "yaml")[0]))
    assert layout.fits(record)
    (case,) = build_cases(record, layout, layout)
    assert (case.prompt, case.target_new, case.ground_truth) == (
        "Who wrote Emma?",
        "Mary Shelley",
        "Jane Austen",
    )
    assert [(probe.group, probe.prompt) for probe in case.probes] == [
        ("rephrase", "Emma was written by"),
        ("locality", "Who wrote Persuasion?"),
    ]


def test_the_bars_in_the_docs_are_bars(tmp_path: Path) -> None:
    from instructedit.report import read_bars

    path = tmp_path / "bars.yaml"
    path.write_text(blocks(ROOT / "docs" / "evaluation.md", "yaml")[0])
    assert len(read_bars(path)) > 5
