"""Other names of a subject, made from the one that is known: what a person may well be called besides."""

import random
import unicodedata

from instructedit.data.anchors import load_anchor_book

LINKS = frozenset(
    ("of", "the", "and", "de", "da", "del", "di", "von", "van", "der", "la", "le", "for", "in", "al")
)


def make_other_names(subject: str, count: int) -> tuple[str, ...]:
    """Up to `count` other names of a subject, longer, shorter or spelt otherwise; none where it has no name.

    With further given names, initials, in another order, without its middle, with a title or an article, in
    plain letters, by its first letters. Nobody has to have such a name: together they say what may vary. The
    names depend on the subject only.
    """
    words = subject.split()
    if not words:
        return ()
    rng = random.Random(f"names|{subject}")
    given = rng.sample(load_anchor_book()["given"], 5)
    found = [
        f"{rng.choice(load_anchor_book()['titles'])} {subject}",
        subject[4:] if subject.startswith("The ") else f"the {subject}",
        _plain(subject),
        *(
            _of_several(words, given)
            if len(words) > 1
            else (f"{given[0]} {subject}", f"{subject} {given[1]}")
        ),
    ]
    names = [name for name in dict.fromkeys(found) if name and name != subject]
    rng.shuffle(names)
    return tuple(names[:count])


def _of_several(words: list[str], given: list[str]) -> list[str]:
    """The other names of a name of several words."""
    first, *middle, last = words
    initials = "".join(word[0] for word in words if word.lower() not in LINKS)
    return [
        " ".join([first, given[0], *middle, last]),
        " ".join([first, *middle, given[1], last]),
        " ".join([given[2], given[3], *words]),
        " ".join([f"{first[0]}.", *middle, last]),
        " ".join([first, f"{given[4][0]}.", *middle, last]),
        " ".join([*middle, last, first]),
        " ".join([first, last]),
        " ".join([first, *middle]),
        " ".join([*middle, last]),
        initials if len(initials) > 1 else "",
    ]


def _plain(name: str) -> str:
    """A name in plain letters, without accents, apostrophes and hyphens."""
    letters = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return letters.replace("'", "").replace("’", "").replace("-", " ")
