"""Progress bars show on a terminal and nowhere else."""

import io

import pytest

from instructedit.progress import silent, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    return stream


def test_a_terminal_shows_the_description_and_the_count(terminal: Terminal) -> None:
    assert list(track(range(3), "reading", 3)) == [0, 1, 2]
    assert "reading" in terminal.getvalue()


def test_nothing_is_shown_inside_silent(terminal: Terminal) -> None:
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
