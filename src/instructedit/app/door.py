"""The server: the page at the root, downloads beside it, and nothing that a stranger should not reach."""

import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from importlib.resources import files
from ipaddress import ip_address
from threading import Thread
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse, JSONResponse, Response

from instructedit.app.functions import Functions
from instructedit.app.page import make_page
from instructedit.app.request import LARGEST
from instructedit.errors import OutputError, one_line

CLOSED = tuple(
    f"/gradio_api/{name}"
    for name in ("upload", "file", "proxy=", "process_recording", "deep_link", "custom_component", "stream")
)
BODY = LARGEST * 2 + 2**16  # bytes of one request: an uploaded file inside JSON
NAMES = {".zip": "instructedit-lora.zip", ".jsonl": "instructedit-edits.jsonl"}
SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "sans-serif")
POLICY = (  # gradio's own scripts are written into the page, and make functions of texts
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
HEADERS = ((b"content-security-policy", POLICY.encode()), (b"referrer-policy", b"same-origin"))
Scope = MutableMapping[str, Any]
Receive, Send = Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]


class Door:
    """What stands before the application: it turns away what no part of the page asks for.

    Files of gradio's own (an upload would tell the browser where it lies), bodies above `BODY`, and, on a
    loopback address, requests that name another host (a site that points its name here). A browser is told
    to ask nobody else for anything.
    """

    def __init__(self, application: Any, hosts: tuple[str, ...] = ()) -> None:
        self.application, self.hosts = application, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        await (self._refuse(scope) or self.application)(scope, receive, answer)

    def _refuse(self, scope: Scope) -> Response | None:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if self.hosts and _host_of(headers.get(b"host", "")) not in self.hosts:
            return _say(400, "unknown host")
        if scope["path"].startswith(CLOSED):
            return _say(404, "not found")
        length = headers.get(b"content-length", "0")
        if b"transfer-encoding" in headers:
            return _say(411, "say how long the request is")
        if not length.isdecimal() or int(length) > BODY:
            return _say(413, f"too large: {LARGEST // 2**20} MB are read at the most")
        return None


def _say(status: int, what: str) -> Response:
    return JSONResponse({"error": what}, status)


def _host_of(header: str) -> str:
    """The host without its port; an address of version 6 without its brackets."""
    return header[1:].partition("]")[0] if header.startswith("[") else header.partition(":")[0]


def make_application(functions: Functions, *, host: str = "127.0.0.1", mcp: bool = False) -> Any:
    """The whole application, ready to be served."""
    application = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @application.get("/download/{name}")
    def download(name: str) -> Response:
        path = functions.desk.offered(name)
        if path is None or not path.is_file():
            return _say(404, "there is no such download any more; make it again")
        return FileResponse(path, filename=NAMES[path.suffix])

    theme = gr.themes.Soft(font=list(SYSTEM_FONTS), font_mono=["ui-monospace", "monospace"])
    gr.mount_gradio_app(
        application,
        make_page(functions),
        path="/",
        server_name=host,
        show_error=False,
        footer_links=["api"],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        enable_monitoring=False,
        max_file_size=LARGEST,
        mcp_server=mcp,
        theme=theme,
        css=files("instructedit.app").joinpath("style.css").read_text("utf-8"),
    )
    return Door(application, ("localhost", "127.0.0.1", "::1", host) if is_loopback(host) else ())


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A socket that waits for visitors; port 0 takes a free one.

    Errors: `OutputError` when the port is taken or cannot be, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, TypeError, ValueError) as error:  # the last two of a name like ä..b
        reason = getattr(error, "strerror", None) or one_line(error)
        raise OutputError(
            f"cannot listen on {host}, port {port}: {reason}. Choose another --port (0 to 65535) or --host."
        ) from error


def url_of(listening: socket.socket) -> str:
    """What to type into a browser."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(application: Any, listening: socket.socket) -> None:
    """Answer until the process is told to stop, which ends in a `KeyboardInterrupt`."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn raises again what it caught
    _server(application).run(sockets=[listening])


@contextmanager
def served(application: Any, listening: socket.socket) -> Iterator[str]:
    """Answer in the background inside the block, which is given the address."""
    server = _server(application)
    thread = Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        while thread.is_alive() and not server.started:
            thread.join(0.05)
        yield url_of(listening)
    finally:
        server.should_exit = True
        thread.join(10)


def _server(application: Any) -> uvicorn.Server:
    settings: dict[str, Any] = {
        "log_level": "warning",
        "server_header": False,
        "timeout_graceful_shutdown": 3,
    }
    return uvicorn.Server(uvicorn.Config(application, **settings))
