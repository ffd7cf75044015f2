"""What the same edits are told: the right instruction, none, or that of another task."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from instructedit.data.subjects import subject_of
from instructedit.errors import DataError
from instructedit.instructions import instruction_for
from instructedit.instructions.banks import Split, find_bank
from instructedit.types import EditCase

MIN_EDITS = 5  # of a task: one in each fold of the probe


@dataclass(frozen=True)
class Condition:
    """One way to instruct the edits: edit i is told `instructions[i]`, which describes `told[i]`."""

    name: str
    instructions: tuple[str, ...]
    told: tuple[str, ...]


def choose_cases(cases: Sequence[EditCase]) -> list[EditCase]:
    """One edit a subject and task: two edits of one subject in two folds would let a probe remember it.

    Errors: `DataError` when there are fewer than two tasks, or a task has too few edits to measure.
    """
    found: dict[tuple[str, str], EditCase] = {}
    for case in cases:
        found.setdefault((case.task, subject_of(case) or case.prompt), case)
    chosen = list(found.values())
    counts = Counter(case.task for case in chosen)
    if len(counts) < 2:
        held = ", ".join(counts) or "no task"
        raise DataError(
            f"the records hold {held}. Expected at least two tasks to compare: name more files with --data."
        )
    small = {task: count for task, count in counts.items() if count < MIN_EDITS}
    if small:
        few = ", ".join(f"{task} {count}" for task, count in small.items())
        raise DataError(
            f"too few edits of different subjects: {few}. Expected {MIN_EDITS} a task or more: raise --limit."
        )
    return chosen


def make_conditions(cases: Sequence[EditCase], split: Split = "unseen", seed: int = 0) -> list[Condition]:
    """``right``, ``none`` and ``other``, for the same cases.

    Tasks that share a bank of instructions cannot be told apart by it, so ``other`` takes that of another
    bank; the edits of each are dealt to the other banks in turn, in a seeded order. With one bank there is
    no ``other``.
    """
    banks = _name_banks(cases)
    right = tuple(instruction_for(case, split=split, seed=seed) for case in cases)
    conditions = [
        Condition("right", right, banks),
        Condition("none", ("",) * len(cases), ("none",) * len(cases)),
    ]
    if len(set(banks)) > 1:
        donors = _deal(banks, seed)
        told = [_tell(case, cases[donor], split, seed) for case, donor in zip(cases, donors, strict=True)]
        conditions.append(Condition("other", tuple(told), tuple(banks[donor] for donor in donors)))
    return conditions


def _name_banks(cases: Sequence[EditCase]) -> tuple[str, ...]:
    """Each case's bank of instructions, named by the tasks among the cases that use it."""
    tasks: dict[tuple[str, tuple[str, ...]], set[str]] = defaultdict(set)
    keys = []
    for case in cases:
        bank = find_bank(case.task, case.kind)
        keys.append((bank.kind, bank.tasks))
        tasks[keys[-1]].add(case.task)
    return tuple(" + ".join(sorted(tasks[key])) for key in keys)


def _deal(banks: Sequence[str], seed: int) -> list[int]:
    """For each case the place of a case of another bank, whose instruction it is told."""
    draw = random.Random(seed)
    places: dict[str, list[int]] = defaultdict(list)
    for place, bank in enumerate(banks):
        places[bank].append(place)
    donors = [0] * len(banks)
    for bank, own in places.items():
        others = [name for name in places if name != bank]
        for turn, place in enumerate(draw.sample(own, len(own))):
            donors[place] = draw.choice(places[others[turn % len(others)]])
    return donors


def _tell(case: EditCase, donor: EditCase, split: Split, seed: int) -> str:
    """The instruction that the donor's task would give for this case's subject."""
    named = replace(
        case, task=donor.task, kind=donor.kind, scope=donor.scope, sentiment=donor.sentiment, instruction=""
    )
    return instruction_for(named, split=split, seed=seed)
