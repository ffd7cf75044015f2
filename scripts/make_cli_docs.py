"""Write docs/cli.md from the commands' own help; `--check` only says whether it is up to date."""

import io
import os
import sys
from pathlib import Path

from rich.console import Console

from instructedit.cli import application
from instructedit.cli.application import make_app

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"
INTRODUCTION = """# Command line

Written by `make docs` from the commands' own help.

Exit codes: 0 done · 1 something else failed · 2 the command line is wrong · 3 the data cannot be read · 4 the
model cannot be loaded or edited · 5 the editor file is broken or belongs to another model · 6 the result
cannot be written, or an extra is missing · 7 an unknown name · 8 an edit did not take, or no longer holds ·
130 interrupted. An error is one line on stderr; `--debug` shows the traceback.
"""


def help_text(arguments: list[str]) -> str:
    """What `instructedit ARGUMENTS --help` prints, 100 columns wide and without colours."""
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=False, color_system=None, legacy_windows=False)
    make_app().help_print(arguments, console=console)
    return "\n".join(line.rstrip() for line in stream.getvalue().strip().splitlines())


def render_page() -> str:
    """The whole page."""
    names = [[], *([name] for name in application.COMMANDS)]
    groups = {
        "data": application.DATA_COMMANDS,
        "instructions": application.INSTRUCTION_COMMANDS,
        "store": application.STORE_COMMANDS,
    }
    names += [[group, name] for group, commands in groups.items() for name in commands]
    parts = [INTRODUCTION]
    for arguments in names:
        title = " ".join(["instructedit", *arguments])
        parts.append(f"## {title}\n\n```text\n{help_text(arguments)}\n```\n")
    return "\n".join(parts)


def main() -> int:
    """Write the page, or with ``--check`` return 1 where it differs."""
    os.environ.pop("COLUMNS", None)
    page = render_page()
    if "--check" in sys.argv[1:]:
        return int(not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
