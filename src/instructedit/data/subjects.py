"""The subject of a prompt whose record does not name it: the longest run of capitalised words."""

import re

from instructedit.types import EditCase

LINK = r"(?:of|the|and|de|da|del|von|van|der|la|le|for|in|&)"
NAME = r"(?:[A-Z0-9][\w'’.&-]*)"
RUN = re.compile(rf"{NAME}(?: (?:{LINK} )*{NAME})*")
OPENER = re.compile(
    r"The|An?|In|On|At|By|As|What|Which|Who|Whom|Whose|Where|When|Why|How|Is|Are|Was|Were|Do|Does|Did|Can|Could"
    r"|Would|Will|Tell|Name|Please|Give|It|This|That|To|For|From|Of|I|My|Our|Your|After|Before|If"
)


def subject_of(case: EditCase) -> str:
    """The subject as the prompt names it: the record's own, or a guess where that is missing."""
    return case.subject if case.subject and case.subject in case.prompt else guess_subject(case.prompt)


def guess_subject(prompt: str) -> str:
    """The longest run of capitalised words, small links between them allowed; empty where there is none.

    A first word that opens a sentence ("The", "Which") is no part of it, and a possessive ending is cut.
    """
    found = []
    for match in RUN.finditer(prompt):
        words = match.group().split()
        while words and (OPENER.fullmatch(words[0]) or words[0].islower()):
            words.pop(0)
        found.append(re.sub(r"(?:'s|’s|[.,?!])$", "", " ".join(words)))
    return max(found, key=len, default="")
