"""Every metric against numbers worked out by hand, and the laws that hold for any input."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from instructedit.metrics import (
    all_per_text,
    answer_log_probs,
    generation_matches,
    hits,
    kl_divergence,
    mean_per_text,
    ngram_entropy,
    normalise,
    sentiment_score,
    unchanged,
    win_rate,
)

# Probabilities in quarters, so that every expected value can be worked out on paper.
QUARTERS = torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5], [0.5, 0.25, 0.25]]).log()
TARGETS = torch.tensor([0, 1, 0, 0])
OWNER = torch.tensor([0, 0, 1, 1])


def test_hits_compare_the_likeliest_token_with_the_answer():
    assert hits(QUARTERS, TARGETS).tolist() == [True, True, False, True]


def test_token_accuracy_and_exact_match_are_taken_per_text():
    found = hits(QUARTERS, TARGETS)
    assert mean_per_text(found, OWNER, 2).tolist() == [1.0, 0.5]
    assert all_per_text(found, OWNER, 2).tolist() == [1.0, 0.0]


def test_a_text_without_a_token_has_no_score():
    found = hits(QUARTERS, TARGETS)
    assert mean_per_text(found, OWNER, 3)[2].isnan()
    assert all_per_text(found, OWNER, 3)[2].isnan()


def test_log_probs_are_natural_logarithms_of_the_answer_tokens():
    expected = [math.log(0.5), math.log(0.5), math.log(0.25), math.log(0.5)]
    assert answer_log_probs(QUARTERS + 3.0, TARGETS).tolist() == pytest.approx(expected)


def test_unchanged_compares_the_two_models_and_not_the_answer():
    edited = QUARTERS.clone()
    edited[0] = torch.tensor([0.2, 0.6, 0.2]).log()  # another favourite
    edited[1] = torch.tensor([0.01, 0.9, 0.09]).log()  # the same favourite, more sure
    assert unchanged(QUARTERS, edited).tolist() == [False, True, True, True]


def test_kl_is_in_nats_and_runs_from_base_to_edited():
    base = torch.tensor([[0.5, 0.5]]).log()
    edited = torch.tensor([[0.25, 0.75]]).log()
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert kl_divergence(base, edited).item() == pytest.approx(expected)
    backward = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert kl_divergence(edited, base).item() == pytest.approx(backward)


def test_win_rate_counts_pairs_and_halves_ties():
    good, bad = torch.tensor([-1.0, -3.0]), torch.tensor([-2.0, -3.0])
    # pairs: -1>-2 yes, -1>-3 yes, -3>-2 no, -3=-3 half
    assert win_rate(good, bad).item() == pytest.approx(2.5 / 4)
    assert win_rate(good, torch.tensor([])).isnan()


def test_sentiment_score_is_the_papers_formula():
    before, after, bad = torch.tensor([-2.0, -4.0]), torch.tensor([-3.0, -5.0]), torch.tensor([-6.0])
    # preference: sigmoid(-4 - -6); good replies fell from -3 to -4: times e^-1
    assert sentiment_score(before, after, bad).item() == pytest.approx(math.exp(-1) / (1 + math.exp(-2)))
    # good replies that became likelier do not count above 1
    assert sentiment_score(after, before, bad).item() == pytest.approx(1 / (1 + math.exp(-3)))


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("The  U.S.A.", "u s"),
        ("Saint-Denis", "saint denis"),
        ("“An Answer”!", "answer"),
        ("É", "e\u0301".upper().lower().replace("e\u0301", "é")),
        ("  ", ""),
    ],
)
def test_normalise(raw: str, plain: str):
    assert normalise(raw) == plain


@pytest.mark.parametrize(
    ("generated", "aliases", "expected"),
    [
        ("Paris, the capital of France", ("Paris",), True),
        ("the city of Paris", ("Paris",), False),
        ("Parisian food", ("Paris",), False),
        ("not Paris", ("Paris",), False),
        ("New York City.", ("NYC", "new york"), True),
        ("\n  \nRome\nParis", ("Rome",), True),
        ("Rome\nParis", ("Paris",), False),
        ("The Beatles", ("Beatles",), True),
        ("+ is the sign", ("+",), True),
        ("", ("Paris",), False),
        ("anything", ("", "  "), False),
    ],
)
def test_a_generation_counts_when_its_first_line_begins_with_an_alias(
    generated: str, aliases: tuple[str, ...], expected: bool
):
    assert generation_matches(generated, aliases) is expected


def test_fluency_by_hand():
    # "x y x y x": bi-grams xy xy yx yx -> 1 bit; tri-grams xyx yxy xyx -> H(2/3, 1/3)
    tri = -(2 / 3) * math.log2(2 / 3) - (1 / 3) * math.log2(1 / 3)
    assert ngram_entropy("x y x y x") == pytest.approx(100 * (2 / 3 * 1.0 + 4 / 3 * tri) / 2)


def test_fluency_of_a_hundred_different_words_is_the_published_ceiling():
    words = " ".join(f"w{number}" for number in range(100))
    expected = 100 * (2 / 3 * math.log2(99) + 4 / 3 * math.log2(98)) / 2
    assert ngram_entropy(words) == pytest.approx(expected)
    assert 661 < expected < 663
    assert ngram_entropy("no " * 100) == 0.0
    assert ngram_entropy("") == 0.0


def test_a_mark_is_a_token_of_its_own():
    assert ngram_entropy("yes, yes, yes") == ngram_entropy("a b a b a")


values = st.floats(-20, 20, width=32)


@st.composite
def two_logits(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    rows, words = draw(st.integers(1, 5)), draw(st.integers(2, 6))
    one = st.lists(values, min_size=rows * words, max_size=rows * words)
    return torch.tensor(draw(one)).view(rows, words), torch.tensor(draw(one)).view(rows, words)


@pytest.mark.slow
@given(two_logits())
def test_kl_is_never_negative_and_zero_for_the_same_model(pair: tuple[Tensor, Tensor]):
    base, edited = pair
    assert (kl_divergence(base, edited) >= 0).all()
    assert kl_divergence(base, base).max() == 0
    assert unchanged(base, base).all()


@pytest.mark.slow
@given(two_logits(), st.randoms(use_true_random=False))
def test_token_metrics_do_not_depend_on_the_order_of_words_or_rows(pair: tuple[Tensor, Tensor], random):
    base, edited = pair
    words = list(range(base.shape[1]))
    random.shuffle(words)
    torch.testing.assert_close(
        kl_divergence(base[:, words], edited[:, words]), kl_divergence(base, edited), atol=1e-4, rtol=1e-4
    )
    owner = torch.arange(len(base)) % 2
    flags = base[:, 0] > edited[:, 0]
    rows = list(range(len(base)))
    random.shuffle(rows)
    shuffled = mean_per_text(flags[rows], owner[rows], 2)
    torch.testing.assert_close(shuffled, mean_per_text(flags, owner, 2), equal_nan=True)


replies = st.lists(values, min_size=1, max_size=5).map(torch.tensor)


@pytest.mark.slow
@given(replies, replies)
def test_win_rates_of_the_two_sides_add_up_to_one(good: Tensor, bad: Tensor):
    rate = win_rate(good, bad).item()
    assert 0 <= rate <= 1
    assert rate + win_rate(bad, good).item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.slow
@given(replies, replies, values)
def test_the_sentiment_score_is_a_fraction_and_rises_as_bad_replies_fall(
    after: Tensor, bad: Tensor, shift: float
):
    before = after + shift
    score = sentiment_score(before, after, bad).item()
    assert 0 <= score <= 1
    assert sentiment_score(before, after, bad - 1.0).item() >= score


@given(st.text())
def test_normalising_twice_changes_nothing_and_a_text_matches_itself(text: str):
    assert normalise(normalise(text)) == normalise(text)
    line = text.splitlines()[0] if text.splitlines() else ""
    assert generation_matches(line, (line,)) is bool(line.strip())


@given(st.lists(st.sampled_from(["red", "green", "blue"]), max_size=30))
def test_fluency_lies_between_zero_and_its_ceiling(words: list[str]):
    value = ngram_entropy(" ".join(words))
    ceiling = 100 * math.log2(len(words)) if words else 0.0
    assert 0 <= value <= ceiling + 1e-9
