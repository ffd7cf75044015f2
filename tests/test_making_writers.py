"""The writers of instructions, and their answers: the protocol, local models, parsing, rules."""

import json
import string
from collections.abc import Iterator
from dataclasses import replace
from email.utils import formatdate

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chat_stand_in import Line, StandIn, fail, say, stand_in, tiny_chat
from instructedit.backbone.chat import LocalChat
from instructedit.errors import ModelError
from instructedit.making import server as server_module
from instructedit.making.parsing import parse_answer, undress
from instructedit.making.protocol import seconds_to_wait
from instructedit.making.rules import Rules, sift
from instructedit.making.server import ChatServer
from tiny_editors import tiny_case, tiny_opinion
from tiny_models import tiny_tokenizer

QUESTION = [{"role": "user", "content": "Write."}]
GOOD = "1. Change it.\n2. Swap it."
WORDS = ["change", "the", "fact", "über", "it’s", "{subject}", "don't", "“new”", "well-known", "(old)", "x,"]
descriptions = st.lists(
    st.lists(st.sampled_from(WORDS), min_size=2, max_size=6).map(" ".join).map(lambda t: f"{t}, now"),
    min_size=1,
    max_size=5,
).map(lambda texts: [f"{text[:1].upper()}{text[1:]}." for text in texts])
FORMS = {
    "numbers": lambda texts: "Here:\n" + "\n".join(f"{n}. {t}" for n, t in enumerate(texts, 1)) + "\nEnjoy!",
    "brackets": lambda texts: "\n\n".join(f"  ({n}) {t}" for n, t in enumerate(texts, 1)),
    "bullets": lambda texts: "\n".join(f"* {t}" for t in texts),
    "labels": lambda texts: "\n".join(f"- **Description {n}:** {t}" for n, t in enumerate(texts, 1)),
    "scores": lambda texts: "\n".join(f"• {t} (score 81.3)" for t in texts),
    "quotes": lambda texts: "\n".join(f'{n}) "{t}"' for n, t in enumerate(texts, 1)),
    "single quotes": lambda texts: "\n".join(f"'{t}'," for t in texts),
    "bold": lambda texts: "\n".join(f"1. **{t}**" for t in texts),
    "lines": lambda texts: "\n".join(texts),
    "json": lambda texts: json.dumps(texts),
    "fence": lambda texts: f"Sure.\n```json\n{json.dumps(texts, indent=1)}\n```\nDone.",
    "objects": lambda texts: json.dumps({"descriptions": [{"text": text} for text in texts]}),
    "thoughts": lambda texts: "<think>\n1. No, not so.\n</think>\n" + "\n".join(f"1. {t}" for t in texts),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@given(texts=descriptions)
def test_descriptions_are_found_in_every_form(form: str, texts: list[str]) -> None:
    assert parse_answer(FORMS[form](texts)) == texts


@given(st.text(st.characters() | st.sampled_from("\n\"'[]{}*1.-:<>")))
def test_any_answer_is_cut_into_clean_lines(answer: str) -> None:
    for text in parse_answer(answer):
        assert text == undress(text)
        assert len(text.splitlines()) <= 1 or not text.isprintable()
        assert text == text.strip() != ""


@pytest.mark.parametrize(
    "answer", ["", "\n \n", "[]", "{}", '""', "---", "<think>1. Never ended", "```\n```"]
)
def test_an_answer_of_nothing_gives_nothing(answer: str) -> None:
    assert parse_answer(answer) == []


@pytest.mark.parametrize("slot", ["[subject]", "<Subject>", "{ subject }", "{{SUBJECT}}", "{subject}"])
def test_slots_are_written_in_one_way(slot: str) -> None:
    assert undress(f"speak of {slot}") == "Speak of {subject}."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Change it.", ""),
        ("change IT!", "a duplicate"),
        ("Forget this.", "a duplicate"),
        ("Stop.", "1 words"),
        ("Here are the descriptions:", "a heading"),
        ("Say that france is great.", "repeats 'France'"),
        ("The capital is Rome.", "repeats 'Rome'"),
        ("Frances and Romeo differ.", "more than the 1"),
        ("Change {it} now.", "braces"),
        ("Change { it now.", "braces"),
        ("word " * 61, "61 words"),
        ("Change\x00 it.", "control"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(text: str, reason: str) -> None:
    case = replace(tiny_case(0), ground_truth="a")
    rules = Rules.for_cases("change", [case])
    usable, refused = sift(["Change it.", text], rules, ["Forget this."], 1)
    assert usable == ["Change it."]
    assert reason in refused[0].reason if reason else refused[0].reason == "a duplicate"


def test_a_sentiment_needs_both_slots() -> None:
    rules = Rules.for_cases("sentiment", [tiny_opinion(0)])
    texts = [
        "Be {sentiment} on {subject}.",
        "Be {sentiment} on it.",
        "Speak well.",
        "{sentiment} {subject} {x}!",
    ]
    usable, refused = sift(texts, rules, [], 9)
    assert usable == texts[:1]
    assert [loss.reason for loss in refused] == [
        "lacks the slot {subject}",
        "lacks the slot {sentiment} and {subject}",
        "has braces that nothing fills",
    ]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with stand_in() as told:
        yield told


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that are asked for; none is made."""
    made: list[float] = []
    clock = type("Clock", (), {"sleep": made.append, "monotonic": staticmethod(server_module.time.monotonic)})
    monkeypatch.setattr(server_module, "time", clock)
    return made


def test_the_protocol_is_spoken(server: StandIn) -> None:
    server.play(say(GOOD))
    model = ChatServer(server.url + "/", "small", " sk-1\n", temperature=0.5, max_tokens=70)
    assert model.reply(QUESTION, 3) == GOOD
    assert (server.paths, server.keys) == (["/v1/chat/completions"], ["Bearer sk-1"])
    expected = {"model": "small", "messages": QUESTION, "temperature": 0.5, "max_tokens": 70, "seed": 3}
    assert server.bodies == [expected]
    assert "sk-1" not in repr(model)
    ChatServer(server.url + "/chat/completions?v=1", "small").reply(QUESTION, 0)
    assert (server.paths[1], server.keys[1]) == ("/v1/chat/completions?v=1", None)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (fail(401, "Incorrect key sk-12345"), "401 Unauthorized: Incorrect key ***. Perhaps the key"),
        (fail(404, "no such model"), "--writer"),
        (fail(429, "later", Retry_After="4000"), "asks to wait 4000 s"),
        (fail(302, "", Location="http://127.0.0.1:1/v1"), "302"),
        (Line(b"\x1b[31m<b>", 403), "403"),
    ],
)
def test_what_will_not_pass_is_not_asked_again(server: StandIn, waits: list, line: Line, said: str) -> None:
    server.play(line)
    with pytest.raises(ModelError) as caught:
        ChatServer(server.url, "m", "sk-12345").reply(QUESTION, 0)
    assert said in str(caught.value)
    assert "sk-12345" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert (len(server.bodies), waits) == (1, [])


BROKEN = [
    fail(500),
    Line(b"<html>Bad gateway", 502),
    Line(b'{"choices": ['),
    Line(b'{"choices": []}'),
    Line(b'{"choices": [{}]}'),
    Line(b'{"choices": [3], "error": {"message": "overloaded"}}'),
    Line(b"[]"),
    Line(b"\xff\xfe"),
    Line(b""),
]


@pytest.mark.parametrize("line", BROKEN, ids=range(len(BROKEN)))
def test_what_may_pass_is_asked_again_with_longer_pauses(server: StandIn, waits: list, line: Line) -> None:
    server.play(line, line, say(GOOD))
    assert ChatServer(server.url, "m").reply(QUESTION, 0) == GOOD
    assert waits == [1.0, 2.0]
    server.play(line)
    with pytest.raises(ModelError, match=r"gave no answer \(3 times\)"):
        ChatServer(server.url, "m", attempts=3).reply(QUESTION, 0)


def test_a_busy_server_says_how_long_to_wait(server: StandIn, waits: list) -> None:
    server.play(fail(429, "slow down", Retry_After="7"), fail(503, "busy", Retry_After="soon"), say(GOOD))
    assert ChatServer(server.url, "m").reply(QUESTION, 0) == GOOD
    assert waits == [7.0, 2.0]
    assert seconds_to_wait(formatdate(4e9, usegmt=True)) > 1e9
    assert seconds_to_wait(formatdate(0, usegmt=True)) == seconds_to_wait("") == 0.0


def test_a_slow_server_is_given_up(server: StandIn, waits: list) -> None:
    server.play(replace(say(GOOD), delay=0.3))
    with pytest.raises(ModelError, match=r"\(2 times\): no answer within 0.05 s"):
        ChatServer(server.url, "m", timeout=0.05, attempts=2).reply(QUESTION, 0)
    assert waits == [1.0]


def test_nobody_at_the_address_is_one_error(server: StandIn, waits: list) -> None:
    with pytest.raises(ModelError, match=r"127.0.0.1:1/v1 gave no answer \(2 times\)"):
        ChatServer("http://127.0.0.1:1/v1", "m", attempts=2).reply(QUESTION, 0)


def test_settings_that_a_server_does_not_take_are_left_out(server: StandIn, waits: list) -> None:
    said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    server.play(fail(400, said), fail(422, "temperature must be 1"), say(GOOD))
    assert ChatServer(server.url, "m", attempts=1).reply(QUESTION, 0) == GOOD
    assert set(server.bodies[2]) == {"model", "messages", "seed"}
    server.play(fail(400, "too long"))
    with pytest.raises(ModelError, match="too long"):
        ChatServer(server.url, "m").reply(QUESTION, 0)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (say(None), ""),
        (say("1. One thing.\n2. Anoth", "length"), "1. One thing."),
        (say("1. One thi", "length"), "1. One thi"),
        (Line(b'{"choices": [{"message": {"content": [{"type": "text", "text": "Hi"}]}}]}'), "Hi"),
        (Line(b'{"choices": [{"message": {"content": "\\ud800"}}]}'), "?"),
    ],
)
def test_answers_of_every_make_are_read(server: StandIn, line: Line, text: str) -> None:
    server.play(line)
    assert ChatServer(server.url, "m").reply(QUESTION, 0) == text


def test_a_key_that_no_header_can_hold_is_refused_unseen() -> None:
    with pytest.raises(ModelError) as caught:
        ChatServer("http://x/v1", "m", "sk-1\r\nHost: y")
    assert "sk-1" not in str(caught.value)


@pytest.fixture(scope="module")
def local() -> LocalChat:
    return tiny_chat()


@pytest.mark.slow
def test_a_local_model_answers_the_same_for_the_same_seed(local: LocalChat) -> None:
    before = torch.get_rng_state()
    answers = [local.reply(QUESTION, seed) for seed in (0, 0, 1, 2)]
    assert answers[0] == answers[1]
    assert len(set(answers)) > 1
    assert torch.equal(torch.get_rng_state(), before)
    greedy = replace(local, temperature=0.0)
    assert greedy.reply(QUESTION, 0) == greedy.reply(QUESTION, 1)
    assert local.reply([{"role": "user", "content": "Paris is a city."}], 0) != answers[0]


def test_a_local_model_needs_a_template_and_room(local: LocalChat) -> None:
    with pytest.raises(ModelError, match="tiny has no chat template"):
        LocalChat(local.model, tiny_tokenizer(), "tiny")
    with pytest.raises(ModelError, match="--shown"):
        local.reply([{"role": "user", "content": string.ascii_letters * 40}], 0)
