"""Writes the package's ordinary text: what the default model itself says, one passage a line.

python scripts/make_ordinary.py src/instructedit/data/ordinary.txt

Drawn at temperature 1 with seed 0, behind the first words of the package's plain facts in turn. Passages with
addresses, tables or coarse words are left out. Takes some ten minutes on 2 CPU cores.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from instructedit.backbone import Backbone
from instructedit.backbone.loading import load_backbone
from instructedit.editors.ordinary import plain_sentences
from instructedit.progress import track
from instructedit.storage import write_atomic

PASSAGES, TOKENS, BATCH, SEED = 1024, 64, 64, 0
LEAST, LETTERS = 80, 0.9  # characters of a passage, and the share of letters and spaces
UNWANTED = re.compile(
    r"sex|fuck|rape|nazi|terror|racis|shit|porn|suicid|bitch|whore|slave|genocid|http|www|@", re.I
)


@torch.no_grad()
def passages(backbone: Backbone) -> Iterator[str]:
    """What the model says, passage after passage, in one line each."""
    openings = [backbone.text(sentence).ids for sentence in plain_sentences()]
    begun = [openings[i % len(openings)][: len(backbone.start_ids) + 1] for i in range(PASSAGES)]
    torch.manual_seed(SEED)
    for start in track(range(0, PASSAGES, BATCH), "Writing"):
        ids = torch.tensor(begun[start : start + BATCH])
        written = backbone.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            min_new_tokens=TOKENS,
            max_new_tokens=TOKENS,
            pad_token_id=0,
        )
        for row in written[:, len(backbone.start_ids) :]:
            yield " ".join(backbone.tokenizer.decode(row, skip_special_tokens=True).split())


def is_plain(passage: str) -> bool:
    """Whether a passage is long enough, of plain words, and says nothing unwanted."""
    letters = sum(sign.isascii() and (sign.isalpha() or sign == " ") for sign in passage)
    return len(passage) >= LEAST and letters >= LETTERS * len(passage) and not UNWANTED.search(passage)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    chosen = [passage for passage in passages(load_backbone(dtype="bfloat16")) if is_plain(passage)]
    write_atomic(parser.parse_args().out, "\n".join(chosen) + "\n")
