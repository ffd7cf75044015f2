"""The page as it is served: HTTP functions and MCP tools, doors closed, nothing of the server shown."""

import json
import socket
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app_desk import EVIL, tiny_functions
from instructedit.app.pair import Pair
from instructedit.app.request import LARGEST
from instructedit.app.session import Desk
from instructedit.errors import DataError, OutputError

gradio = pytest.importorskip("gradio", reason="the extra `page` is not installed")
import gradio_client  # noqa: E402
import httpx  # noqa: E402

from instructedit.app.door import is_loopback, listen, make_application, served, url_of  # noqa: E402
from instructedit.app.page import shown_errors  # noqa: E402

FRANCE = {"prompt": "The capital of France is", "target": "Rome"}
FUNCTIONS = {
    "open_session", "facts", "choose_editor", "cancel", "ask", "chat", "picture", "edit", "import_edits",
    "list_edits", "look", "undo", "redo", "export_requests", "export_adapter",
}  # fmt: skip


@pytest.fixture(scope="module")
def nobody_else_is_asked() -> Iterator[None]:
    """Neither the server nor a client looks for another machine's address or connects to one."""
    asked: set[str] = set()

    def note(host: object) -> None:
        asked.add(host.decode() if isinstance(host, bytes) else str(host))

    class Watched(socket.socket):
        def connect(self, address: Any, /) -> None:
            note(address[0] if isinstance(address, tuple) else "localhost")
            super().connect(address)

    look_up = socket.getaddrinfo
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", Watched)
        patch.setattr(
            socket, "getaddrinfo", lambda host, *rest, **named: (note(host), look_up(host, *rest, **named))[1]
        )
        yield
    assert "127.0.0.1" in asked
    assert asked <= {"127.0.0.1", "::1", "localhost"}


@pytest.fixture(scope="module")
def url(pair: Pair, nobody_else_is_asked: None) -> Iterator[str]:
    """The address of a page, with MCP where that is installed."""
    pytest.importorskip("mcp", reason="the extra `mcp` is not installed")
    functions = tiny_functions(pair)
    with served(make_application(functions, mcp=True), listen("127.0.0.1", 0)) as address:
        yield address
    functions.desk.close()


@pytest.fixture(scope="module")
def client(url: str) -> gradio_client.Client:
    return gradio_client.Client(url, verbose=False, analytics_enabled=False)


def call(client: gradio_client.Client, name: str, **arguments: Any) -> Any:
    return client.predict(**arguments, api_name=f"/{name}")


def test_an_edit_is_made_seen_and_taken_back_by_http(client: gradio_client.Client) -> None:
    session = call(client, "open_session")
    found = call(client, "edit", session=session, **FRANCE, instruction="Change it.", neighbours=["Rome is"])
    (edit,) = found["edits"]
    assert edit["instruction"] == "Change it."
    assert {question["group"] for question in edit["questions"]} >= {"prompt", "instructed", "neighbour"}
    assert [entry["id"] for entry in call(client, "list_edits", session=session)] == ["0001"]
    assert call(client, "list_edits", session=call(client, "open_session")) == []
    assert call(client, "undo", session=session, edits=["0001"]) == ["0001"]
    asked = call(client, "ask", session=session, **FRANCE)
    assert asked["probability_before"] == asked["probability_after"]
    assert call(client, "redo", session=session, edit="1") is True
    assert call(client, "chat", session=session, message="Paris is", tokens=2).keys() == {"base", "edited"}


def test_arguments_can_be_given_by_name_in_any_language(url: str, client: gradio_client.Client) -> None:
    session = call(client, "open_session")
    for name, arguments in (("edit", FRANCE), ("list_edits", {})):
        place = f"{url}/gradio_api/call"
        event = httpx.post(f"{place}/v2/{name}", json={"session": session, **arguments}).json()["event_id"]
        answer = httpx.get(f"{place}/{name}/{event}", timeout=60).text
        assert answer.startswith("event: complete")
        assert '"id": "0001"' in answer


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("undo", {"edits": ["77"]}, "unknown edit"),
        ("edit", {"prompt": "", "target": "x"}, "no prompt"),
        ("import_edits", {"content": '{"prompt": "' + EVIL}, "content.jsonl, line 1"),
        ("import_edits", {"content": "x" * (LARGEST + 1)}, "4 MB"),
        ("chat", {"message": "Hi", "turns": [["a"]]}, "a turn that is not"),
        ("chat", {"message": "Hi", "tokens": 0}, "0 tokens"),
        ("chat", {"message": "Hi", "tokens": "x"}, "tokens: found 'x', expected int"),
        ("look", {"edits": [5]}, "edits: found [5], expected list[str]"),
        ("undo", {"edits": "0001"}, "edits: found '0001', expected list[str]"),
        ("edit", {**FRANCE, "wordings": "Paris"}, "wordings: found 'Paris'"),
        ("choose_editor", {"editor": ["tiny"]}, "editor: found ['tiny'], expected str"),
        ("export_adapter", {}, "nothing to download"),
    ],
)
def test_an_error_is_one_message_without_a_path(
    client: gradio_client.Client, name: str, arguments: dict[str, Any], expected: str
) -> None:
    session = call(client, "open_session")
    with pytest.raises(gradio_client.exceptions.AppError) as caught:
        call(client, name, session=session, **arguments)
    assert expected in str(caught.value)
    assert "/" not in str(caught.value).replace(EVIL, "")
    assert "Traceback" not in str(caught.value)


def test_what_visitors_wrote_stays_whole_in_an_error(client: gradio_client.Client) -> None:
    session, prompt = call(client, "open_session"), "The file of users is /etc/passwd, as in"
    call(client, "edit", session=session, prompt=prompt, target="Rome /dev/null")
    with pytest.raises(gradio_client.exceptions.AppError) as caught:
        call(client, "edit", session=session, prompt=prompt, target="Paris /dev/zero")
    for text in (prompt, "Rome /dev/null", "Paris /dev/zero"):
        assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("cannot read /data/My Models/team secret/x/a.json: gone", "cannot read a.json: gone"),
        ("no model at /home of models/tiny", "no model at tiny"),
        ("error:/srv/secret/x", "error:x"),
    ],
)
def test_no_folder_of_editors_and_models_is_named(pair: Pair, message: str, shown: str) -> None:
    near = copy(pair.backbone)
    near.name = "/home of models/tiny"
    private = [Path("/data/My Models/team secret/x")]
    desk = Desk(lambda _name: replace(pair, backbone=near), ["tiny"], private=private)
    desk.pair("tiny")
    with pytest.raises(gradio.Error) as caught, shown_errors(desk, str, desk.open()):
        raise DataError(message)
    desk.close()
    assert str(caught.value.message) == shown


def test_a_mistake_of_the_program_is_logged_and_not_shown(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    desk = tiny_functions(pair).desk
    with pytest.raises(gradio.Error, match="Something went wrong") as caught, shown_errors(desk, str):
        raise ValueError("/srv/secret")
    with pytest.raises(gradio.Error, match="No space left") as full, shown_errors(desk, str):
        raise OSError(28, "No space left on device", "/srv/secret")
    desk.close()
    assert "secret" not in str(caught.value) + str(full.value)
    assert "ValueError: /srv/secret" in caplog.text
    assert "device: '/srv/secret'" in caplog.text


def test_nothing_of_the_server_and_nobody_else_is_in_the_page(url: str) -> None:
    for place in ("/", "/config", "/gradio_api/info", "/theme.css"):
        text = httpx.get(url + place).raise_for_status().text
        for word in (str(Path.home()), str(Path.cwd()), "site-packages", "/tmp", "googleapis", "gstatic"):
            assert word not in text, (place, word)
    assert '"analytics_enabled":false' in httpx.get(f"{url}/config").text.replace(" ", "")


@pytest.mark.parametrize(
    ("method", "place", "status"),
    [
        ("POST", "/gradio_api/upload", 404),
        ("GET", "/gradio_api/file=/etc/passwd", 404),
        ("GET", "/gradio_api/deep_link?session_hash=x", 404),
        ("GET", "/gradio_api/proxy=https://example.org", 404),
        ("GET", "/download/x", 404),
        ("GET", "/docs", 404),
    ],
)
def test_doors_are_closed(url: str, method: str, place: str, status: int) -> None:
    found = httpx.request(method, url + place)
    assert found.status_code == status
    if place.startswith("/gradio_api"):
        assert found.json() == {"error": "not found"}  # the door's answer, not gradio's


def test_a_browser_is_told_to_ask_nobody_else(url: str) -> None:
    for place in ("/", "/config", "/gradio_api/upload"):
        policy = httpx.get(url + place).headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "http" not in policy


def test_a_body_too_large_and_a_host_that_is_not_ours_are_turned_away(url: str) -> None:
    session = url + "/gradio_api/call/import_edits"
    assert httpx.post(session, content=b" " * (LARGEST * 2 + 2**17)).status_code == 413
    assert httpx.post(session, content=iter([b"{}"])).status_code == 411
    assert httpx.get(url, headers={"host": "example.org"}).status_code == 400
    assert httpx.get(url, headers={"host": "localhost:1"}).status_code == 200


def test_a_download_is_fetched_once_it_was_made(client: gradio_client.Client, url: str) -> None:
    pytest.importorskip("peft")
    session = call(client, "open_session")
    call(client, "edit", session=session, **FRANCE)
    offer = call(client, "export_adapter", session=session)
    found = httpx.get(f"{url}/{offer['url']}")
    assert (found.status_code, len(found.content)) == (200, offer["bytes"])
    assert "instructedit-lora.zip" in found.headers["content-disposition"]
    assert found.content[:2] == b"PK"


def test_the_functions_are_offered_by_http_and_as_tools(url: str) -> None:
    named = httpx.get(f"{url}/gradio_api/info").json()["named_endpoints"]
    assert {name.strip("/") for name in named} == FUNCTIONS
    tools = {tool["name"]: tool for tool in speak(url, "tools/list", {})["tools"]}
    assert {name for function in FUNCTIONS for name in tools if name.endswith(function)} == set(tools)
    edit = next(tool for name, tool in tools.items() if name.endswith("edit"))
    assert "prompt" in edit["inputSchema"]["properties"]
    assert "erase" in json.dumps(edit)


def test_a_tool_can_be_used(url: str) -> None:
    names = [tool["name"] for tool in speak(url, "tools/list", {})["tools"]]
    opened = next(name for name in names if name.endswith("open_session"))
    session = speak(url, "tools/call", {"name": opened, "arguments": {}})["content"][0]["text"].strip('"')
    listed = next(name for name in names if name.endswith("list_edits"))
    answer = speak(url, "tools/call", {"name": listed, "arguments": {"session": session}})
    assert not answer.get("isError")
    assert answer["content"][0]["text"] == "[]"


def speak(url: str, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """One request to the MCP server, and its result."""
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
    headers = {"accept": "application/json, text/event-stream"}
    found = httpx.post(f"{url}/gradio_api/mcp/", json=message, headers=headers, timeout=60)
    lines = [line.removeprefix("data: ") for line in found.text.splitlines() if "jsonrpc" in line]
    return json.loads(lines[-1])["result"]


def test_a_port_that_is_taken_is_one_clear_error() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert url_of(first) == f"http://127.0.0.1:{port}"
        with pytest.raises(OutputError, match="another --port"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("ä..b", 0)])
def test_an_address_that_cannot_be_is_one_clear_error(host: str, port: int) -> None:
    with pytest.raises(OutputError, match=f"cannot listen on {host}, port {port}: .* another --port"):
        listen(host, port)


def test_loopback_addresses_are_known() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "box")] == [
        True, True, True, False, False,
    ]  # fmt: skip
