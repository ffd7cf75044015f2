"""Gates open where an edit is meant and write its answer there; elsewhere the model is as it was."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instructedit.backbone import Backbone, Text
from instructedit.backbone.neurons import Neurons, find_neurons
from instructedit.backbone.sites import find_sites, is_transposed
from instructedit.delta import LowRankDelta
from instructedit.editors.drill import Practice
from instructedit.editors.editor_file import load_editor, save_editor
from instructedit.editors.gates import GateConfig, find_slots, make_gates
from instructedit.editors.ground import Ground, survey
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.neuron_config import NeuronConfig
from instructedit.editors.polish import PolishConfig
from instructedit.editors.separation import separate
from instructedit.errors import DataError
from tiny_editors import tiny_case, tiny_editor, tiny_opinion
from tiny_models import FAMILY_NAMES, tiny_model, tiny_tokenizer

pytestmark = pytest.mark.slow

CONFIG = GateConfig(
    wordings=6, signed=0, behind=0, own=8, others=12, ordinary=200, steps=20, pieces=0, onward=0
)
LAYERS = {
    "gpt2": ("mlp.c_fc", None, "mlp.c_proj"),
    "gptj": ("mlp.fc_in", None, "mlp.fc_out"),
    "gpt_neox": ("mlp.dense_h_to_4h", None, "mlp.dense_4h_to_h"),
}
PLAIN = tuple(name for name in FAMILY_NAMES if name != "gemma3")  # which norms what its MLPs give
GATED = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def levelled(family: str, sites: str | None = None, **changes: int) -> Backbone:
    """A tiny model of more width than most, whose states share a direction, as those of real models do."""
    wide = ("n_embd", "n_inner") if family in ("gpt2", "gptj") else ("hidden_size", "intermediate_size")
    model = tiny_model(family, **dict(zip(wide, (96, 192), strict=True)), **changes)
    words = model.get_input_embeddings().weight
    words.data += 0.5 * torch.randn(words.shape[1], generator=torch.Generator().manual_seed(1))
    return Backbone(model, tiny_tokenizer(), find_sites(model, sites), (0,), f"wide-{family}", family)


@pytest.fixture
def backbone(family: str) -> Backbone:
    return levelled(family)


@pytest.fixture(scope="module")
def llama() -> Backbone:
    return levelled("llama")


def made(backbone: Backbone, **changes: object) -> InstructedEditor:
    """An untrained editor whose facts have gates."""
    editor = tiny_editor(backbone, others=2, own=1)
    editor.adjust(gate=CONFIG, polish=PolishConfig(steps=1), distil=("sentiment",), **changes)
    return editor


def ground_of(backbone: Backbone) -> Ground:
    ground = survey(backbone, CONFIG.ordinary)
    assert ground is not None
    return ground


@torch.no_grad()
def logits(backbone: Backbone, texts: list[Text], delta: LowRankDelta | None = None) -> list[torch.Tensor]:
    def ask() -> list[torch.Tensor]:
        ids = [torch.tensor([text.ids]) for text in texts]
        return [backbone.model(input_ids=row).logits[0] for row in ids]

    if delta is None:
        return ask()
    with delta.applied_to(backbone.model):
        return ask()


def ends(text: Text) -> list[int]:
    """Where the answer of a text is predicted, or what follows where it has none."""
    return list(text.positions) or [len(text.ids) - 1]


def test_the_layers_of_an_mlp_are_told_apart_by_what_they_do(backbone: Backbone, family: str) -> None:
    block = len(backbone.blocks) - 1
    found = find_neurons(backbone, block)
    assert found
    assert tuple(name and name.split(f".{block}.")[1] for name in (found.gate, found.up, found.down)) == (
        LAYERS.get(family, GATED)
    )


def test_an_mlp_of_another_build_has_no_gates(llama: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    from instructedit.backbone import neurons

    monkeypatch.setattr(neurons, "_keeps_sign", lambda *_: True)  # both are multiplied: neither is activated
    assert find_neurons(llama, 3) is None
    monkeypatch.setattr("instructedit.editors.ground.survey", lambda *_: None)
    plain = made(llama)
    plain.adjust(gate=GateConfig())
    same = plain.edit(llama, [tiny_case(0)], [""])
    assert set(made(llama).edit(llama, [tiny_case(0)], [""]).a) == set(same.a)  # the pass and its polish


def test_the_ground_is_what_the_model_has(backbone: Backbone) -> None:
    ground = ground_of(backbone)
    level = ground.rows @ ground.one
    assert 0.5 < float(level.mean()) < 1.1  # a tiny model has no direction that is quite the same everywhere
    assert float(level.mean()) > float(level.std())
    assert len(ground.spare) == ground.inner // 4
    down = ground.top.modules[ground.neurons.down]
    one = torch.nn.functional.one_hot(ground.spare[:3], ground.inner).float()
    torch.testing.assert_close(down(one) - down(0 * one), ground.writes[:3], rtol=1e-4, atol=1e-5)
    read = ground.top.modules[ground.neurons.gate](ground.rows[:5])[:, ground.spare]
    said = ground.rows[:5] @ ground.reads[ground.neurons.gate].mT
    bias = getattr(ground.top.modules[ground.neurons.gate], "bias", None)
    if bias is not None:
        said = said + (1 - ground.rows[:5] @ ground.one)[:, None] * bias[ground.spare]
    torch.testing.assert_close(said, read, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "gptj", "gpt_neox"])
def test_neurons_of_biased_layers_are_read_as_they_stand_in_half_precision(family: str) -> None:
    model = tiny_model(family, biased=True).to(torch.bfloat16)
    backbone = Backbone(model, tiny_tokenizer(), find_sites(model), (0,))
    ground = survey(backbone, 50)
    assert ground is not None
    down, gate = (model.get_submodule(name) for name in (ground.neurons.down, ground.neurons.gate))
    writes, reads = (m.weight if is_transposed(m) else m.weight.mT for m in (down, gate))
    assert torch.equal(ground.writes, writes.float()[ground.spare])
    expected = reads.float().mT[ground.spare] + gate.bias.float()[ground.spare, None] * ground.one
    assert torch.equal(ground.reads[ground.neurons.gate], expected)


def test_directions_separate_what_can_be_separated() -> None:
    noise = torch.Generator().manual_seed(0)
    one = torch.zeros(12)
    one[0] = 1.0
    rows = torch.randn(90, 12, generator=noise)
    rows[:, 0] = 1.0
    meant = torch.stack([rows[:, 1] > 0.8, rows[:, 2] < -0.5], 1)
    found = separate(rows, meant, one, 1e-5, 200)
    assert found.shape == (2, 12)
    assert ((rows @ found.mT > 0) == meant).all()
    assert found[0].abs().argmax() in (0, 1)
    assert found[1].abs().argmax() in (0, 2)


def practice_of(backbone: Backbone) -> Practice:
    fit = [
        backbone.text(text, "Rome") for text in ("The capital of France is", "Paris is a city in France and")
    ]
    keep = [
        backbone.text(*pair) for pair in (("People in France speak", "French"), ("The book was", "written"))
    ]
    return Practice(tuple(fit), (*keep, backbone.text("The capital of Italy is")))


def test_a_slot_is_a_token_of_an_answer_behind_those_before_it(llama: Backbone) -> None:
    ground, practice = ground_of(llama), practice_of(llama)
    slots = find_slots(ground, practice)
    size = len(practice.fit[0].targets)
    assert slots.meant.shape[1] == size  # both texts have the same answer
    assert slots.meant.sum(0).tolist() == [2] * size
    told = sum(len(text.ids) for text in practice.fit)
    alone = sum(len(text.positions) for text in practice.keep[:2]) + 1  # the end of what has no answer
    assert len(slots.rows) == told + alone + len(ground.rows)
    assert not slots.meant[told:].any()
    assert slots.meant[practice.fit[0].positions[0], 0]


@pytest.mark.parametrize("name", PLAIN)
def test_gates_answer_and_leave_the_rest_as_it_was(name: str) -> None:
    backbone = levelled(name)
    practice, ground = practice_of(backbone), ground_of(backbone)
    delta = make_gates(ground, practice, CONFIG)
    assert set(delta.a) == set(ground.neurons.names)
    for text in practice.fit:
        with torch.no_grad(), delta.applied_to(backbone.model):
            found = backbone.model(input_ids=torch.tensor([text.ids])).logits[0].argmax(-1)
        assert found[list(text.positions)].tolist() == list(text.targets)
    for text in practice.keep:
        (before,), (after,) = logits(backbone, [text]), logits(backbone, [text], delta)
        assert before.argmax(-1)[ends(text)].tolist() == after.argmax(-1)[ends(text)].tolist()


def test_shut_gates_write_nothing_but_what_their_neurons_no_longer_write(backbone: Backbone) -> None:
    ground, practice = ground_of(backbone), practice_of(backbone)
    delta, down = make_gates(ground, practice, CONFIG), ground.neurons.down
    taken = delta.a[down][0].argmax(-1)
    assert len(set(taken.tolist())) == len(taken)
    assert set(taken.tolist()) <= set(ground.spare.tolist())
    places = [ground.spare.tolist().index(neuron) for neuron in taken.tolist()]
    gone = LowRankDelta({down: delta.a[down]}, {down: -ground.writes[places].mT[None]})
    for text in practice.keep:
        (shut,), (without,) = logits(backbone, [text], delta), logits(backbone, [text], gone)
        torch.testing.assert_close(shut[ends(text)], without[ends(text)], rtol=0.05, atol=0.2)


def test_edits_take_other_neurons_and_the_same_edit_the_same(llama: Backbone) -> None:
    ground, practice = ground_of(llama), practice_of(llama)
    first, again = (make_gates(ground, practice, CONFIG) for _ in range(2))
    torch.testing.assert_close(first.a, again.a)
    other = Practice(practice.fit[::-1], practice.keep)
    down = ground.neurons.down
    assert not torch.equal(first.a[down], make_gates(ground, other, CONFIG).a[down])


def test_an_answer_too_long_for_the_neurons_keeps_its_first_tokens(llama: Backbone) -> None:
    ground = ground_of(llama)
    long = llama.text("The capital of France is", "a name of a very long and winding kind, and of no use")
    practice = Practice((long,), practice_of(llama).keep)
    assert len(long.targets) > len(ground.spare) // 2
    delta = make_gates(ground, practice, CONFIG)
    with torch.no_grad(), delta.applied_to(llama.model):
        found = llama.model(input_ids=torch.tensor([long.ids])).logits[0].argmax(-1)
    assert found[long.answer_start - 1] == long.targets[0]


def test_an_editor_gates_its_facts_and_nothing_else(llama: Backbone) -> None:
    editor, cases = made(llama), [tiny_case(0), tiny_opinion(1), tiny_case(2)]
    delta = editor.edit(llama, cases, ["Change it.", "Be kind.", ""])
    found = find_neurons(llama, 3)
    assert isinstance(found, Neurons)
    alone = editor.edit(llama, cases[2:], [""])
    assert set(alone.a) == set(found.names)
    for name in found.names:
        torch.testing.assert_close(delta[2].dense(name), alone.dense(name), rtol=1e-3, atol=1e-4)
    opinion = editor.edit(llama, cases[1:2], ["Be kind."])
    for name in delta.a:
        torch.testing.assert_close(delta[1].dense(name), opinion.dense(name))


@pytest.mark.parametrize("name", PLAIN)
def test_an_edit_takes(name: str) -> None:
    backbone, case = levelled(name), tiny_case(1)
    editor = made(backbone)
    delta = editor.edit(backbone, [case], ["Change it."])
    assert editor.taken(backbone, [case], delta) == [True]
    assert all(not b.any() for n, b in delta.b.items() if n not in ground_of(backbone).neurons.names)


def test_what_gates_do_not_answer_is_made_by_pass_and_polish() -> None:
    """Gemma norms what an MLP gives, so that the last one alone may not be heard."""
    backbone, case = levelled("gemma3"), tiny_case(1)
    editor = made(backbone)
    delta = editor.edit(backbone, [case], ["Change it."])
    gates = ground_of(backbone).neurons.names
    editor.adjust(gate=GateConfig())
    plain = editor.edit(backbone, [case], ["Change it."])
    for name in plain.a:
        torch.testing.assert_close(delta.dense(name), plain.dense(name), rtol=1e-3, atol=1e-5)
    assert set(delta.a) == set(plain.a) | set(gates)


def test_ground_is_that_of_its_settings_and_no_wordings_and_no_polish_mean_none(
    llama: Backbone, tmp_path: Path
) -> None:
    editor = made(llama)
    ground = editor.ground(llama)
    assert ground is editor.ground(llama)
    editor.adjust(gate=replace(CONFIG, ordinary=60))
    assert 0 < len(editor.ground(llama).rows) < len(ground.rows)
    editor.adjust(gate=CONFIG, text=str(tmp_path / "own.txt"))
    (tmp_path / "own.txt").write_text("Paris is a city in France.\n", encoding="utf-8")
    assert len(editor.ground(llama).rows) < len(ground.rows)
    editor.adjust(polish=PolishConfig())
    assert editor.ground(llama) is None
    editor.adjust(polish=PolishConfig(steps=1), gate=GateConfig())
    assert editor.ground(llama) is None


@pytest.mark.parametrize(
    "wrong",
    [{"ordinary": 0}, {"told": -1}, {"steep": 0.0}, {"open": 0.15}, {"opens": 0.5}],
)
def test_gates_that_cannot_be_made_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError, match=r"Expected (a number of|gate\.opens below)"):
        replace(CONFIG, **wrong)


@pytest.mark.parametrize("wrong", [{"ordinary": 0}, {"each": -1}, {"steep": 0.0}, {"opens": 1.0}])
def test_neurons_that_facts_cannot_have_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError, match=r"Expected neurons\.each"):
        NeuronConfig(**wrong)


def test_gates_are_kept_in_an_editors_file(llama: Backbone, tmp_path: Path) -> None:
    editor = made(llama)
    save_editor(editor, tmp_path / "editor.safetensors", llama, {})
    assert load_editor(tmp_path / "editor.safetensors", llama).config.gate == CONFIG
