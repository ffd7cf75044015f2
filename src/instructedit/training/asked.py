"""What an editor learns to read an instruction from: the banks, and what people write in their own words."""

import random
from functools import cache
from pathlib import Path

import yaml

from instructedit.instructions.banks import Bank, Split, load_banks, load_scopes, load_words
from instructedit.instructions.compose import join
from instructedit.storage import sha256_file
from instructedit.types import Scope

ASKED = Path(__file__).with_name("asked.yaml")
Asked = dict[str, dict[Split, list[str]]]  # by what they ask for: plain, wide, narrow, erase, keep


@cache
def load_asked() -> Asked:
    """All wordings of ``asked.yaml``, by what they ask for and by split."""
    return yaml.safe_load(ASKED.read_text(encoding="utf-8"))


def asked_digest() -> str:
    """The SHA-256 of ``asked.yaml``."""
    return sha256_file(ASKED)


def free_wordings(split: Split) -> set[str]:
    """What people write in their own words, as ``asked.yaml`` has it."""
    return {wording for lists in load_asked().values() for wording in lists[split]}


def scopes_to_read(split: Split, count: int, seed: int = 0) -> dict[str, Scope]:
    """Instructions with every wording of both scopes, each alone and behind `count` requests.

    Requests are the banks' operations that take a scope and the plain ones of ``asked.yaml``; alone they are
    among them, as are those that ask for an answer: who says nothing means a wide scope. Banks of tasks that
    are held out of every training are left out.
    """
    rng, asked = random.Random(f"{seed}|scopes|{split}"), load_asked()
    operations = [words for bank in _taught() if bank.scoped for words in bank.wordings[split]]
    requests = [*operations, *asked["plain"][split]]
    told: dict[str, Scope] = dict.fromkeys([*requests, *asked["keep"][split]], "wide")
    for scope, bank in load_scopes().items():
        for known, wordings in ((operations, bank[split]), (requests, asked[scope][split])):
            for wording in wordings:
                behind = rng.sample(known, min(count, len(known)))
                told |= dict.fromkeys([join(request, wording) for request in behind], scope)
        told |= dict.fromkeys([*bank[split], *asked[scope][split]], scope)
    return told


def kinds_to_read(split: Split, count: int, seed: int = 0) -> dict[str, bool]:
    """Instructions about facts, and whether each asks for an erasure.

    They are every operation of the banks, alone and with `count` sentences about its scope, what people
    write otherwise, and random words: whoever says nothing, or a scope alone, wants nothing erased. Neither
    banks of tasks that are held out nor the words of the control ``random`` are among them.
    """
    rng, asked = random.Random(f"{seed}|kinds|{split}"), load_asked()
    scopes = [words for scope in load_scopes().values() for words in scope[split]]
    told: dict[str, bool] = {}
    for bank in _taught():
        for operation in bank.wordings[split] if bank.kind != "sentiment" else ():
            wordings = [operation, *(join(operation, scope) for scope in rng.sample(scopes, count))]
            told |= dict.fromkeys(wordings, bank.kind == "erase")
    for name, lists in asked.items():
        told |= dict.fromkeys(lists[split], name == "erase")
    lengths = [len(words.split()) for words in asked["keep"][split]]
    noise = [" ".join(rng.choice(load_words()[1::2]) for _ in range(2 * length)) for length in lengths]
    return told | dict.fromkeys(noise, False)


def _taught() -> tuple[Bank, ...]:
    """The banks that an editor may learn from."""
    return tuple(bank for bank in load_banks() if not bank.is_held_out)
