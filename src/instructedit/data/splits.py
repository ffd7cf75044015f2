"""Splitting edits so that no subject stands on both sides."""

import random
from collections.abc import Sequence

from instructedit.errors import DataError
from instructedit.types import EditCase


def split_by_subject(
    cases: Sequence[EditCase], fraction: float, seed: int
) -> tuple[list[EditCase], list[EditCase]]:
    """Training and validation edits, in their old order, about `fraction` of the edits in the second.

    Edits with the same subject, upper and lower case alike, stay together; one without a subject counts by
    its prompt. The split depends on the set of subjects, `fraction` and `seed` only. `fraction` outside
    [0, 1] raises ValueError.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction is {fraction}, expected a number from 0 to 1")
    sizes: dict[str, int] = {}
    for case in cases:
        sizes[subject_key(case)] = sizes.get(subject_key(case), 0) + 1
    keys = sorted(sizes)
    random.Random(seed).shuffle(keys)
    held, count = set(), 0
    for key in keys:
        if count >= round(fraction * len(cases)):
            break
        held.add(key)
        count += sizes[key]
    train = [case for case in cases if subject_key(case) not in held]
    return train, [case for case in cases if subject_key(case) in held]


def hold_out(
    cases: Sequence[EditCase], fraction: float, seed: int, setting: str = "validation"
) -> tuple[list[EditCase], list[EditCase]]:
    """As `split_by_subject`, for a training; `setting` is what the fraction is called there.

    Errors: `DataError` when nothing is left to train on.
    """
    train, held = split_by_subject(cases, fraction, seed)
    if not train:
        subjects = len({subject_key(case) for case in held})
        raise DataError(
            f"{setting}={fraction} holds out all {len(held)} edits, which are about {subjects} subjects. "
            f"Expected some to train on: give records about more subjects, or set {setting}=0."
        )
    return train, held


def subject_key(case: EditCase) -> str:
    """What an edit is about: its subject, or its prompt where it has none, whatever the case of letters."""
    return " ".join((case.subject or case.prompt).casefold().split())
