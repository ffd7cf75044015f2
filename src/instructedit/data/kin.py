"""Kin: other relations than a prompt's own whose prompts ask for the same answer."""

from collections.abc import Collection
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from instructedit.data.paraphrase import Family, family_of, load_phrasebook, template_of
from instructedit.types import EditCase


def has_kin(case: EditCase) -> bool:
    """Whether the prompt's relation has kin at all, whatever kind its answer is of."""
    return bool(_entries_of(_names(case)))


def kin_forms(case: EditCase, kind: str = "") -> tuple[str, ...]:
    """The forms of all relations that are kin to the prompt's own, none its own; empty where it has none.

    `kind` says what its answer is, such as "a continent": some relations are kin of such answers only.
    """
    names, words = _names(case), set(kind.lower().split())
    found = dict.fromkeys(form for name in _kin(names, words) for form in _family(name))
    return tuple(form.replace("{s}", case.subject) for form in found if form not in names)


def _names(case: EditCase) -> set[str]:
    """The prompt and all forms of its relation, as templates; none where it does not name its subject."""
    template = template_of(case)
    own = family_of(template)
    return {template, *(_forms(own) if own else ())} - {""}


def _kin(names: Collection[str], words: Collection[str]) -> list[str]:
    """The first forms of the families, and single prompts, that are kin to any of some forms."""
    found = _entries_of(names)
    fit = [entry for entry in found if not entry.get("kinds") or not set(words).isdisjoint(entry["kinds"])]
    return [name for entry in fit for name in entry["to"]]


def _entries_of(names: Collection[str]) -> list[dict[str, Any]]:
    return [entry for entry in _entries() if not set(names).isdisjoint(entry["from"])]


def _family(name: str) -> tuple[str, ...]:
    """All forms of the family that one form names; of none, that form alone."""
    known = (family for family in load_phrasebook().families if name in family.forms)
    return next(map(_forms, known), (name,))


def _forms(family: Family) -> tuple[str, ...]:
    return family.forms + family.also


@cache
def _entries() -> list[dict[str, Any]]:
    return yaml.safe_load(files("instructedit.data").joinpath("kin.yaml").read_text("utf-8"))
