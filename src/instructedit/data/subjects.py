"""The subject of a prompt: as the record names it, or, where that is missing, a guess."""

import re
import unicodedata
from functools import lru_cache
from itertools import takewhile

from instructedit.types import EditCase

LINK = r"(?:of|the|and|de|da|del|von|van|der|la|le|for|in|&)"
NAME = r"(?:(?<!\w)(?:[^\W_a-z]|[a-z]+(?=[A-Z]))[\w'’.&-]*)"  # or a word of other letters: see `_is_name`
RUN = re.compile(rf"{NAME}(?: (?:{LINK} )*{NAME})*")
OPENER = re.compile(
    r"The|An?|In|On|At|By|As|What|Which|Who|Whom|Whose|Where|When|Why|How|Is|Are|Was|Were|Do|Does|Did|Can|Could"
    r"|Would|Will|Tell|Name|Please|Give|It|This|That|To|For|From|Of|I|My|Our|Your|After|Before|If|Complete|Answer"
    r"|Finish|Fill|Continue|Write|Say|Explain|Describe|List|Consider|According|(?:What|Who|Where)['’]s"
)
ASKED = re.compile(r"(?:What|Who) (?:is|are|was|were) the|(?:What|Who)['’]s the|The", re.IGNORECASE)
ENDS = re.compile(r"(?: (?:is|are|was|were))?[ ?.:]*")


def subject_of(case: EditCase) -> str:
    """The subject as the prompt spells it: the record's own, or a guess where that is not there."""
    return (spelled_in(case.prompt, case.subject) if case.subject else "") or guess_subject(case.prompt)


@lru_cache(maxsize=4096)
def spelled_in(prompt: str, name: str) -> str:
    """A name as a prompt spells it, whatever its case, accents' encoding and apostrophes; else empty."""
    if name in prompt:
        return name
    wanted, width = _plain(name), 2 * len(name) + 4
    for start in range(len(prompt)):
        inside = start > 0 and prompt[start - 1].isalnum() and prompt[start].isalnum()
        for end in range(start + 1, min(start + width, len(prompt)) + 1) if wanted and not inside else ():
            if _plain(prompt[start:end]) == wanted and not prompt[end : end + 1].isalnum():
                return prompt[start:end]
    return ""


def guess_subject(prompt: str) -> str:
    """The longest run of capitalised words, small links between them allowed; empty where there is none.

    A first word that opens a sentence ("The", "Which") is no part of it, nor is a label ("Question:"), and
    a possessive ending is cut. Of what is asked for as a whole ("The CEO of Apple is") it is what follows
    "of".
    """
    found = []
    for match in RUN.finditer(prompt):
        words = match.group().split(" ")
        while words and not (_is_name(words[0]) and not OPENER.fullmatch(words[0])):
            words.pop(0)
        run = " ".join(takewhile(lambda word: _is_name(word) or re.fullmatch(LINK, word), words))
        start = match.end() - len(" ".join(words))
        before, after = prompt[:start].rstrip(" "), prompt[start + len(run) :]
        label = after.startswith(":") and before[-1:] in ("", "\n", ".", "?", "!")
        found.append("" if label else _owner(re.sub(r"(?:'s|’s|[.,?!])$", "", run), before.lstrip(), after))
    return max(found, key=len, default="")


def _owner(name: str, before: str, after: str) -> str:
    """A name; of one that is all that is asked for, with " of " in it, what follows that."""
    whole = ASKED.fullmatch(before) and ENDS.fullmatch(after)
    return name.partition(" of ")[2].removeprefix("the ") or name if whole else name


def _is_name(word: str) -> bool:
    """Whether a word is written as names are."""
    return any(c.isupper() or c.isdigit() for c in word)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold().replace("’", "'")
