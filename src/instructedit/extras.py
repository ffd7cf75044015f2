"""What a plain installation leaves out: the packages of each extra, and the command that installs them."""

from importlib.util import find_spec

from instructedit.errors import OutputError

EXTRAS = {  # by extra, what is imported and the name that it is installed by
    "eval": {"lm_eval": "lm-eval"},
    "export": {"peft": "peft"},
    "mcp": {"mcp": "mcp"},
    "page": {"gradio": "gradio"},  # without peft all but the download of an adapter works
    "plot": {"sklearn": "scikit-learn", "matplotlib": "matplotlib"},
}


def list_missing(extra: str) -> list[str]:
    """The packages of an extra that are not installed here."""
    return [package for module, package in EXTRAS[extra].items() if find_spec(module) is None]


def install_with(extra: str) -> str:
    """The sentence that says how an extra is installed."""
    return f"Install the extra: pip install 'instructedit[{extra}]'"


def require(extra: str, what: str) -> None:
    """Say what is missing before any work is done; `what` needs it.

    Errors: `OutputError` with the command that installs it.
    """
    if missing := list_missing(extra):
        raise OutputError(f"{what} needs {' and '.join(missing)}, not installed here. {install_with(extra)}.")
