"""The OpenAI chat protocol: what a server's answers and refusals say."""

import json
import re
import time
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from urllib.error import HTTPError

PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})  # refusals that may be gone next time
LONGEST_WAIT = 120.0  # seconds; a server that asks for more is not waited for


class NoAnswerError(Exception):
    """One request that gave no answer: why, whether another try makes sense, and after how many seconds."""

    def __init__(self, said: str, code: int = 0, *, again: bool = True, wait: float = 0.0) -> None:
        super().__init__(said)
        self.said, self.code, self.again, self.wait = said, code, again, wait


def refusal(error: HTTPError) -> NoAnswerError:
    """What a server's error says: its own words, and how long it wants to be left alone."""
    try:
        with error:
            text = error.read(1 << 16).decode("utf-8", "replace")
    except (OSError, HTTPException):
        text = ""
    words = f"{error.code} {error.reason}: {_message(text)}".rstrip(": ")
    wait = seconds_to_wait(error.headers.get("Retry-After", ""))
    if wait > LONGEST_WAIT:
        words += f" (it asks to wait {wait:.0f} s)"
    return NoAnswerError(words, error.code, again=error.code in PASSING, wait=wait)


def seconds_to_wait(value: str) -> float:
    """The seconds that a Retry-After header asks for, given as a number or a date; 0 for anything else."""
    if re.fullmatch(r"\s*\d{1,9}(\.\d+)?\s*", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def read_reply(data: bytes) -> str:
    """The text of the first choice; what a limit of tokens cut off in mid-line is dropped.

    Errors: `NoAnswerError` for anything but the protocol's answer.
    """
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        raise NoAnswerError("its answer is not JSON") from None
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not choices or not isinstance(choices, list):
        raise NoAnswerError(
            f"its answer holds no choices. {_message(data.decode('utf-8', 'replace'))}".strip()
        )
    message = choices[0].get("message") if isinstance(choices[0], dict) else None
    if not isinstance(message, dict):
        raise NoAnswerError("its answer's first choice holds no message")
    content = message.get("content") or ""
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    content = str(content).encode("utf-8", "replace").decode()  # half a pair of surrogates is no text
    whole, cut = content, choices[0].get("finish_reason") == "length"
    return whole.rpartition("\n")[0] or whole if cut else whole


def _message(text: str) -> str:
    """A server's own words of an error, wherever they stand; empty where there are none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "" if text.lstrip().startswith("<") else text[:200]
    for key in ("error", "message", "detail"):
        value = value.get(key, value) if isinstance(value, dict) else value
    return value[:200] if isinstance(value, str) else ""
