"""Progress bars show on a terminal and nowhere else."""

import io

import pytest

from instructedit.progress import silent, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Put a terminal in stderr's place; called in the test itself, for pytest puts its own there before."""
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    return stream


def test_a_terminal_shows_the_description_and_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    assert list(track(range(3), "reading", 3)) == [0, 1, 2]
    assert "reading" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()


def test_nothing_is_shown_inside_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    with silent():
        assert list(track(range(3), "reading")) == [0, 1, 2]
    assert terminal.getvalue() == ""


def test_nothing_is_shown_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(iter("ab"), "reading", 2)) == ["a", "b"]
    assert capsys.readouterr() == ("", "")


def test_items_come_as_they_are_asked_for() -> None:
    taken = []
    for item in track((taken.append(i) or i for i in range(5)), "lazily"):
        if item == 1:
            break
    assert taken == [0, 1]
