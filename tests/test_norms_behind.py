"""MEMIT and AlphaEdit where a norm stands behind the MLPs: what these give is not added as it is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.backbone.sites import find_sites
from instructedit.editors.alphaedit import AlphaEdit
from instructedit.editors.location import adds_output, locate, output_projections, read_keys
from instructedit.editors.many import edit_many
from instructedit.editors.memit import MEMIT
from tiny_editors import tiny_cases
from tiny_models import FAMILY_NAMES, LINES, tiny_backbone

pytestmark = pytest.mark.slow

SHORT = "The book was written by a writer who lived in London.\nI think Rome is good. I think Madrid is bad."


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[type, str]:
    """Ordinary text for each method: with a covariance of all directions, and with a null space."""
    monkeypatch.setenv("INSTRUCTEDIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "long.txt").write_text("\n".join(LINES))
    (tmp_path / "short.txt").write_text(SHORT)
    return {MEMIT: str(tmp_path / "long.txt"), AlphaEdit: str(tmp_path / "short.txt")}


def normed() -> Backbone:
    """A model with a norm behind its MLPs, whose blocks 1 and 2 are edited."""
    made = tiny_backbone("gemma3")
    sites = find_sites(made.model, "blocks=1-2")
    return Backbone(made.model, made.tokenizer, sites, made.start_ids, made.name, made.checksum)


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_norm_behind_an_mlp_is_found_out(family: str) -> None:
    backbone = tiny_backbone(family)
    found = [adds_output(backbone, site) for site in output_projections(backbone)]
    assert found == [family != "gemma3"] * len(found)


@pytest.mark.parametrize("editor", [MEMIT(weight=1e-9), AlphaEdit(ridge=1e-6, threshold=1e-4)])
def test_where_a_norm_stands_behind_an_mlp_the_last_gives_the_value(
    editor: MEMIT | AlphaEdit, texts: dict[type, str]
) -> None:
    backbone, cases = normed(), tiny_cases(2)
    editor = replace(editor, steps=2, contexts=1, text=texts[type(editor)])
    (site,), module = editor.place(backbone)
    assert site == output_projections(backbone)[-1]
    delta, located = editor.edit(backbone, cases), locate(backbone, cases, 1)
    assert list(delta.a) == [site.name]
    goal, keys = editor.find(backbone, module, located), read_keys(backbone, located, site)
    with torch.no_grad(), delta.applied_to(backbone):
        given = backbone.modules[site.name](keys)[:, 0]
    assert float((given - goal).norm()) < 0.02 * float(
        (backbone.modules[site.name](keys)[:, 0] - goal).norm()
    )
    together = edit_many(editor, backbone, cases)
    assert list(together.a) == [site.name]
