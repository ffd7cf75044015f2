"""What a language model answered, cut into descriptions: lists of every usual form, without their dress."""

import json
import re
from typing import Any

ITEM = re.compile(r"\s*(?:[-*•–+]|[(\[]?\d{1,3}[.):\]])\s+(?P<text>.*)")
FENCE = re.compile(r"^\s*```\w*\s*$", re.MULTILINE)
THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
LABEL = re.compile(r"^\**(?:task )?description(?: ?#?\d+)?\**\s*(?::|[.–-]\s)\**\s*", re.IGNORECASE)
SCORE = re.compile(r"\s*[(\[]?\bscore\b\s*[:=]?\s*\d+(?:\.\d+)?\s*%?[)\]]?\s*$", re.IGNORECASE)
SLOT = re.compile(r"[\[<{]{1,2}\s*(subject|sentiment)\s*[\]>}]{1,2}", re.IGNORECASE)
QUOTES = ('""', "''", "``", "“”", "‘’", "«»", "„“")
EMPHASIS = ("**", "__", "*")


def parse_answer(answer: str) -> list[str]:
    """The descriptions in an answer, in its order; empty where there is nothing to read.

    A JSON list (of texts, or of objects that hold texts) is taken as it is. Else, where some lines begin
    with a number or a bullet, these lines, and the rest is talk; where none does, every line. Thoughts
    between ``<think>`` marks are dropped.
    """
    text = FENCE.sub("", THOUGHT.sub("", answer)).strip()
    found = _read_json(text)
    if not found:
        lines = [line for line in text.splitlines() if line.strip()]
        items = [match["text"] for line in lines if (match := ITEM.fullmatch(line))]
        found = items or lines
    return [clean for raw in found if (clean := undress(raw))]


def undress(text: str) -> str:
    """One description on one line: without bullet, label, quotes, emphasis and score, its slots in braces.

    It begins with a capital letter, or a slot, and ends like a sentence. Undressing twice changes nothing.
    """
    before, text = None, " ".join(text.split())
    while text != before:
        before = text
        text = _unwrap(text.removesuffix(",").strip())
        text = LABEL.sub("", SCORE.sub("", text)).strip()
        match = ITEM.fullmatch(text)
        text = match["text"].strip() if match else text
        text = SLOT.sub(lambda slot: f"{{{slot[1].lower()}}}", text)
    if not any(letter.isalnum() for letter in text):
        return ""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", ":")) else ".")


def _unwrap(text: str) -> str:
    """Without one pair of marks around the whole, unless one ends in its midst; apostrophes may stand."""
    for mark in EMPHASIS:
        inside = text[len(mark) : -len(mark)]
        if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark) and mark not in inside:
            return inside.strip()
    for first, last in QUOTES:
        inside, marks = text[1:-1], f"[{first}{last}]"
        ends_within = re.search(rf"(?<!\w){marks}|{marks}(?!\w)", inside)
        if len(text) > 2 and text[0] == first and text[-1] == last and not ends_within:
            return inside.strip()
    return text


def _read_json(text: str) -> list[str]:
    """The texts of a JSON document, or of the first list inside some talk; none where there is no JSON."""
    first, last = text.find("["), text.rfind("]")
    for source in (text, text[first : last + 1] if 0 <= first < last else ""):
        try:
            return _texts(json.loads(source))
        except (ValueError, RecursionError):
            continue
    return []


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in inside for text in _texts(part)]
