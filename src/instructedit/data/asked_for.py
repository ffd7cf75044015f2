"""What a prompt asks for, as words that stand for its answer: "spouse of Ann Lee"."""

import re

from instructedit.data.paraphrase import relation_forms, standard
from instructedit.types import EditCase

_WHAT, _IS, _DO = r"(?:What|Which|Who)", r"(?:is|are|was|were)", r"(?:do|does|did)"
_WORDS = r"[a-z][a-z'-]*(?: [a-z][a-z'-]*)*?"
# Prompts, {s} being their subject, and what they ask for; the first that fits counts.
_FORMS = (
    (rf"The (?:names? of the )?(?P<np>.+) {_IS}(?: the| an?)?", "{np}"),
    (rf"The (?P<np>.+) {_IS} (?:what|which|whom?|where|when)\?", "{np}"),
    (rf"{_WHAT} {_IS} the (?:names? of the )?(?P<np>(?!{{s}}).+)\?", "{np}"),
    (rf"{_WHAT} {_IS} {{s}}'s (?P<role>{_WORDS})\?", "{role} of {s}"),
    (rf"(?P<in>[A-Z][a-z]+) (?:what|which) (?P<n>{_WORDS}) (?P<do>{_IS}|{_DO}) {{s}} (?P<rest>.+)\?",
     "{n} {in} which {s} {do} {rest}"),
    (rf"{_WHAT} (?P<n>{_WORDS}) (?P<do>{_IS}|{_DO}) {{s}} (?P<rest>.+)\?", "{n} that {s} {do} {rest}"),
    (rf"(?:What|Which) (?P<n>{_WORDS}) (?P<does>{_IS} {_WORDS}|[a-z]+) {{s}}\?", "{n} that {does} {s}"),
    (rf"Who (?P<does>{_WORDS}) {{s}}\?", "person who {does} {s}"),
    (rf"Where (?P<do>{_IS}|{_DO}) {{s}} (?P<rest>.+)\?", "place where {s} {do} {rest}"),
)  # fmt: skip
_KNOWN = tuple((re.compile(form.replace("{s}", r"\{s\}")), words) for form, words in _FORMS)


def noun_phrase(case: EditCase) -> str:
    """What a case asks for; empty where neither its prompt nor a form of its relation can be read so."""
    prompts = (case.prompt.strip(), standard(case.prompt), *relation_forms(case))
    templates = [prompt.replace(case.subject, "{s}") if case.subject else prompt for prompt in prompts]
    read = ((known.fullmatch(template), words) for known, words in _KNOWN for template in templates)
    match, words = next(((match, words) for match, words in read if match), (None, ""))
    parts = match.groupdict() if match else {}
    told = {name: part.lower() if name == "in" else part for name, part in parts.items()}
    return words.format(**told, s="{s}").replace("{s}", case.subject)
