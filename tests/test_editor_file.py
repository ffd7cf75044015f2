"""An editor file says what it is for, and is refused by everything else."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.backbone.checksum import weights_checksum
from instructedit.backbone.sites import find_sites
from instructedit.editors import load_for_editor
from instructedit.editors.editor_file import KEY, load_editor, read_header, save_editor
from instructedit.editors.stance import Stance, StanceConfig
from instructedit.errors import EditorFileError, ModelError
from instructedit.storage import load_tensors, save_tensors
from tiny_editors import tiny_cases, tiny_editor
from tiny_models import tiny_backbone, tiny_folder, tiny_model, tiny_tokenizer


@pytest.fixture(scope="module")
def path(llama: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("editor") / "editor.safetensors"
    save_editor(tiny_editor(llama), path, llama, {"tasks": {"counterfact": 10}, "note": "ä"})
    return path


def rewrite(path: Path, target: Path, **changes: object) -> Path:
    """The same editor with changes to its header; None removes a part."""
    tensors, metadata = load_tensors(path)
    header = {**json.loads(metadata[KEY]), **changes}
    kept = {key: value for key, value in header.items() if value is not None}
    save_tensors(target / "changed.safetensors", tensors, {KEY: json.dumps(kept)})
    return target / "changed.safetensors"


def test_an_editor_comes_back(path: Path, llama: Backbone) -> None:
    before, after = tiny_editor(llama), load_editor(path, llama)
    assert after.config == before.config
    for name, value in before.state_dict().items():
        expected = value.half().float() if value.ndim > 1 else value
        assert torch.equal(after.state_dict()[name], expected)
    first, second = (editor.edit(llama, tiny_cases(2), ["", "Change it."]) for editor in (before, after))
    for site in first.a:
        torch.testing.assert_close(second.dense(site), first.dense(site), rtol=0.02, atol=1e-3)


def test_a_model_of_few_blocks_is_loaded_with_the_editors_own_sites(tmp_path: Path) -> None:
    model = tiny_model("llama", num_hidden_layers=2)
    for part in (model, tiny_tokenizer()):
        part.save_pretrained(tmp_path / "model")
    named = ((0,), str(tmp_path / "model"), weights_checksum(model))
    backbone = Backbone(model, tiny_tokenizer(), find_sites(model, blocks=1), *named)
    save_editor(tiny_editor(backbone), tmp_path / "editor.safetensors", backbone, {})
    found, editor = load_for_editor(tmp_path / "editor.safetensors")
    assert (found.sites, found.start_ids) == (backbone.sites, (0,))
    editor.edit(found, tiny_cases(1))


def test_a_model_without_its_sites_is_said_to_be_another(path: Path, tmp_path: Path) -> None:
    with pytest.raises(EditorFileError, match="was trained for the model 'tiny-llama'"):
        load_for_editor(path, model=str(tiny_folder(tmp_path, "gpt2")))
    with pytest.raises(ModelError, match="no layer matches the sites 'nonsense'"):
        load_for_editor(path, model=str(tiny_folder(tmp_path / "same")), sites="nonsense")


def test_moments_are_kept_in_their_whole_range(tmp_path: Path, llama: Backbone) -> None:
    editor, site = tiny_editor(llama), llama.sites[0]
    editor.config = replace(editor.config, stance=StanceConfig(marks=(site,), directions=3))
    editor.stance = Stance(editor.config.stance, llama.width)
    editor.stance.moments[0] = torch.tensor([1e-9, 1.0, 1e5])
    save_editor(editor, tmp_path / "editor", llama, {})
    found = load_editor(tmp_path / "editor", llama).stance
    assert found is not None
    assert torch.equal(found.moments, editor.stance.moments)


def test_the_header_says_what_it_is_for(path: Path, llama: Backbone) -> None:
    header = read_header(path)
    assert header["tasks"] == {"counterfact": 10}
    assert header["note"] == "ä"
    assert header["model"]["checksum"] == llama.checksum
    assert [site["name"] for site in header["sites"]] == [site.name for site in llama.sites]
    assert header["start_ids"] == [0]


def test_saving_again_changes_nothing(path: Path, llama: Backbone, tmp_path: Path) -> None:
    save_editor(load_editor(path), tmp_path / "again", llama, {"tasks": {"counterfact": 10}, "note": "ä"})
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_another_model_is_refused(path: Path) -> None:
    with pytest.raises(
        EditorFileError, match=r"was trained for the model 'tiny-llama' .*`instructedit train`"
    ):
        load_editor(path, tiny_backbone("llama", seed=1))


def test_other_sites_and_another_start_are_refused(path: Path, llama: Backbone) -> None:
    with pytest.raises(EditorFileError, match=r"edits 9 sites.*loaded with 6.*load_for_editor"):
        load_editor(path, tiny_backbone("llama", blocks=2))
    unstarted = Backbone(llama.model, llama.tokenizer, llama.sites, (), llama.name, llama.checksum)
    with pytest.raises(EditorFileError, match=r"start tokens \[0\]"):
        load_editor(path, unstarted)


@pytest.mark.parametrize("content", [None, b"", b"not a safetensors file", "cut"])
def test_a_broken_file_is_refused(path: Path, tmp_path: Path, content: object) -> None:
    target = tmp_path / "editor.safetensors"
    if content is not None:
        target.write_bytes(path.read_bytes()[:-9] if content == "cut" else bytes(content))
    for read in (load_editor, read_header):
        with pytest.raises(EditorFileError, match="cannot read the editor"):
            read(target)


@pytest.mark.parametrize(
    "metadata", [{}, {KEY: "{"}, {KEY: "[1]"}, {KEY: '{"format": "instructedit-delta-1"}'}]
)
def test_what_is_no_editor_is_refused(tmp_path: Path, metadata: dict[str, str]) -> None:
    save_tensors(tmp_path / "x.safetensors", {"weight": torch.zeros(1)}, metadata)
    with pytest.raises(EditorFileError, match=r"not an editor|cannot read the editor"):
        load_editor(tmp_path / "x.safetensors")


def test_a_header_without_its_parts_is_refused(path: Path, tmp_path: Path, llama: Backbone) -> None:
    with pytest.raises(EditorFileError, match="lacks sites, start_ids"):
        load_editor(rewrite(path, tmp_path, sites=None, start_ids=None), llama)
    editor = read_header(path)["editor"]
    for wrong in ({**editor, "colour": "red"}, {**editor, "transform": {**editor["transform"], "rank": 9}}):
        with pytest.raises(EditorFileError, match="does not hold the weights"):
            load_editor(rewrite(path, tmp_path, editor=wrong), llama)


def test_an_editor_loads_its_own_backbone(path: Path, tmp_path: Path, llama: Backbone) -> None:
    folder = tiny_folder(tmp_path / "model")
    backbone, editor = load_for_editor(path, model=str(folder))
    assert backbone.sites == llama.sites
    assert editor.edit(backbone, tiny_cases(1)).a.keys() == {site.name for site in llama.sites}
