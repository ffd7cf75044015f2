"""Splitting edits so that no subject stands on both sides."""

import random
from collections.abc import Sequence

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
        sizes[_subject_key(case)] = sizes.get(_subject_key(case), 0) + 1
    keys = sorted(sizes)
    random.Random(seed).shuffle(keys)
    held, count = set(), 0
    for key in keys:
        if count >= round(fraction * len(cases)):
            break
        held.add(key)
        count += sizes[key]
    train = [case for case in cases if _subject_key(case) not in held]
    return train, [case for case in cases if _subject_key(case) in held]


def _subject_key(case: EditCase) -> str:
    return " ".join((case.subject or case.prompt).casefold().split())
