"""Ordinary text for training is read as a file of records is."""

from pathlib import Path

import pytest

from instructedit.cli.ordinary_text import read_ordinary
from instructedit.errors import DataError


def test_questions_may_stand_between_blank_lines_and_hold_other_ends_of_lines(tmp_path: Path) -> None:
    file = tmp_path / "text.jsonl"
    lines = [
        '{"question": "who wrote emma", "answer": ["Jane\u2028Austen"]}',
        "",
        '{"question": "who?", "answer": "I"}',
    ]
    file.write_text("\ufeff" + "\r\n".join(lines) + "\n", encoding="utf-8")
    first, second = read_ordinary([file])
    assert (first.prompt, first.answers) == ("Who wrote emma?", ("Jane\u2028Austen",))
    assert (second.prompt, second.answers) == ("Who?", ("I",))
    file.write_text("nothing\n")
    with pytest.raises(DataError, match="line 1"):
        read_ordinary([file])
