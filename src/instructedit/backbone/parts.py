"""The two small nouns of the backbone: a place for edits, and a tokenised text."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Site:
    """One linear layer that edits may change: its dotted name, its two sizes and its block's number."""

    name: str
    d_in: int
    d_out: int
    block: int


@dataclass(frozen=True, slots=True)
class Text:
    """Token ids and where the answer begins; the answer is predicted from `answer_start - 1` on.

    `first` is the first position that an edit made from this text may use.
    """

    ids: tuple[int, ...]
    answer_start: int
    first: int = 0

    @property
    def positions(self) -> range:
        """The positions whose outputs predict the answer's tokens."""
        return range(self.answer_start - 1, len(self.ids) - 1)

    @property
    def targets(self) -> tuple[int, ...]:
        """The answer's token ids."""
        return self.ids[self.answer_start :]

    def after(self, count: int) -> "Text":
        """What is left behind its first tokens."""
        return Text(self.ids[count:], self.answer_start - count, max(0, self.first - count))


def same_beginning(one: Sequence[int], two: Sequence[int]) -> int:
    """How many tokens two texts have in common before they differ, or before one of them ends."""
    pairs = enumerate(zip(one, two, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(two)))


def like_length(
    chosen: Iterable[int],
    texts: Sequence[Text],
    tokens: int,
    most: int | None = None,
    padded: bool = True,
) -> Iterator[list[int]]:
    """Places of texts in batches of like length, so that little of a batch is padding.

    A batch holds at most `tokens` tokens, where a single text is not longer, padding counted unless it is
    not `padded`, and at most `most` texts.
    """
    batch: list[int] = []
    own = 0
    for place in sorted(chosen, key=lambda i: len(texts[i].ids)):
        size = len(texts[place].ids)
        whole = (len(batch) + 1) * size if padded else own + size
        if batch and (len(batch) == most or whole > tokens):
            yield batch
            batch, own = [], 0
        batch.append(place)
        own += size
    if batch:
        yield batch
