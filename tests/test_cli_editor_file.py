"""Commands find an editor by name or file, and refuse one that was made for something else."""

import json
from pathlib import Path

import pytest

from cli_run import Run
from instructedit.backbone.loading import load_backbone
from instructedit.cli.loading import load_pair
from instructedit.cli.options import ModelChoice
from instructedit.editors.editor_file import save_editor
from instructedit.editors.instructed import EditorConfig, InstructedEditor
from instructedit.hypernetwork import TransformConfig
from tiny_models import tiny_folder

DOWN = "*.2.mlp.down_proj"
EDIT = ("edit", "The capital of France is", "Rome")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, and an untrained editor for one layer of the first."""
    place = tmp_path_factory.mktemp("place")
    for seed in (0, 1):
        tiny_folder(place / f"model{seed}", seed=seed)
    backbone = load_backbone(str(place / "model0"), sites=DOWN, start="<|begin|>")
    editor = InstructedEditor(EditorConfig(transform=TransformConfig(rank=4)), backbone.sites, backbone.width)
    save_editor(editor, place / "editor.safetensors", backbone, {"tasks": {"plain": 1}})
    return place


@pytest.mark.parametrize("model", ["default", "model0", "copy"])
def test_the_editors_own_model_sites_and_start_are_taken(place: Path, model: str) -> None:
    if model == "copy":
        tiny_folder(place / "copy", seed=0)
    name = model if model == "default" else str(place / model)
    backbone, editor = load_pair(ModelChoice(model=name), str(place / "editor.safetensors"))
    assert [site.name for site in backbone.sites] == ["model.layers.2.mlp.down_proj"]
    assert backbone.start_ids == (1,)
    assert backbone.name == (str(place / "model0") if model == "default" else name)
    assert editor.name == "instructedit"


def test_a_folder_of_a_run_is_an_editor(place: Path) -> None:
    assert load_pair(ModelChoice(), str(place))[1].name == "instructedit"


def test_an_edit_with_an_editor_from_a_file(cli: Run, place: Path, tmp_path: Path) -> None:
    out = tmp_path / "lora"
    code, text, _ = cli(*EDIT, "--editor", place / "editor.safetensors", "--out", out, "--json")
    assert code in (0, 8)
    assert len(json.loads(text)["edits"][0]["readings"]) >= 3
    assert json.loads((out / "adapter_config.json").read_text())["target_modules"] == [
        "model.layers.2.mlp.down_proj"
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--model", "model1"), 5, "trained for"),
        (("--sites", "*.3.mlp.down_proj"), 5, "sites"),
        (("--start", "none"), 5, "start"),
        (("--editor", "defaut"), 7, "Did you mean 'default'?"),
        (("--editor", "nowhere.safetensors"), 5, "nowhere.safetensors"),
        (("--editor", "broken.safetensors"), 5, "broken.safetensors"),
        (("--editor", "model1/model.safetensors"), 5, "not an editor"),
    ],
)
def test_an_editor_that_does_not_fit_is_refused(
    cli: Run,
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple,
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(place)
    (place / "broken.safetensors").write_bytes((place / "editor.safetensors").read_bytes()[:50])
    chosen = () if "--editor" in arguments else ("--editor", "editor.safetensors")
    result = cli(*EDIT, *arguments, *chosen, "--out", tmp_path / "lora")
    assert (result.code, result.out) == (code, "")
    assert said in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
