"""From events to the edits they leave in force, and what a new request meets there."""

import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from instructedit.data import case_from_request
from instructedit.errors import DataError
from instructedit.ledger.kinds import check_event
from instructedit.types import EditCase

Status = Literal["in force", "undone", "replaced"]
OnConflict = Literal["refuse", "replace"]
LISTED = 10  # conflicts that one message names


@dataclass(frozen=True)
class Entry:
    """One edit of a record: the event that made it, and whether it is in force."""

    made: Mapping[str, Any]
    status: Status = "in force"

    @property
    def id(self) -> str:
        return self.made["id"]

    @property
    def solved(self) -> bool:
        """Whether it is rows, solved together with others'; else it has its own neurons, or is an opinion."""
        return bool(self.made["rows"]["rounds"])

    @property
    def case(self) -> EditCase:
        """The request, with the instruction that it was made under."""
        return replace(case_from_request(self.made["request"]), instruction=self.made["instruction"])


@dataclass(frozen=True)
class Plan:
    """The requests that are new, the edits in force that each replaces, and those that are there already."""

    cases: list[EditCase]
    replaces: list[list[str]]
    repeated: list[EditCase]


def replay(events: Iterable[Mapping[str, Any]]) -> dict[str, Entry]:
    """The edits after some events, by id, in the order in which they were made.

    Errors: `DataError` for an event that is none; it names the event and the field.
    """
    entries: dict[str, Entry] = {}
    for event in events:
        try:
            check_event(event, entries)
        except DataError as error:
            raise DataError(f"event {event.get('n')}, {error}") from None
        for old in event.get("replaces", ()):
            entries[old] = replace(entries[old], status="replaced")
        name = event["id"]
        if "request" in event:
            entries[name] = Entry(event)
        else:
            entries[name] = replace(
                entries[name], status="in force" if event["event"] == "redone" else "undone"
            )
    return entries


def plan_edits(
    in_force: Sequence[Entry],
    cases: Sequence[EditCase],
    on_conflict: OnConflict = "refuse",
    replacing: Collection[str] = (),
) -> Plan:
    """Sort requests into new ones and repeated ones, and find what the new ones replace.

    Two requests meet where their prompts are the same but for case, spaces and the marks at the end, and two
    of opinions where their subjects are; they contradict each other where they want something else there.
    With ``replace`` the later one wins, in `cases` too. The edits `replacing` count as gone.
    Errors: `DataError` that names both sides when there are conflicts to refuse.
    """
    there = {place_of(entry.case): entry for entry in in_force if entry.id not in replacing}
    new: dict[str, EditCase] = {}
    repeated, conflicts = [], []
    for case in cases:
        place = place_of(case)
        before = new.get(place) or (there[place].case if place in there else None)
        if before is not None and goal_of(before) == goal_of(case):
            repeated.append(case)
            continue
        if before is not None:
            name = "another of the requests" if place in new else f"edit {there[place].id}"
            conflicts.append(f"{show_case(case)} contradicts {name}, {show_case(before)}")
        new.pop(place, None)
        new[place] = case
    back = [p for p in new if p in there and goal_of(there[p].case) == goal_of(new[p])]
    for place in back:
        repeated.append(new.pop(place))  # a later request of the same batch took an earlier one back
    if conflicts and on_conflict == "refuse":
        more = f"; and {len(conflicts) - LISTED} more" if len(conflicts) > LISTED else ""
        raise DataError(
            f"{'; '.join(conflicts[:LISTED])}{more}. Nothing was changed. "
            "Ask again, with leave to replace it (on a command line --on-conflict replace), or undo it first."
        )
    replaces = [[there[place].id] if place in there else [] for place in new]
    return Plan(list(new.values()), replaces, repeated)


def place_of(case: EditCase) -> str:
    """What a request asks, such that requests which can contradict each other have the same.

    That is the prompt; of an opinion the subject, which it is about in whatever words.
    """
    subject = plain_prompt(case.subject) if case.kind == "sentiment" else ""
    return f"opinion|{subject}" if subject else plain_prompt(case.prompt)


def plain_prompt(prompt: str) -> str:
    """A prompt without what makes no difference: case, spaces and the marks at its end."""
    return _plain(prompt).casefold().rstrip(" .?!:")


def goal_of(case: EditCase) -> tuple[str, str]:
    """What a request wants there: an answer, another answer than one, or a sentiment."""
    if case.kind == "sentiment":
        return "sentiment", str(case.sentiment)
    return "erase" if case.kind == "erase" else "answer", _plain(case.target_new)


def show_case(case: EditCase) -> str:
    """A request in a few words."""
    kind, goal = goal_of(case)
    return f"{case.prompt!r} -> {'not ' if kind == 'erase' else ''}{goal!r}"


def compare(first: Iterable[Entry], second: Iterable[Entry]) -> tuple[list[Entry], list[Entry]]:
    """The edits of two sets that only the first holds, and those that only the second holds.

    Edits are the same where prompt, goal, scope and instruction are, whatever their ids: the sets may
    belong to different stores.
    """
    before, after = ({_identity(entry): entry for entry in entries} for entries in (first, second))
    gone = [entry for key, entry in before.items() if key not in after]
    return gone, [entry for key, entry in after.items() if key not in before]


def _identity(entry: Entry) -> tuple[Any, ...]:
    case = entry.case
    return place_of(case), goal_of(case), case.scope, case.instruction


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).split())
