"""Nothing mixes devices: what edits, trains and measures runs on a device that is not the CPU."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.editors.editor_file import load_editor
from instructedit.editors.gates import GateConfig
from instructedit.editors.instructed import EditorConfig, InstructedEditor
from instructedit.editors.many import EditSequence, edit_many
from instructedit.editors.polish import PolishConfig
from instructedit.editors.registry import METHODS, make_method
from instructedit.evaluation import evaluate, measure_perplexity
from instructedit.training.config import named_config
from instructedit.training.loop import train
from instructedit.training.moments import collect_moments
from instructedit.training.stance import equip
from instructedit.training.told import teach_told
from other_device import elsewhere
from test_gates import CONFIG as GATES
from test_gates import levelled
from test_stance import CONFIG as TEACHING
from test_subject_gates import NEURONS
from test_together import STEPS
from tiny_editors import CONFIG, TRANSFORM, tiny_case, tiny_cases, tiny_course, tiny_opinion

pytestmark = pytest.mark.slow

TOLD = ["Change it.", "Forget it."]
FEW = {"steps": 2}
SMALL = {"calinet": {**FEW, "neurons": 8}, "ike": {"demonstrations": 1}, "ultraedit": {}}
SMALL |= {name: {**FEW, "contexts": 2} for name in ("rome", "memit", "alphaedit")}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTRUCTEDIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def away(request: pytest.FixtureRequest) -> Iterator[Backbone]:
    """A tiny model elsewhere, of the family that is asked for; a Llama where none is."""
    near = levelled(getattr(request, "param", "llama"))
    with elsewhere() as device:
        named = (near.start_ids, near.name, near.checksum)
        yield Backbone(near.model.to(device), near.tokenizer, near.sites, *named)


def made(backbone: Backbone) -> InstructedEditor:
    """An untrained editor on the model's device, whose statistics have been taken."""
    config = EditorConfig(wordings=1, behind=True, transform=replace(TRANSFORM, others=2, own=1))
    editor = InstructedEditor(config, backbone.sites, backbone.width).to(backbone.device)
    texts = editor.texts.requests(backbone, tiny_cases(), [""] * 10)
    collect_moments(editor.hypernetwork, backbone, texts, texts)
    return editor


def test_mixing_is_seen() -> None:
    with elsewhere() as device:
        x = torch.ones(2, 3).to(device)
        assert x.device == device
        assert (
            (x + 1.0).device == x[torch.tensor([0])].device == torch.zeros(2, device=device).device == device
        )
        assert float((x * torch.tensor(2.0)).sum()) == 12.0
        assert x.cpu().device == torch.device("cpu")
        with pytest.raises(RuntimeError, match="two devices"):
            x + torch.ones(2, 3)
        with pytest.raises(RuntimeError, match="indices lie elsewhere"):
            torch.ones(3)[torch.tensor([0]).to(device)]


def test_an_edit_is_read_told_and_polished(away: Backbone) -> None:
    editor = made(away)
    teach_told(editor, away)
    editor.adjust(polish=PolishConfig(steps=2, fit=2, keep=3, names=2, breadth=2, scoped=True))
    assert all(x.device == away.device for x in editor.edit(away, tiny_cases(2), TOLD).a.values())
    rows = evaluate(away, editor, tiny_cases(2), generate=True, fluency=True, resamples=0).rows
    assert len(rows) > 10


@pytest.mark.parametrize("away", ["llama", "gpt2", "gemma3"], indirect=True)
def test_facts_have_gates_and_neurons(away: Backbone) -> None:
    editor = made(away)
    editor.adjust(gate=replace(GATES, signed=2, behind=2, pieces=2, onward=2), polish=PolishConfig(steps=1))
    editor.edit(away, tiny_cases(2), TOLD)
    for each in (NEURONS.each, 0):
        editor.adjust(gate=GateConfig(), neurons=replace(NEURONS, each=each), together=STEPS, near=2)
        sequence = EditSequence(editor, away)
        for cases in (tiny_cases(2), [tiny_case(2), tiny_case(3)]):
            sequence.add(cases, TOLD)
        assert sequence.count == 4


def test_opinions_are_taught_and_made(away: Backbone) -> None:
    editor = made(away)
    editor.adjust(distil=("sentiment",))
    equip(editor, away, [tiny_opinion(number) for number in range(4)], TEACHING, seed=0)
    editor.edit(away, [tiny_opinion(0)], ["Be positive."])


@pytest.mark.parametrize("name", ["instructedit", "paper", "malmen", "ke"])
def test_an_editor_is_trained_and_read_back(away: Backbone, tmp_path: Path, name: str) -> None:
    named = named_config(name).editor
    small = replace(
        named, transform=replace(named.transform, rank=8), gate=GateConfig(), polish=PolishConfig()
    )
    config = replace(CONFIG, editor=small, steps=3, micro=2, together=0.5, upon=1)
    result = train(config, away, tiny_course(config), tmp_path / "run", cache_folder=tmp_path / "prefix")
    editor = load_editor(result.editor, away)
    edit_many(editor, away, tiny_cases(2), ["", ""])


@pytest.mark.parametrize("name", METHODS)
def test_every_method_edits(away: Backbone, name: str) -> None:
    method = make_method(name, SMALL.get(name, FEW))
    assert evaluate(away, method, tiny_cases(1), resamples=0).rows
    if method.result != "context":
        assert evaluate(away, method, tiny_cases(3), resamples=0, together=2).rows


def test_perplexity_is_measured(away: Backbone, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The capital of France is Rome. People in Spain speak French. " * 20)
    delta = made(away).edit(away, tiny_cases(1), TOLD[:1])
    assert measure_perplexity(away, text, delta).tokens > 0


def test_texts_are_read_as_on_the_cpu(away: Backbone) -> None:
    near = levelled("llama")
    one, other = (at.top(at.prefix([at.text("The capital is")])).cpu() for at in (away, near))
    torch.testing.assert_close(one, other)
