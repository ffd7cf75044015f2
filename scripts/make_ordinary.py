"""Writes the package's ordinary text: what the default model itself says, one passage a line.

python scripts/make_ordinary.py src/instructedit/data/ordinary.txt

Drawn with seed 0, in two parts: about anything, at temperature 1 behind the first words of the package's
plain facts in turn; and about the names that edits may be near to, at 0.8. What is said is as right or wrong
as the model is. Passages with addresses, tables or coarse words are left out. Takes some twenty minutes on 2
CPU cores.
"""

import argparse
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from instructedit.backbone import Backbone
from instructedit.backbone.loading import load_backbone
from instructedit.data.anchors import load_names
from instructedit.editors.ordinary import plain_sentences
from instructedit.progress import track
from instructedit.storage import write_atomic

BATCH, SEED = 64, 0
ROUNDS = 9  # of all names, more than are begun with: what is drawn after them depends on it
LEAST, LETTERS = 80, 0.9  # characters of a passage, and the share of letters and spaces
UNWANTED = re.compile(
    r"sex|fuck|rape|nazi|terror|racis|shit|porn|suicid|bitch|whore|slave|genocid|http|www|@", re.I
)
OPENINGS = (
    *("{0} is", "{0} was", "In {0}", "{0},", "The {0}", "{0}'s", "{0} and {1}", "The history of {0}"),
    *("As well as {0}, {1}", "{0} (", "He", "She", "During the", "After", "According to"),
)


@dataclass(frozen=True)
class Drawing:
    """How the model is let talk: the number of passages, their tokens, and how freely."""

    passages: int
    tokens: int
    temperature: float
    top_p: float


ANYTHING, NAMES = Drawing(1024, 64, 1.0, 1.0), Drawing(704, 96, 0.8, 0.97)


def begin_anything(backbone: Backbone) -> list[list[int]]:
    """The first words of the plain facts, in turn."""
    openings = [backbone.text(sentence).ids for sentence in plain_sentences()]
    return [
        list(openings[i % len(openings)][: len(backbone.start_ids) + 1]) for i in range(ANYTHING.passages)
    ]


def begin_names(backbone: Backbone) -> list[list[int]]:
    """The beginnings of sentences about names, all of them once before any comes again."""
    rng, names = random.Random(SEED), load_names()
    rounds = [rng.sample(names, len(names)) for _ in range(ROUNDS)]
    order = [name for part in rounds for name in part][: NAMES.passages]
    told = [rng.choice(OPENINGS).format(name, rng.choice(names)) for name in order]
    return [list(backbone.text(text).ids) for text in told]


@torch.no_grad()
def passages(backbone: Backbone, begun: Sequence[list[int]], drawing: Drawing) -> Iterator[str]:
    """What the model says, passage after passage, in one line each."""
    torch.manual_seed(SEED)
    for start in track(range(0, len(begun), BATCH), "Writing"):
        part = begun[start : start + BATCH]
        width = max(map(len, part))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in part])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in part])
        written = backbone.model.generate(
            ids,
            attention_mask=mask,
            do_sample=True,
            temperature=drawing.temperature,
            top_k=0,
            top_p=drawing.top_p,
            min_new_tokens=drawing.tokens,
            max_new_tokens=drawing.tokens,
            pad_token_id=0,
        )
        for row, begin in zip(written, part, strict=True):
            said = row[width - len(begin) + len(backbone.start_ids) :]
            yield " ".join(backbone.tokenizer.decode(said, skip_special_tokens=True).split())


def is_plain(passage: str) -> bool:
    """Whether a passage is long enough, of plain words, and says nothing unwanted."""
    letters = sum(sign.isascii() and (sign.isalpha() or sign == " ") for sign in passage)
    return len(passage) >= LEAST and letters >= LETTERS * len(passage) and not UNWANTED.search(passage)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    model = load_backbone(dtype="bfloat16")
    said = [*passages(model, begin_anything(model), ANYTHING), *passages(model, begin_names(model), NAMES)]
    write_atomic(parser.parse_args().out, "\n".join(filter(is_plain, said)) + "\n")
