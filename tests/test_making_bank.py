"""The bank that a making writes: the best descriptions, unseen ones apart, and in use before others."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instructedit.errors import DataError
from instructedit.instructions import instruction_for
from instructedit.instructions.banks import Bank, find_bank, read_bank, using_bank
from instructedit.making import Score, write_bank
from instructedit.making.choosing import make_bank
from instructedit.making.rules import nearly_same
from tiny_editors import tiny_opinion

pytestmark = pytest.mark.slow

texts = st.lists(
    st.sampled_from(["change", "swap", "alter", "fact", "answer", "the", "a", "new", "now"]), min_size=2
)
scores = st.dictionaries(
    texts.map(" ".join).map(lambda text: f"{text.capitalize()}."), st.floats(0, 1), min_size=1, max_size=12
)


@settings(max_examples=40)
@given(scores, st.integers(2, 12))
def test_a_bank_keeps_the_best_apart_from_the_unseen(tmp_path_factory, found, keep) -> None:
    scored = {text: Score(value, value) for text, value in found.items()}
    try:
        bank = make_bank("counterfact", "change", scored, keep)
    except DataError:
        best = sorted(found, key=lambda text: -found[text])[:keep]
        assert len(best) == 1 or any(nearly_same(a, b) for a in best for b in best if a != b)
        return
    train, unseen = bank.wordings["train"], bank.wordings["unseen"]
    assert not any(nearly_same(a, b) for a in train for b in unseen)
    assert len(train) + len(unseen) <= keep
    left = set(found) - set(train) - set(unseen)
    worst = min(found[text] for text in (*train, *unseen))
    assert all(found[text] <= worst or any(nearly_same(text, other) for other in unseen) for text in left)
    path = tmp_path_factory.mktemp("bank") / "bank.yaml"
    write_bank(path, bank, "A remark:\nof two lines")
    assert read_bank(path) == bank


def test_a_bank_in_use_goes_before_the_packages(tmp_path: Path) -> None:
    case, own = tiny_opinion(0), find_bank("convsent", "sentiment")
    bank = Bank(
        "sentiment",
        ("convsent",),
        False,
        {"train": ("{subject}: {sentiment}!",), "unseen": ("?",)},
        own.words,
    )
    with using_bank(bank):
        assert instruction_for(case).startswith("France: ")
        assert find_bank("counterfact", "change").kind == "change"
        assert find_bank("another", "sentiment") is own
    assert find_bank("convsent", "sentiment") is own
    for text in (
        "kind: change\n",
        "- 1\n",
        "kind: [\n",
        "kind: x\ntasks: [a]\nscoped: false\ntrain: [a]\nunseen: [b]\n",
    ):
        (tmp_path / "bank.yaml").write_text(text)
        with pytest.raises(DataError, match="Expected"):
            read_bank(tmp_path / "bank.yaml")
