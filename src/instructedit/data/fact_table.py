"""The project's own table of plain facts and the wordings of its relations."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

Row = dict[str, str]


@dataclass(frozen=True)
class Hop:
    """Questions about a subject; the answer is `column` of the row that the object has in table `of`."""

    of: str
    column: str
    prompts: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Relation:
    """One column of a table in words; the slots are explained in ``relations.yaml``. Equal only to itself."""

    name: str
    table: str
    column: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    inverse: tuple[str, ...] = ()
    hops: tuple[Hop, ...] = ()
    via: str = ""
    carried: tuple[str, ...] = ()
    where: tuple[tuple[str, str], ...] = ()

    @property
    def prompts(self) -> tuple[str, ...]:
        return self.statements + self.questions


@dataclass(frozen=True)
class Fact:
    """That `subject` stands in `relation` to `object`; `via` is what `carried` prompts name."""

    relation: Relation
    subject: str
    object: str
    via: str = ""


@cache
def load_table(name: str) -> dict[str, Row]:
    """A table's rows by their first column."""
    text = files("instructedit.data").joinpath("facts").joinpath(f"{name}.csv").read_text("utf-8")
    return {next(iter(row.values())): row for row in csv.DictReader(text.splitlines())}


@cache
def load_relations() -> tuple[Relation, ...]:
    """All relations, in the file's order."""
    return tuple(_parse_relation(entry) for entry in read_source("relations"))


@cache
def load_facts() -> tuple[Fact, ...]:
    """All facts, relation by relation; empty cells give none."""
    return tuple(fact for relation in load_relations() for fact in _facts_of(relation))


def read_source(name: str) -> Any:
    """One of the YAML files beside the tables."""
    return yaml.safe_load(
        files("instructedit.data").joinpath("facts").joinpath(f"{name}.yaml").read_text("utf-8")
    )


def _facts_of(relation: Relation) -> list[Fact]:
    rows = load_table(relation.table).items()
    return [
        Fact(relation, subject, row[relation.column], row[relation.via] if relation.via else "")
        for subject, row in rows
        if row[relation.column] and all(row[column] == value for column, value in relation.where)
    ]


def _parse_relation(entry: dict[str, Any]) -> Relation:
    entry = dict(entry)
    hops = tuple(Hop(hop["of"], hop["column"], tuple(hop["prompts"])) for hop in entry.pop("hops", ()))
    where = tuple(entry.pop("where", {}).items())
    lists: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
    }
    return Relation(**lists, hops=hops, where=where)
