"""Kin: other relations than a prompt's own whose prompts ask for the same answer."""

from collections.abc import Collection
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from instructedit.data.paraphrase import Family, family_of, load_phrasebook
from instructedit.types import EditCase


def kin_forms(case: EditCase, kind: str = "") -> tuple[str, ...]:
    """The forms of all relations that are kin to the prompt's own, none its own; empty where it has none.

    `kind` says what its answer is, such as "a continent": some relations are kin of such answers only.
    """
    if not case.subject or case.subject not in case.prompt:
        return ()
    template, words = case.prompt.strip().replace(case.subject, "{s}"), set(kind.lower().split())
    own = family_of(template)
    names = {template, *(_forms(own) if own else ())}
    found = dict.fromkeys(form for name in _kin(names, words) for form in _family(name))
    return tuple(form.replace("{s}", case.subject) for form in found if form not in names)


def _kin(names: Collection[str], words: Collection[str]) -> list[str]:
    """The first forms of the families, and single prompts, that are kin to any of some forms."""
    entries = [entry for entry in _entries() if not set(names).isdisjoint(entry["from"])]
    fit = [entry for entry in entries if not entry.get("kinds") or not set(words).isdisjoint(entry["kinds"])]
    return [name for entry in fit for name in entry["to"]]


def _family(name: str) -> tuple[str, ...]:
    """All forms of the family that one form names; of none, that form alone."""
    known = (family for family in load_phrasebook().families if name in family.forms)
    return next(map(_forms, known), (name,))


def _forms(family: Family) -> tuple[str, ...]:
    return family.forms + family.also


@cache
def _entries() -> list[dict[str, Any]]:
    return yaml.safe_load(files("instructedit.data").joinpath("kin.yaml").read_text("utf-8"))
