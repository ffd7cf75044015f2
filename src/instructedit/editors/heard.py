"""What a model reads where the subjects of facts end, and elsewhere in what is asked of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from instructedit.backbone import Backbone, Text
from instructedit.data.paraphrase import make_rephrases
from instructedit.data.subjects import subject_of
from instructedit.delta import LowRankDelta
from instructedit.editors.drill import Practice
from instructedit.editors.ground import read_rows
from instructedit.editors.location import in_contexts, last_of
from instructedit.editors.polish import in_force
from instructedit.types import EditCase

WORDINGS = 8  # of a request, beside those behind neutral contexts, that its neurons are to open at
LEADS = ("", "The")  # before a subject: its first token may be another at the beginning of a text

Form = tuple[tuple[int, ...], int]  # tokens of a subject, and its number


@dataclass(frozen=True)
class Heard:
    """What the MLPs of some blocks read of a batch's requests, a row a token, and which subject ends there.

    `owner` is the number of that subject among those of the batch, or −1 elsewhere; `subjects` gives each
    fact's: facts about the same one open at the same rows. `forms` are the tokens of subjects with their
    numbers, so that they are known in other texts too.
    """

    rows: dict[str, Float[Tensor, "n d"]]
    owner: Int[Tensor, " n"]
    subjects: list[int]
    forms: list[Form]

    def spare(self, practices: Sequence[Practice]) -> list[Practice]:
        """The practices of the facts without texts to be left alone that name another fact's subject."""
        named = {
            text: set(find_subjects(torch.tensor(text.ids), self.forms).tolist())
            for practice in practices
            for text in practice.keep
        }
        pairs = zip(practices, self.subjects, strict=True)
        return [replace(one, keep=tuple(t for t in one.keep if named[t] <= {-1, own})) for one, own in pairs]


def hear_subjects(
    backbone: Backbone,
    names: Sequence[str],
    cases: Sequence[EditCase],
    near: Sequence[Sequence[str]],
    under: LowRankDelta,
) -> Heard:
    """What some layers read of facts in several wordings, with the edits `under` them in force.

    The same is asked of the names `near` each subject, which are nobody's unless they are subjects too. Start
    tokens are left out.
    """
    texts, owner = [], []
    subjects, forms = number_subjects(backbone, cases)
    for case, others, number in zip(cases, near, subjects, strict=True):
        subject = subject_of(case)
        told, ends = _find_ends(backbone, subject, _wordings(case, subject))
        strange = [backbone.text(case.prompt.replace(subject, name)) for name in others]
        owner += [find_subjects(torch.tensor(text.ids), forms) for text in (*told, *strange)]
        for own, end in zip(owner[len(texts) :], ends, strict=False):
            own[end] = number
        texts += [*told, *strange]
    with in_force(backbone, under):
        read = read_rows(backbone, texts, names)
    skip = len(backbone.start_ids)
    rows = {name: torch.cat([keys[name][skip:] for keys in read]) for name in names}
    return Heard(rows, torch.cat([own[skip:] for own in owner]).to(backbone.device), subjects, forms)


def number_subjects(backbone: Backbone, cases: Sequence[EditCase]) -> tuple[list[int], list[Form]]:
    """The number of each fact's subject, and all subjects' tokens, short ones first; a fact may have none."""
    known: dict[str, int] = {}
    subjects = [known.setdefault(subject_of(case) or case.prompt, len(known)) for case in cases]
    names = {subject_of(case): number for case, number in zip(cases, subjects, strict=True)}
    forms = {
        backbone.text(f"{lead} {name}".lstrip()).ids[len(backbone.text(lead).ids) :]: number
        for name, number in names.items()
        if name
        for lead in LEADS
    }
    return subjects, sorted(forms.items(), key=lambda form: len(form[0]))


def find_subjects(ids: Int[Tensor, " n"], forms: Sequence[Form]) -> Int[Tensor, " n"]:
    """The number of the subject that ends at each token, of several the longest; −1 where none does."""
    tokens, owner = tuple(ids.tolist()), [-1] * len(ids)
    known: dict[int, dict[tuple[int, ...], int]] = {}
    for form, number in forms:
        known.setdefault(len(form), {})[form] = number
    for length, numbers in sorted(known.items()):
        for end in range(length, len(tokens) + 1):
            owner[end - 1] = numbers.get(tokens[end - length : end], owner[end - 1])
    return ids.new_tensor(owner)


def read_ends(
    backbone: Backbone, names: Sequence[str], cases: Sequence[EditCase], under: LowRankDelta
) -> dict[str, Float[Tensor, "k _"]]:
    """What some layers read where the subject of each fact ends, the mean over neutral contexts."""
    if not cases:
        return {}
    found = [_find_ends(backbone, subject_of(case), in_contexts(case.prompt)) for case in cases]
    with in_force(backbone, under):
        read = read_rows(backbone, [text for texts, _ in found for text in texts], names)
    ends = [place for _, places in found for place in places]
    pairs = list(zip(read, ends, strict=True))
    rows = {name: torch.stack([keys[name][end] for keys, end in pairs]) for name in names}
    return {name: own.view(len(cases), -1, own.shape[1]).mean(1) for name, own in rows.items()}


def _find_ends(backbone: Backbone, subject: str, prompts: Sequence[str]) -> tuple[list[Text], list[int]]:
    """Prompts as texts, and the place at which the subject ends in each."""
    texts = [backbone.text(prompt) for prompt in prompts]
    pairs = zip(prompts, texts, strict=True)
    return texts, [last_of(backbone, prompt, subject, text.ids) for prompt, text in pairs]


def _wordings(case: EditCase, subject: str) -> list[str]:
    """The request behind neutral contexts, and in other words that name its subject."""
    others = make_rephrases(replace(case, subject=subject), 0, WORDINGS)
    return [*in_contexts(case.prompt), *(prompt for prompt in others if subject and subject in prompt)]
