"""What a stranger may read: messages without the server's paths, and text that cannot become markup."""

import html
import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

PART = r"""[^\s/'"`,;:()<>|*?\\]+"""  # of a path
PATH = re.compile(
    rf"""(?<=')/[^'\n]+(?=')|(?<=")/[^"\n]+(?=")"""  # in quotes it may hold spaces
    rf"""|\bfile:(?://[\w.-]*)?(?:/+{PART})+/*"""
    rf"""|(?<![\w/.<])(?!(?<=:)//)~?(?:/+{PART})+/*"""  # neither and/or, nor https://example.org/a
    r"""|\b[A-Za-z]:\\[^\s'"`,;()<>|*?]+"""
)


def hide_paths(text: str, known: Iterable[Path] = (), said: Sequence[str] = ()) -> str:
    """A message with the last part of each path in its place, those `known` first.

    What stands in a text that visitors `said` is their own, and is left as it is.
    """
    return PATH.sub(partial(_last_part, said), hide_known(text, known, said))


def hide_known(text: str, known: Iterable[Path], said: Sequence[str] = ()) -> str:
    """A text in which the last part stands for some folders, and for what lies in them."""
    for folder in sorted({str(path) for path in known if len(path.parts) > 1}, key=len, reverse=True):
        found = re.compile(rf"(?<![\w.-]){re.escape(folder)}(?![\w-]|\.\w)(?:/+{PART})*/*")
        text = found.sub(partial(_last_part, said), text)
    return text


def _last_part(said: Sequence[str], found: re.Match[str]) -> str:
    path = found.group()
    if any(path in text or path in repr(text) for text in said):
        return path
    return path.replace("\\", "/").strip("/").rpartition("/")[2]


def escape(text: str) -> str:
    """Text that a browser shows as it stands, in a template of any kind too."""
    return re.sub(r"[${}`\\]", lambda mark: f"&#{ord(mark.group())};", html.escape(text))
