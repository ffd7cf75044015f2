"""A page of headings, paragraphs and tables, written as Markdown and as one HTML file that needs no other."""

import html
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from instructedit.report.tables import format_table

STYLE = """
:root { color-scheme: light dark; --line: #ddd; --strong: #888; --shade: #f2f2f2; --foreign: #f6f1e4;
  --bad: #fdecea; }
@media (prefers-color-scheme: dark) {
  :root { --line: #444; --strong: #999; --shade: #2b2b2b; --foreign: #35301f; --bad: #47221f; }
}
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
th { border-bottom: 2px solid var(--strong); }
.texts td { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 4.5rem; vertical-align: top;
  unicode-bidi: plaintext; }
.marked td { background: var(--bad); }
.foreign { background: var(--foreign); padding: .2rem 1rem; border-left: 4px solid #b58900; }
code { background: var(--shade); padding: 0 .2rem; }
"""
CONTROLS = {code: "\ufffd" for code in range(32) if chr(code) not in "\t\n\r"}


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the page's title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Running text; `**bold**` and backquoted code are understood."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table of texts; `foreign` marks numbers that are not this run's, each line of them.

    With `plain`, the cells are somebody's own words: in HTML they are shown as they are, in full, on as many
    lines as they need. The rows whose numbers are in `marked` stand out.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    foreign: str = ""
    plain: bool = False
    marked: Collection[int] = ()


Block = Heading | Paragraph | Table


def write_markdown(blocks: Sequence[Block]) -> str:
    """The page as Markdown."""
    return "\n\n".join(part for part in map(_markdown, blocks) if part) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Paragraph):
        return block.text
    table = format_table(block.columns, block.rows)
    if not block.foreign:
        return table
    return "\n".join(f"> {line}".rstrip() for line in [f"**{block.foreign}**", "", *table.splitlines()])


def write_html(blocks: Sequence[Block]) -> str:
    """The page as one HTML document without scripts, and without anything from elsewhere."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "Report")
    body = "\n".join(map(_html, blocks))
    head = f'<meta charset="utf-8">\n<title>{_literal(title)}</title>\n<style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{_inline(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        return f"<p>{_inline(block.text)}</p>"
    if not block.rows:
        return ""
    head = "".join(f"<th>{_inline(text)}</th>" for text in block.columns)
    rows = "\n".join(_row(block, number, row) for number, row in enumerate(block.rows))
    kind = ' class="texts"' if block.plain else ""
    table = f"<table{kind}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"
    if not block.foreign:
        return table
    return f'<div class="foreign">\n<p><strong>{_inline(block.foreign)}</strong></p>\n{table}\n</div>'


def _row(block: Table, number: int, row: Sequence[str]) -> str:
    show = _literal if block.plain else _inline
    kind = ' class="marked"' if number in block.marked else ""
    return f"<tr{kind}>" + "".join(f"<td>{show(text)}</td>" for text in row) + "</tr>"


def _literal(text: str) -> str:
    """Text as it stands, whatever it holds: marks escaped, what no page can hold replaced."""
    return html.escape(text.translate(CONTROLS).encode("utf-8", "replace").decode(), quote=False)


def _inline(text: str) -> str:
    bold = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", _literal(text))
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", bold)
