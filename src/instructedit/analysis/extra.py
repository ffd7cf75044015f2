"""The packages that the analysis needs beyond the project's own: the extra ``plot``."""

from importlib.util import find_spec

from instructedit.errors import OutputError

NEEDED = {"sklearn": "scikit-learn", "matplotlib": "matplotlib"}


def require_plot() -> None:
    """Say what is missing before any work is done.

    Errors: `OutputError` with the command that installs it.
    """
    missing = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if missing:
        raise OutputError(
            f"the analysis needs {' and '.join(missing)}, not installed here. "
            "Install the extra: pip install 'instructedit[plot]'."
        )
