"""Texts that share a row see themselves and what lies before them, and nothing of one another."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from instructedit.backbone import Text, like_length
from instructedit.backbone.shared_rows import NOBODY, WIDTH, SharedRows, share_rows

SIZES = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 20)), min_size=1, max_size=30)


@given(SIZES)
def test_every_text_has_a_place_in_one_row_and_rows_are_no_longer_than_they_must_be(sizes) -> None:
    lengths, befores = zip(*sizes, strict=True)
    rows = share_rows(lengths, befores).rows
    assert sorted(text for row in rows for text in row) == list(range(len(sizes)))
    assert all(sum(lengths[text] for text in row) <= max(WIDTH, *lengths) for row in rows)
    assert len(rows) <= 1 + 2 * sum(lengths) // max(WIDTH, *lengths)


@pytest.mark.slow
@given(SIZES)
def test_a_token_sees_its_own_text_up_to_itself_alone(sizes) -> None:
    shared = share_rows(*zip(*sizes, strict=True))
    seen = shared.mask(torch.float32)[:, 0] == 0
    before = seen.shape[2] - seen.shape[1]
    for row, texts in enumerate(shared.rows):
        start, gone = 0, before - sum(shared.befores[text] for text in texts)
        for text in texts:
            length, known = shared.lengths[text], shared.befores[text]
            expected = torch.zeros(length, seen.shape[2], dtype=torch.bool)
            expected[:, gone : gone + known] = True
            expected[:, before + start : before + start + length] = torch.ones(length, length).tril() > 0
            assert torch.equal(seen[row, start : start + length], expected)
            assert shared.positions[row, start : start + length].tolist() == list(
                range(known, known + length)
            )
            start, gone = start + length, gone + known
    assert seen.any(2).all()  # padding sees padding: nobody is left with nothing to look at


def test_tokens_are_told_apart_as_they_were_put_together() -> None:
    shared = SharedRows([[2, 0], [1]], lengths=[1, 4, 2], befores=[0, 0, 0])
    hidden = torch.arange(8.0).reshape(2, 4, 1)
    assert [rows.flatten().tolist() for rows in shared.apart(hidden)] == [
        [2.0],
        [4.0, 5.0, 6.0, 7.0],
        [0.0, 1.0],
    ]
    assert shared._owners(shared.lengths).tolist() == [[2, 2, 0, NOBODY], [1, 1, 1, 1]]


@pytest.mark.parametrize(("padded", "expected"), [(True, [[1, 2], [0]]), (False, [[1, 2, 0]])])
def test_batches_count_padding_where_there_is_some(padded: bool, expected: list[list[int]]) -> None:
    texts = [Text(tuple(range(n)), 1) for n in (5, 2, 3)]
    assert list(like_length(range(3), texts, 10, padded=padded)) == expected
