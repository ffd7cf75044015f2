"""What people write when they ask for an edit in their own words: reading is taught with it too."""

import hashlib
import random
from functools import cache
from importlib.resources import files

import yaml

from instructedit.instructions import scoped_operations
from instructedit.instructions.banks import Split
from instructedit.types import Scope

SCOPES: tuple[Scope, ...] = ("wide", "narrow")
Asked = dict[str, dict[Split, list[str]]]  # by what they ask for: plain, wide, narrow, erase, keep


@cache
def load_asked() -> Asked:
    """All wordings of ``asked.yaml``, by what they ask for and by split."""
    return yaml.safe_load(_text())


def asked_digest() -> str:
    """The SHA-256 of ``asked.yaml``."""
    return hashlib.sha256(_text().encode()).hexdigest()


def _text() -> str:
    return (files("instructedit.training") / "asked.yaml").read_text(encoding="utf-8")


def asked_scopes(split: Split, count: int, seed: int = 0) -> dict[str, Scope]:
    """Wordings of both scopes, each alone and behind `count` requests, which alone are wide.

    Requests are the plain ones of the file and the operations of the banks.
    """
    rng, asked = random.Random(f"{seed}|asked|{split}"), load_asked()
    plain = asked["plain"][split]
    requests = [*plain, *scoped_operations(split)]
    told: dict[str, Scope] = dict.fromkeys(plain, "wide")
    for scope in SCOPES:
        for wording in asked[scope][split]:
            behind = [put_behind(request, wording) for request in rng.sample(requests, count)]
            told |= dict.fromkeys([wording, *behind], scope)
    return told


def asked_kinds(split: Split) -> dict[str, bool]:
    """Wordings, and whether each asks for an erasure; one that says how far an edit reaches does not."""
    return {wording: kind == "erase" for kind, lists in load_asked().items() for wording in lists[split]}


def put_behind(request: str, wording: str) -> str:
    """Two sentences, or one where the wording begins with a small letter."""
    if wording[0].isupper() or request.endswith(":"):
        return f"{request} {wording}"
    return f"{request.rstrip('.')}, {wording}"
