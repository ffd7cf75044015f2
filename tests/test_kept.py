"""What a model gives once and for all is read once, whatever asks, and never of an edited model."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.editors import ground, kept, neighbours
from instructedit.editors.ground import survey
from instructedit.editors.kept import Shelf, keep
from instructedit.editors.neighbours import Neighbours
from instructedit.errors import OutputError
from tiny_models import tiny_backbone


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(kept, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def model() -> Backbone:
    """A model of its own: its weights are written to."""
    return tiny_backbone("llama")


def counted() -> tuple[list[int], Callable[[], dict[str, Tensor]]]:
    calls: list[int] = []

    def make() -> dict[str, Tensor]:
        calls.append(len(calls))
        return {"x": torch.ones(2, 3)}

    return calls, make


def test_what_is_kept_is_made_once_for_a_model_and_what_is_told(model: Backbone, cache: Path) -> None:
    calls, make = counted()
    first = keep(model, "things", ("a", 1), make)
    again = keep(tiny_backbone("llama"), "things", ("a", 1), make)  # another object with the same weights
    assert torch.equal(first["x"], again["x"])
    assert calls == [0]
    keep(model, "things", ("a", 2), make)
    keep(tiny_backbone("gpt2"), "things", ("a", 1), make)
    assert calls == [0, 1, 2]
    assert len(list((cache / "things").iterdir())) == 3


def test_another_weight_is_another_model_whatever_it_was_loaded_as(model: Backbone) -> None:
    calls, make = counted()
    keep(model, "things", "a", make)
    with torch.no_grad():
        next(iter(model.model.parameters())).add_(1.0)
    keep(model, "things", "a", make)
    assert calls == [0, 1]


def test_nothing_is_kept_of_a_model_in_which_something_hangs_or_that_has_no_checksum(
    model: Backbone, cache: Path
) -> None:
    calls, make = counted()
    hook = model.model.get_submodule(model.sites[0].name).register_forward_hook(lambda *_: None)
    keep(model, "things", "a", make)
    hook.remove()
    model.checksum = ""
    keep(model, "things", "a", make)
    assert calls == [0, 1]
    assert not cache.exists()


def test_what_is_kept_of_the_model_itself_is_found_under_an_edit_too(model: Backbone) -> None:
    calls, make = counted()
    keep(model, "things", "a", make)
    hook = model.model.get_submodule(model.sites[0].name).register_forward_hook(lambda *_: None)
    keep(model, "things", "a", make)
    hook.remove()
    assert calls == [0]


def test_a_broken_file_is_made_again_and_a_full_disk_costs_time_only(
    model: Backbone, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, make = counted()
    keep(model, "things", "a", make)
    (file,) = (cache / "things").iterdir()
    file.write_bytes(file.read_bytes()[:20])
    assert torch.equal(keep(model, "things", "a", make)["x"], torch.ones(2, 3))
    assert calls == [0, 1]

    def refuse(*_: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(kept, "save_tensors", refuse)
    assert torch.equal(keep(model, "things", "b", make)["x"], torch.ones(2, 3))
    with pytest.raises(OutputError):
        Shelf(model, "things").put("b", {})


@pytest.mark.slow
def test_the_ground_and_the_names_are_read_once(model: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    first, near = survey(model, 200), Neighbours().of(model, "Berlin", 5)
    assert first is not None
    assert len(near) == 5

    def never(*_: object) -> None:
        raise AssertionError("it was read again")

    monkeypatch.setattr(ground, "read_rows", never)
    fresh = tiny_backbone("llama")
    again = survey(fresh, 200)
    assert again is not None
    assert (again.size, again.usual, again.inner) == (first.size, first.usual, first.inner)
    for name in ("rows", "ids", "one", "spare", "writes"):
        assert torch.equal(getattr(again, name), getattr(first, name)), name
    assert all(torch.equal(rows, first.reads[name]) for name, rows in again.reads.items())
    read = neighbours._last_states
    asked: list[int] = []
    monkeypatch.setattr(
        neighbours, "_last_states", lambda b, names: asked.append(len(names)) or read(b, names)
    )
    assert Neighbours().of(fresh, "Berlin", 5) == near
    assert asked == [1]  # the subject alone
