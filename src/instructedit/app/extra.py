"""The packages that the page needs beyond the project's own: the extras ``page`` and ``mcp``."""

from importlib.util import find_spec

from instructedit.errors import OutputError


def require_page(*, mcp: bool = False) -> None:
    """Say what is missing before any work is done.

    Errors: `OutputError` with the command that installs it.
    """
    needed = {"gradio": "page", **({"mcp": "mcp"} if mcp else {})}
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise OutputError(
            f"the page needs {' and '.join(missing)}, not installed here. "
            f"Install the extra: pip install 'instructedit[{needed[missing[-1]]}]'."
        )
