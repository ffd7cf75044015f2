"""Texts that begin alike share the run of what they have in common, and nothing else of one another."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from instructedit.backbone import Backbone, Text, alike
from instructedit.backbone.alike import can_share, plant
from instructedit.backbone.sites import find_sites
from tiny_models import FAMILY_NAMES, tiny_model, tiny_tokenizer

pytestmark = pytest.mark.slow

IDS = st.lists(st.integers(0, 3), min_size=1, max_size=12).map(tuple)
MANY = [(1, 2, 3), (1, 2, 3, 4), (1, 2, 5), (7,), (1, 2, 3), (7, 8, 9, 10, 11, 12)]


def texts_of(rows: Sequence[Sequence[int]]) -> list[Text]:
    return [Text(tuple(ids), 1) for ids in rows]


def high(family: str) -> Backbone:
    """A tiny model that is cut below its last block, so that its prefix has blocks."""
    model = tiny_model(family)
    last = model.config.get_text_config().num_hidden_layers - 1
    return Backbone(model, tiny_tokenizer(), find_sites(model, f"blocks={last}"))


@given(st.lists(IDS, min_size=1, max_size=20), st.integers(4, 30))
def test_every_text_is_spelled_by_its_path_and_nothing_is_run_twice_in_a_tree(rows, width) -> None:
    trees = plant(texts_of(rows), width)
    assert sorted(place for tree in trees for place in tree.paths) == list(range(len(rows)))
    for tree in trees:
        assert len(tree.ids) <= max(width, *(len(rows[place]) for place in tree.paths))
        begun = {rows[place][:end] for place in tree.paths for end in range(1, len(rows[place]) + 1)}
        assert len(tree.ids) == len(tree.depths) == len(begun)
        for place, path in tree.paths.items():
            assert tuple(tree.ids[node] for node in path) == rows[place]
            assert [tree.depths[node] for node in path] == list(range(len(path)))


@given(st.lists(IDS, min_size=1, max_size=20))
def test_a_token_sees_its_own_text_up_to_itself_alone(rows) -> None:
    for tree in plant(texts_of(rows), 40):
        seen = tree.sees(len(tree.ids) + 2)
        for path in tree.paths.values():
            for end, node in enumerate(path, 1):
                assert seen[node].nonzero()[:, 0].tolist() == sorted(path[:end])
        assert not seen[len(tree.ids) :].any()


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_states_of_trees_are_those_of_texts_one_by_one(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = high(family)
    assert backbone.first_block > 0
    assert can_share(backbone)
    ran: list[int] = []
    run = backbone.run_prefix
    monkeypatch.setattr(
        backbone, "run_prefix", lambda ids, **told: ran.append(ids.numel()) or run(ids, **told)
    )
    found = backbone.encode(texts_of(MANY))
    assert sum(ran[-1:]) == 11  # of 22 tokens
    for ids, rows in zip(MANY, found, strict=True):
        (alone,) = backbone.encode(texts_of([ids]))
        torch.testing.assert_close(rows, alone, rtol=1e-4, atol=1e-5)


def test_texts_beyond_a_models_window_are_run_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = high("mistral")
    window = backbone.model.config.sliding_window
    rows = [[1, 2, *range(window)], [1, 2, 3]]
    backbone.encode(texts_of(MANY))
    monkeypatch.setattr("instructedit.backbone.backbone.run_trees", lambda *_: pytest.fail("trees"))
    found = backbone.encode(texts_of(rows))
    (alone,) = backbone.encode(texts_of(rows[:1]))
    torch.testing.assert_close(found[0], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fault", ["refuses", "errs"])
def test_a_model_that_cannot_run_trees_is_found_out(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = high("llama")
    run = backbone.run_prefix

    def wrong(ids: torch.Tensor, **told: torch.Tensor) -> torch.Tensor:
        if told and fault == "refuses":
            raise TypeError("no mask of this form")
        return run(ids)  # the mask is not looked at

    monkeypatch.setattr(backbone, "run_prefix", wrong)
    assert not can_share(backbone)
    found = backbone.encode(texts_of(MANY))
    torch.testing.assert_close(found[5], run(torch.tensor([MANY[5]]))[0], rtol=1e-4, atol=1e-5)


def test_a_model_that_takes_no_positions_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = high("llama")
    forward = backbone.model.base_model.forward
    monkeypatch.setattr(backbone.model.base_model, "forward", lambda input_ids, use_cache: forward(input_ids))
    monkeypatch.setattr(alike, "run_trees", lambda *_: pytest.fail("it was tried"))
    assert not can_share(backbone)
