"""What a stranger may read: messages without the server's paths, and text that cannot become markup."""

import html
import re
from collections.abc import Iterable
from pathlib import Path

PART = r"""[^\s/'"`,;:()<>|*?\\]+"""  # of a path
PATH = re.compile(rf"""(?<![\w:/.<])(?:/{PART})+/?|\b[A-Za-z]:\\[^\s'"`,;()<>|*?]+""")


def hide_paths(text: str, known: Iterable[Path] = ()) -> str:
    """A message with the last part of each absolute path in its place, those `known` first."""
    return PATH.sub(_last_part, hide_known(text, known))


def hide_known(text: str, known: Iterable[Path]) -> str:
    """A text in which the last part stands for some folders, and for what lies in them."""
    for folder in sorted({str(path) for path in known if path.is_absolute()}, key=len, reverse=True):
        if len(folder) > 1:
            text = re.sub(rf"{re.escape(folder)}(?![\w.-])(?:/{PART})*/?", _last_part, text)
    return text


def _last_part(found: re.Match[str]) -> str:
    return found.group().replace("\\", "/").strip("/").rpartition("/")[2]


def escape(text: str) -> str:
    """Text that a browser shows as it stands, in a template of any kind too."""
    return re.sub(r"[${}`\\]", lambda mark: f"&#{ord(mark.group())};", html.escape(text))
