"""Writers: a server on loopback that speaks the OpenAI chat protocol from a script; a tiny model."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from instructedit.backbone.chat import LocalChat
from tiny_models import tiny_model, tiny_tokenizer

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}A:"


@dataclass(frozen=True)
class Line:
    """One scripted answer: status, headers and body, after `delay` seconds."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0


def say(text: str | None, finish: str = "stop") -> Line:
    """A chat completion with one choice."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return Line(json.dumps({"object": "chat.completion", "choices": [choice]}).encode())


def fail(status: int, message: str = "no", **headers: str) -> Line:
    """An error as OpenAI writes it; an underscore in a header's name stands for a dash."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Line(json.dumps({"error": {"message": message}}).encode(), status, named)


def listing(*texts: str) -> Line:
    """A numbered list between two lines of talk."""
    lines = [f"{number}. {text}" for number, text in enumerate(texts, 1)]
    return say("\n".join(["Sure! Here they are:", *lines, "I hope this helps!"]))


@dataclass
class StandIn:
    """The script, whose last line is repeated, and the requests so far."""

    url: str = ""
    script: list[Line] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    bodies: list[dict] = field(default_factory=list)

    def play(self, *lines: Line) -> None:
        self.script = list(lines)

    def asked(self) -> Sequence[str]:
        """The text of every request."""
        return ["\n".join(part["content"] for part in body["messages"]) for body in self.bodies]


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """The server, for as long as the block lasts."""
    told = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.paths.append(self.path)
            told.keys.append(self.headers.get("Authorization"))
            told.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            line = told.script.pop(0) if len(told.script) > 1 else told.script[0]
            time.sleep(line.delay)
            self.send_response(line.status)
            for name, value in {**line.headers, "Content-Length": str(len(line.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(line.body)

        def log_message(self, *_args: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_args: None  # whoever asked may have gone
    told.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def tiny_chat(context: int = 1024, max_tokens: int = 12) -> LocalChat:
    """A tiny Llama whose tokenizer has a chat template; what it writes is noise."""
    tokenizer = deepcopy(tiny_tokenizer())
    tokenizer.chat_template = TEMPLATE
    return LocalChat(tiny_model(max_position_embeddings=context), tokenizer, "tiny", max_tokens=max_tokens)
