"""What reaches a browser: text is shown as text, and no path of the server is in a message."""

import html
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app_desk import EVIL
from instructedit.app.cleaning import escape, hide_known, hide_paths
from instructedit.app.markup import (
    COLUMNS,
    list_edits,
    show_chat,
    show_edits,
    show_facts,
    show_link,
    show_looks,
)

TOKEN = {"token": EVIL, "p": 0.25}
QUESTION = {
    "group": "prompt",
    "prompt": EVIL,
    "target": EVIL,
    "tokens_before": [TOKEN],
    "tokens_after": [],
    "wanted_before": [TOKEN],
    "wanted_after": [TOKEN],
    "probability_before": 0.25,
    "probability_after": 0.00001,
}
EDIT = dict.fromkeys(COLUMNS, EVIL) | {
    "id": "0001",
    "took": True,
    "instruction": EVIL,
    "questions": [QUESTION],
}


def test_words_never_become_markup() -> None:
    shown = [
        show_edits({"took": 1, "added": 1, "edits": [EDIT], "repeated": [EVIL]}),
        show_looks([EDIT | {"holds": False}]),
        show_chat([(EVIL, EVIL, EVIL)]),
        show_facts({"model": EVIL, "editor": EVIL, "layers": 9, "in_force": 1, "shared": False}),
        show_link({"url": EVIL, "bytes": 5}, EVIL),
    ]
    for text in shown:
        assert "<script" not in text
        assert "${" not in text
        assert "{{" not in text
        assert EVIL in html.unescape(text)


def test_an_edit_shows_its_probabilities() -> None:
    shown = show_edits({"took": 1, "added": 1, "edits": [EDIT], "repeated": []})
    assert "25.0 %" in shown
    assert "&lt; 0.1 %" in shown
    assert "<i>25</i>" in shown
    assert "nothing" in shown


def test_an_edit_shows_how_its_instruction_was_read() -> None:
    fact = EDIT | {"kind": "erase", "scope": "narrow"}
    assert "(read as erase, narrow scope)" in show_edits(
        {"took": 1, "added": 1, "edits": [fact], "repeated": []}
    )
    opinion = EDIT | {"kind": "sentiment"}
    assert "read as" not in show_edits({"took": 1, "added": 1, "edits": [opinion], "repeated": []})


def test_an_edit_that_was_asked_again_says_whether_it_holds() -> None:
    assert "Does not hold" in show_looks([EDIT | {"holds": False}])
    assert "edit 0001, undone" in show_looks([EDIT | {"holds": True, "now": "undone"}])


def test_a_long_upload_is_shown_in_short() -> None:
    brief = {name: value for name, value in EDIT.items() if name != "questions"}
    shown = show_edits({"took": 0, "added": 50, "edits": [brief] * 50, "repeated": []})
    assert "0 of 50 edits took" in shown
    assert "and 30 more" in shown


def test_the_latest_edit_stands_first() -> None:
    rows = list_edits([EDIT | {"id": "0001"}, EDIT | {"id": "0002", "took": False}])
    assert [row[:1] + row[2:3] for row in rows] == [["0002", "no"], ["0001", "yes"]]


@given(st.text())
def test_escaped_text_has_no_mark_left_and_reads_the_same(text: str) -> None:
    assert not re.search(r"[<>\"'${}`\\]", escape(text))
    assert html.unescape(escape(text)) == text


MESSAGES = {
    "cannot read /srv/some store/log.jsonl: gone.": "cannot read log.jsonl: gone.",
    "unknown edit in /srv/some store '9'": "unknown edit in some store '9'",
    "/srv/some store, line 3: no JSON": "some store, line 3: no JSON",
    "cannot write '/var/lib/x/y.json' (full)": "cannot write 'y.json' (full)",
    "see https://example.org/a/b, and/or 3 km/h": "see https://example.org/a/b, and/or 3 km/h",
    r"in C:\Users\me\x.json now": "in x.json now",
    "/srv/some storefront/a": "some storefront/a",
    "unknown edit in /srv/x1y2/edits-1 '7'; known: 0001.": "unknown edit in edits-1 '7'; known: 0001.",
    "/srv/x1y2/up.jsonl, line 1": "up.jsonl, line 1",
    "error:/srv/secret/x, not read": "error:x, not read",
    "see file:///var/secret/x.json and file:/var/secret/y": "see x.json and y",
    "//srv/secret/x or /srv//secret/y or ~/secret/z": "x or y or z",
    "no model at '/data/Other Models/team secret/x'.": "no model at 'x'.",
    "cannot read /data/My Models/team secret/x.": "cannot read x.",
    "file:///data/My Models/team secret/x/a.json": "a.json",
    "cannot read runs/My Models/x/editor.safetensors": "cannot read editor.safetensors",
}
KNOWN = [
    Path("/srv/some store"),
    Path("/srv"),
    Path("/data/My Models/team secret/x"),
    Path("runs/My Models/x"),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_lose_their_paths(message: str) -> None:
    assert hide_paths(message, KNOWN) == MESSAGES[message]


@pytest.mark.parametrize(
    "said", ["Where is /etc/passwd?", "/dev/sda is", "In /srv/some store", "See file:///a/b/c"]
)
def test_what_a_visitor_said_is_left_as_it_is(said: str) -> None:
    message = f"{said!r} contradicts edit 0001 of /srv/secret/store, {said[:20]!r}..."
    assert hide_paths(message, KNOWN, [said]) == message.replace("/srv/secret/store", "store")


def test_other_text_is_left_alone_where_only_known_folders_go() -> None:
    text = '{"base": "/models/small", "prompt": "What is /etc/passwd?"}'
    assert hide_known(text, [Path("/models/small"), Path("small"), Path("/")]) == text.replace("/models/", "")
