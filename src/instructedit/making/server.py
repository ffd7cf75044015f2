"""A language model behind a server that speaks the OpenAI chat protocol."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from instructedit.errors import ModelError
from instructedit.making.prompt import Message
from instructedit.making.protocol import LONGEST_WAIT, NoAnswerError, read_reply, refusal

OPTIONAL = ("temperature", "max_tokens", "seed")  # left out when a server says that it does not take them
LARGEST_ANSWER = 1 << 22  # bytes
HINTS = {
    401: "the key is missing or wrong; put it into the environment variable that --key-variable names",
    403: "the key is not allowed to do this",
    404: "there is no such model or path; check --writer and --url, which often ends with /v1",
}


class _NoRedirect(HTTPRedirectHandler):
    """A redirection is an error: it would carry the key to another place."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


@dataclass(frozen=True)
class ChatServer:
    """A chat model at `url` (``http://localhost:8000/v1``), asked with `key` as bearer token if there is one.

    `timeout` holds for one whole request, in seconds. A request that fails in passing (no connection, busy,
    a broken answer) is sent again, `attempts` times in all, after `pause` seconds and then twice as long each
    time, or as long as the server asks. The key is never shown.
    Errors: `ModelError` for an address or a key that cannot be used.
    """

    url: str
    name: str
    key: str = field(default="", repr=False)
    temperature: float = 0.8
    max_tokens: int = 1000
    timeout: float = 120.0
    attempts: int = 5
    pause: float = 1.0

    def __post_init__(self) -> None:
        check_address(self.url)
        if not self.timeout > 0:
            raise ModelError(f"timeout is {self.timeout}. Expected seconds above 0.")
        object.__setattr__(self, "key", self.key.strip())
        if not (self.key.isascii() and self.key.isprintable()):
            raise ModelError("the key holds characters that no header may hold. Copy it again.")

    def reply(self, messages: Sequence[Message], seed: int) -> str:
        """The model's answer to a conversation; empty where it declines to say anything.

        Errors: `ModelError` when the server refuses, cannot be reached, or gives no usable answer.
        """
        body: dict[str, Any] = {"model": self.name, "messages": [dict(message) for message in messages]}
        body |= {"temperature": self.temperature, "max_tokens": self.max_tokens, "seed": seed}
        tries = 0
        while True:
            try:
                return read_reply(self._post(body))
            except NoAnswerError as failure:
                refused = [name for name in OPTIONAL if name in body and name in failure.said]
                if failure.code in (400, 422) and refused:
                    body = {name: value for name, value in body.items() if name not in refused}
                    continue
                tries += 1
                if not failure.again or tries == self.attempts or failure.wait > LONGEST_WAIT:
                    raise self._give_up(failure, tries) from None
                time.sleep(failure.wait or self.pause * 2 ** (tries - 1))

    def _post(self, body: dict[str, Any]) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = Request(chat_address(self.url), json.dumps(body).encode(), headers, method="POST")
        slow = NoAnswerError(f"no answer within {self.timeout:g} s")
        try:
            with build_opener(_NoRedirect).open(request, timeout=self.timeout) as response:
                return _read(response, time.monotonic() + self.timeout)
        except HTTPError as error:
            raise refusal(error) from None
        except TimeoutError:
            raise slow from None
        except URLError as error:
            late = isinstance(error.reason, TimeoutError)
            raise slow if late else NoAnswerError(str(error.reason)) from None
        except (HTTPException, OSError) as error:
            raise NoAnswerError(f"the connection broke ({type(error).__name__})") from None

    def _give_up(self, failure: NoAnswerError, tries: int) -> ModelError:
        said = failure.said.replace(self.key, "***") if self.key else failure.said
        said = "".join(letter if letter.isprintable() else " " for letter in said)[:300]
        often = f" ({tries} times)" if tries > 1 else ""
        hint = HINTS.get(failure.code, "check --url, --writer and the server's log, then run it again")
        return ModelError(f"the server at {shown(self.url)} gave no answer{often}: {said}. Perhaps {hint}.")


def check_address(url: str) -> None:
    """Refuse what is no address of a server, or holds a password, which would be shown in messages.

    Errors: `ModelError`.
    """
    parts, usable = None, False
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        pass
    if parts is None or not usable or not url.isascii() or not url.isprintable() or " " in url:
        raise ModelError("cannot use --url. Expected an address such as http://localhost:8000/v1.")
    if "@" in parts.netloc:
        raise ModelError(
            "--url holds a user's name or password. Expected the key in an environment variable."
        )


def chat_address(url: str) -> str:
    """Where chat completions are asked for: `url` itself, or below it; a query stays behind."""
    path, mark, query = url.partition("?")
    path = path.rstrip("/")
    return (path if path.endswith("/chat/completions") else f"{path}/chat/completions") + mark + query


def shown(url: str) -> str:
    """An address without its query, which may hold secrets."""
    return url.partition("?")[0]


def _read(response: HTTPResponse, deadline: float) -> bytes:
    """The whole answer, unless it takes too long or is far too large."""
    parts: list[bytes] = []
    while part := response.read1(1 << 16):
        parts.append(part)
        if time.monotonic() > deadline:
            raise TimeoutError
        if sum(map(len, parts)) > LARGEST_ANSWER:
            raise NoAnswerError(f"its answer is larger than {LARGEST_ANSWER >> 20} MiB", again=False)
    return b"".join(parts)
