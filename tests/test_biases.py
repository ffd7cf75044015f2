"""Layers with biases, as trained models of some families have: each is a part of what its layer gives."""

from pathlib import Path

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.backbone.sites import find_sites
from instructedit.delta import LowRankDelta
from instructedit.editors.ground import survey
from instructedit.editors.location import locate, output_projections, read_keys
from instructedit.editors.memit import MEMIT, read_state
from instructedit.editors.rome import ROME
from tiny_editors import tiny_cases
from tiny_models import LINES, tiny_model, tiny_tokenizer

pytestmark = pytest.mark.slow


@pytest.fixture(params=["gpt2", "gptj", "gpt_neox"])
def biased(request: pytest.FixtureRequest) -> Backbone:
    """Blocks 1 and 2 of four are edited; there is no checksum, so nothing is kept on disk."""
    model = tiny_model(request.param, biased=True)
    return Backbone(model, tiny_tokenizer(), find_sites(model, "blocks=1-2"), (0,))


@pytest.fixture
def text(tmp_path: Path) -> str:
    """Ordinary text of more tokens than a key has sides."""
    path = tmp_path / "ordinary.txt"
    path.write_text("\n".join(LINES))
    return str(path)


def test_every_bias_of_the_model_is_there(biased: Backbone) -> None:
    biases = [x for name, x in biased.model.named_parameters() if name.endswith(".bias")]
    assert biases
    assert all(float(x.abs().min()) > 0 for x in biases)


def test_rome_gives_its_value_for_its_key(biased: Backbone, text: str) -> None:
    editor, cases, site = ROME(steps=2, contexts=3, text=text), tiny_cases(2), output_projections(biased)[-1]
    module, located = biased.modules[site.name], locate(biased, cases, 3)
    delta, values = editor.edit(biased, cases), editor.find(biased, module, located)
    keys = read_keys(biased, located, site)
    with torch.no_grad(), delta.applied_to(biased):
        torch.testing.assert_close(module(keys)[:, 0], values, rtol=1e-3, atol=1e-3)


def test_memit_reaches_its_goal_where_nothing_holds_it_back(biased: Backbone, text: str) -> None:
    editor, cases = MEMIT(steps=2, contexts=1, text=text, weight=1e-9), tiny_cases(2)
    sites = output_projections(biased)
    last, located = biased.blocks[sites[-1].block], locate(biased, cases, 1)
    delta, goal = editor.edit(biased, cases), editor.find(biased, last, located)
    _, before = read_state(biased, located, sites[0], last, LowRankDelta({}, {}))
    _, after = read_state(biased, located, sites[0], last, delta)
    assert float((goal - after).norm() / (goal - before).norm()) < 1e-3


def test_what_neurons_read_holds_their_constants(biased: Backbone) -> None:
    ground = survey(biased, 200)
    assert ground is not None
    gate, rows = ground.top.modules[ground.neurons.gate], ground.rows[:5]
    said = rows @ ground.reads[ground.neurons.gate].mT
    said = said + (1 - rows @ ground.one)[:, None] * gate.bias[ground.spare]
    torch.testing.assert_close(said, gate(rows)[:, ground.spare], rtol=1e-3, atol=1e-3)
