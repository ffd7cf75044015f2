"""The command line: parsing, one error line, exit codes. Each command is a short file beside this one."""

import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from instructedit.cli.application import make_app
from instructedit.cli.options import COMMON, Common
from instructedit.errors import InstructEditError, OutputError
from instructedit.storage import cannot_write

USAGE, INTERRUPTED, CLOSED_PIPE = 2, 130, 141
REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code (the console script's entry point)."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command line in this process and return its exit code.

    0 done; 2 the command line is wrong; 130 interrupted; else the `exit_code` of the error class.
    """
    from cyclopts import CycloptsError

    as_json, debug = "--json" in arguments, "--debug" in arguments
    try:
        command, bound, _ = make_app().parse_args(list(arguments))
        return _execute(command, bound)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED, as_json=as_json)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except CycloptsError as error:
        return _complain(f"{error} See --help.", USAGE, as_json=as_json)
    except InstructEditError as error:
        if debug:
            raise
        return _complain(str(error), error.exit_code, as_json=as_json)
    except OSError as error:
        if debug or error.errno not in REFUSED:
            raise
        refused = cannot_write(Path(error.filename or "the output"), error)
        return _complain(str(refused), OutputError.exit_code, as_json=as_json)


def _execute(command: Callable[..., Any], bound: Any) -> int:
    """Run a bound command, print what it hands back, and return the exit code."""
    from instructedit.cli.report import Report, print_report
    from instructedit.progress import silent

    common: Common = bound.arguments.get("common", COMMON)
    with (
        redirect_stdout(sys.stderr) if common.json else nullcontext(),
        silent() if common.json else nullcontext(),
    ):
        report = command(*bound.args, **bound.kwargs)
    if not isinstance(report, Report):
        return 0
    print_report(report, as_json=common.json)
    if report.failure is None:
        return 0
    if common.debug:
        raise report.failure
    return _complain(str(report.failure), report.failure.exit_code, as_json=False)


def _complain(message: str, exit_code: int, *, as_json: bool) -> int:
    """Say one red line on stderr, for a machine one document on stdout as well; return the exit code."""
    from rich.console import Console
    from rich.text import Text

    line = " ".join(message.split())
    Console(stderr=True, soft_wrap=True).print(Text(f"error: {line}", style="bold red"))
    if as_json:
        print(json.dumps({"error": line, "exit_code": exit_code}, ensure_ascii=False))
    return exit_code
