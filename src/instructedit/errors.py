"""Errors a user can cause: each says what was found, what was expected and what to try next."""


class InstructEditError(Exception):
    """Root of the errors shown to a user as one message, not a traceback; `exit_code` is the process's."""

    exit_code = 1


class DataError(InstructEditError):
    """A file of records cannot be read as edits."""

    exit_code = 3


class ModelError(InstructEditError):
    """A model cannot be loaded, split or edited."""

    exit_code = 4


class SitesError(ModelError):
    """No layer of a model is among the sites that are asked for."""


class EditorFileError(InstructEditError):
    """An editor file is broken, or was made for another model."""

    exit_code = 5


class OutputError(InstructEditError):
    """A result cannot be written: the folder exists, the disk is full, or writing is not allowed."""

    exit_code = 6


class UnknownNameError(InstructEditError):
    """A task, editor or configuration that does not exist; the message suggests the nearest name."""

    exit_code = 7


class EditFailedError(InstructEditError):
    """An edit was made and did not take."""

    exit_code = 8


def one_line(error: BaseException) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())


def unknown_name(what: str, name: str, known: list[str]) -> UnknownNameError:
    """The error for a name that is not among `known`, with the nearest one suggested."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UnknownNameError(f"unknown {what} {name!r}; known: {', '.join(sorted(known))}.{hint}")
