"""The three things an instruction can decide, each as two conditions of one request."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

from instructedit.errors import unknown_name
from instructedit.evaluation.bootstrap import Clusters, clusters_of
from instructedit.evaluation.rows import Row, select
from instructedit.types import EditCase, Scope, Sentiment

ALL = "all"


@dataclass(frozen=True)
class Contrast:
    """Two conditions of one request, for cases that it `takes`; `condition` puts a case under one of them.

    `groups` are asked, and `parts` reads the rows of one condition and side into values by part.
    """

    name: str
    conditions: tuple[str, str]
    takes: Callable[[EditCase], bool]
    condition: Callable[[EditCase, str], EditCase]
    groups: tuple[str, ...]
    parts: Callable[[Sequence[Row], str], dict[str, Clusters]]
    what: str


def _with_scope(case: EditCase, scope: str) -> EditCase:
    return replace(case, scope=cast(Scope, scope))


def _with_sentiment(case: EditCase, sentiment: str) -> EditCase:
    return replace(case, sentiment=cast(Sentiment, sentiment))


def _with_kind(case: EditCase, kind: str) -> EditCase:
    """The request as a change or as an erasure; paraphrases want what the new kind wants."""
    probes = tuple(replace(probe, answers=()) for probe in case.group("rephrase"))
    kept = "change" if case.kind == "erase" else case.kind
    return replace(case, kind="erase" if kind == "erase" else kept, probes=probes)


def _scope_parts(rows: Sequence[Row], side: str) -> dict[str, Clusters]:
    portability = select(rows, group="portability")
    parts: dict[str, Clusters] = {ALL: clusters_of(portability, f"{side}_accuracy")}
    for name in sorted({row["name"] for row in portability} - {""}):
        parts[f"portability: {name}"] = clusters_of(select(portability, name=name), f"{side}_accuracy")
    for group in ("reliability", "rephrase"):
        parts[group] = clusters_of(select(rows, group=group), f"{side}_exact")
    return {part: clusters for part, clusters in parts.items() if clusters}


def _sentiment_parts(rows: Sequence[Row], side: str) -> dict[str, Clusters]:
    """A win rate counts good replies; under ``negative`` the positive ones win where the good ones lose."""
    column = f"{side}_win_rate"
    positive = [
        {**row, column: 1.0 - row[column]} if row["condition"] == "negative" else row
        for row in rows
        if row[column] is not None
    ]
    return _by_group(positive, column)


def _erase_parts(rows: Sequence[Row], side: str) -> dict[str, Clusters]:
    """The old answer's rate: under ``erase`` asked for by itself, under ``change`` the wanted answer."""
    erased = [{**row, "group": row["name"]} for row in select(rows, group="old_answer")]
    if not erased:
        erased = [
            {**row, "group": "prompt" if row["group"] == "reliability" else "rephrase"}
            for row in rows
            if row["group"] in ("reliability", "rephrase")
        ]
    return _by_group(erased, f"{side}_exact")


def _by_group(rows: Sequence[Row], column: str) -> dict[str, Clusters]:
    parts: dict[str, Clusters] = {ALL: clusters_of(rows, column)}
    for group in sorted({row["group"] for row in rows}):
        parts[group] = clusters_of(select(rows, group=group), column)
    return parts


CONTRASTS = (
    Contrast(
        "scope",
        ("wide", "narrow"),
        lambda case: case.kind in ("insert", "change") and bool(case.group("portability")),
        _with_scope,
        ("reliability", "rephrase", "portability"),
        _scope_parts,
        "right tokens on what follows from the edit",
    ),
    Contrast(
        "sentiment",
        ("positive", "negative"),
        lambda case: case.kind == "sentiment" and bool(case.positive) and bool(case.negative),
        _with_sentiment,
        ("reliability", "rephrase"),
        _sentiment_parts,
        "positive replies that win over negative ones",
    ),
    Contrast(
        "erase",
        ("change", "erase"),
        lambda case: case.kind != "sentiment" and bool(case.target_new.strip()),
        _with_kind,
        ("reliability", "rephrase", "old_answer"),
        _erase_parts,
        "answers that are still the old one",
    ),
)


def find_contrasts(names: Sequence[str]) -> list[Contrast]:
    """The contrasts of some names, in the order of `CONTRASTS`; of no names all.

    Errors: `UnknownNameError` for a name that none has.
    """
    known = [contrast.name for contrast in CONTRASTS]
    for name in names:
        if name not in known:
            raise unknown_name("contrast", name, known)
    return [contrast for contrast in CONTRASTS if not names or contrast.name in names]
