"""The three things an instruction can decide, each as two conditions of one request."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

from instructedit.errors import unknown_name
from instructedit.evaluation.bootstrap import Clusters, clusters_of
from instructedit.evaluation.rows import Row, select
from instructedit.instructions import instruction_for
from instructedit.instructions.banks import Split
from instructedit.types import EditCase, Scope, Sentiment

ALL = "all"


@dataclass(frozen=True)
class Contrast:
    """Two conditions of one request, for cases that it `takes`; `condition` puts a case under one of them.

    Only the case's instruction differs between conditions, in words of the banks' split, drawn by a seed, and
    its sentiment, by which replies are scored. `groups` are asked, and `parts` reads the rows of one
    condition and side into values by part.
    """

    name: str
    conditions: tuple[str, str]
    takes: Callable[[EditCase], bool]
    condition: Callable[[EditCase, str, Split, int], EditCase]
    groups: tuple[str, ...]
    parts: Callable[[Sequence[Row], str], dict[str, Clusters]]
    what: str


def _with_scope(case: EditCase, scope: str, split: Split, seed: int) -> EditCase:
    asked = replace(case, instruction="", scope=cast(Scope, scope))
    return replace(case, scope="wide", instruction=instruction_for(asked, split=split, seed=seed))


def _with_sentiment(case: EditCase, sentiment: str, _split: Split, _seed: int) -> EditCase:
    return replace(case, instruction="", sentiment=cast(Sentiment, sentiment))


def _with_kind(case: EditCase, kind: str, split: Split, seed: int) -> EditCase:
    """The answer that holds, where the record names it, told to be given or to be erased."""
    probes = tuple(replace(probe, answers=()) for probe in case.group("rephrase"))
    kept = "change" if case.kind == "erase" else case.kind
    answer = case.ground_truth.strip() or case.target_new
    case = replace(case, kind=kept, target_new=answer, probes=probes, instruction="")
    asked = replace(case, kind="erase" if kind == "erase" else kept)
    return replace(case, instruction=instruction_for(asked, split=split, seed=seed))


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
    """The rate of the answer that both conditions name."""
    prompts = [{**row, "group": "prompt"} for row in select(rows, group="reliability")]
    return _by_group([*prompts, *select(rows, group="rephrase")], f"{side}_exact")


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
        ("reliability", "rephrase"),
        _erase_parts,
        "answers that are still given",
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
