"""A run that begins with an editor keeps what that editor has learned, and adds sites to it quietly."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.editors.editor_file import read_header
from instructedit.errors import DataError
from instructedit.factors import capture
from instructedit.training.loop import train
from instructedit.training.warm_start import FAINT, warm_start
from tiny_editors import CONFIG, tiny_cases, tiny_course, tiny_editor
from tiny_models import tiny_backbone

pytestmark = pytest.mark.slow


def wander(editor, seed: int) -> None:
    """Every weight somewhere else, as after a training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in editor.parameters():
            value += 0.1 * torch.randn(value.shape, generator=generator)


def narrow_pair():
    """An editor of the last two blocks that has wandered, and a new one of the last three."""
    known = tiny_editor(tiny_backbone("llama", blocks=2))
    wander(known, 1)
    return known, tiny_editor(tiny_backbone("llama", blocks=3), seed=5)


@torch.no_grad()
def test_known_sites_give_what_they_gave_and_new_ones_step_faintly() -> None:
    known, editor = narrow_pair()
    first = {site.name for shape in known.hypernetwork.shapes for site in shape.sites}
    backbone = tiny_backbone("llama", blocks=3)
    cases = tiny_cases(2)
    texts = editor.texts.requests(backbone, cases, ["", ""])
    factors = capture(backbone, texts)
    state, absent = editor.read(backbone, ["Change this.", ""])
    warm_start(editor, known)
    before = known.hypernetwork(factors, state, absent)
    after = editor.hypernetwork(factors, state, absent)
    assert set(before.a) == first < set(after.a)
    for name in first:
        torch.testing.assert_close(after.dense(name), before.dense(name), rtol=1e-4, atol=1e-6)
    for old, new in zip(known.hypernetwork.shapes, editor.hypernetwork.shapes, strict=True):
        fresh = [i for i, site in enumerate(new.sites) if site.name not in first]
        assert fresh
        expected = (old.log_step.mean() - FAINT).expand(len(fresh))
        torch.testing.assert_close(new.log_step[fresh], expected)


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
def test_an_editor_on_another_device_takes_over_what_lies_on_the_cpu() -> None:
    known, editor = narrow_pair()
    warm_start(editor.to("meta"), known)
    assert all(value.device.type == "meta" for value in editor.parameters())


def test_another_network_is_refused() -> None:
    known, editor = narrow_pair()
    other = tiny_editor(tiny_backbone("llama", blocks=2), rank=4)
    with pytest.raises(DataError, match="the editor to begin with has the network"):
        warm_start(editor, other)
    warm_start(editor, known)


def test_a_run_that_begins_with_an_editor_is_a_run_of_its_own(tmp_path: Path, llama: Backbone) -> None:
    config = replace(CONFIG, steps=1)
    first = train(config, llama, tiny_course(config), tmp_path / "first").editor
    begun = train(config, llama, tiny_course(config), tmp_path / "second", begin=first)
    assert read_header(begun.editor)["step"] == 1
    assert first.read_bytes() != begun.editor.read_bytes()
    with pytest.raises(DataError, match="holds a run with other settings"):
        train(config, llama, tiny_course(config), tmp_path / "second")
