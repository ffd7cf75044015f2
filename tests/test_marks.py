"""A mark opens where a subject has been read, in any words, and gates further up hear it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.drill import Practice
from instructedit.editors.editor_file import load_editor, read_header, save_editor
from instructedit.editors.gates import find_slots, make_gates
from instructedit.editors.ground import read_rows, survey
from instructedit.editors.instructed import EditorConfig, InstructedEditor
from instructedit.editors.marks import make_mark, marking_neurons
from instructedit.editors.polish import PolishConfig, in_force
from instructedit.errors import DataError
from instructedit.training.marks import MarkConfig, teach_mark, teach_mark_file
from instructedit.types import EditCase
from test_gates import CONFIG, levelled, made
from tiny_editors import TRANSFORM, tiny_case, tiny_editor

CASE = EditCase("The capital of France is", "Lyon", "France")
NEAR = ["Spain", "Italy", "Kenya"]
SHORT = MarkConfig(steps=4, texts=4)


@pytest.fixture(scope="module")
def llama() -> Backbone:
    return levelled("llama")


def written(backbone: Backbone, size: float = 3.0) -> torch.Tensor:
    return size * torch.randn(backbone.width, generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def moved(backbone: Backbone, mark: LowRankDelta, prompt: str) -> torch.Tensor:
    """By how much each token's logits are moved at the most."""
    ids = torch.tensor([backbone.text(prompt).ids])
    before = backbone.model(input_ids=ids).logits[0]
    with mark.applied_to(backbone.model):
        return (backbone.model(input_ids=ids).logits[0] - before).abs().amax(1)


def test_a_mark_opens_behind_its_subject_and_nowhere_else(llama: Backbone) -> None:
    mark = make_mark(llama, CASE, NEAR, written(llama))
    neurons = marking_neurons(llama)
    assert neurons
    assert set(mark.a) == set(neurons.names)
    felt = moved(llama, mark, "The capital of France is")
    end = int((felt > 0.01 * felt.max()).int().argmax())
    assert llama.tokenizer.decode(llama.text("The capital of France is").ids[: end + 1]).endswith("France")
    for name in NEAR:
        assert moved(llama, mark, f"The capital of {name} is").max() < 0.05 * felt.max()


def test_what_a_mark_writes_is_what_was_learned(llama: Backbone) -> None:
    neurons, new = marking_neurons(llama), written(llama)
    assert neurons
    text, given = llama.text(CASE.prompt), []
    module = llama.model.get_submodule(neurons.down)
    for size in (1, 2):
        with torch.no_grad(), make_mark(llama, CASE, NEAR, size * new).applied_to(llama.model):
            hook = module.register_forward_hook(lambda _m, _a, output: given.append(output[0]))  # comes last
            llama.model(input_ids=torch.tensor([text.ids]))
            hook.remove()
    change = given[1] - given[0]
    row = change[int(change.norm(dim=1).argmax())]
    assert torch.nn.functional.cosine_similarity(row, new, dim=0) > 0.999
    assert 0.5 < row.norm() / new.norm() < 1.5


def test_without_a_subject_or_a_block_above_there_is_no_mark(llama: Backbone) -> None:
    assert not make_mark(llama, EditCase("What is the best of all?", "Lyon"), NEAR, written(llama)).a
    single = levelled("llama", "blocks=0", num_hidden_layers=1)
    assert marking_neurons(single) is None
    assert not make_mark(single, CASE, NEAR, written(single)).a
    with pytest.raises(DataError, match="no subject can be marked"):
        teach_mark(tiny_editor(single), single, SHORT)


def test_rows_read_without_a_mark_are_nobodys(llama: Backbone) -> None:
    ground, mark = survey(llama, 200), make_mark(llama, CASE, NEAR, written(llama, 100.0))
    assert ground
    fit = tuple(llama.text(prompt, "Lyon") for prompt in (CASE.prompt, "France has its capital in"))
    alone = llama.text("The capital of Spain is", "Madrid")
    practice = Practice((*fit, llama.text("Its capital is", "Lyon")), (alone,))
    plain, marked = find_slots(ground, practice), find_slots(ground, practice, mark)
    due = sum(len(text.positions) for text in fit)  # the third has no subject: nothing is marked in it
    assert len(marked.rows) == len(plain.rows) + due
    fresh = slice(len(plain.rows) - len(ground.rows), len(plain.rows) - len(ground.rows) + due)
    assert not marked.meant[fresh].any()
    bare = read_rows(ground.top, fit, (ground.neurons.gate,))
    told = [keys[ground.neurons.gate][list(text.positions)] for text, keys in zip(fit, bare, strict=True)]
    torch.testing.assert_close(marked.rows[fresh], torch.cat(told))
    assert torch.equal(marked.meant.sum(0), plain.meant.sum(0))


def test_gates_behind_a_mark_need_it(llama: Backbone) -> None:
    ground, mark = survey(llama, 200), make_mark(llama, CASE, NEAR, written(llama))
    assert ground
    fit = tuple(llama.text(prompt, "Lyon") for prompt in (CASE.prompt, "France has its capital in"))
    keep = tuple(llama.text(f"The {thing} of France is", "no") for thing in ("river", "king", "size"))
    gates = make_gates(ground, Practice(fit, keep), CONFIG, mark)
    answer = fit[0].targets[0]

    def said(delta: LowRankDelta) -> int:
        with torch.no_grad(), in_force(llama, delta):
            logits = llama.model(input_ids=torch.tensor([fit[0].ids])).logits[0]
        return int(logits[fit[0].positions[0]].argmax())

    assert said(mark + gates) == answer
    assert said(gates) != answer  # the same words, unmarked


def test_a_mark_is_learned_and_kept(llama: Backbone, tmp_path: Path) -> None:
    path, target = tmp_path / "editor.safetensors", tmp_path / "marked.safetensors"
    save_editor(made(llama), path, llama, {"tasks": ["counterfact"]})
    first = teach_mark_file(path, target, llama, SHORT)
    again = teach_mark_file(path, tmp_path / "again.safetensors", llama, SHORT)
    assert first == again
    assert set(first) == {"reach", "least", "kl"}
    header = read_header(target)
    assert header["tasks"] == ["counterfact"]
    assert header["mark"] == {"seed": 0, "steps": 4, "validation": first}
    marked, same = load_editor(target, llama), load_editor(tmp_path / "again.safetensors", llama)
    assert marked.config.gate.marked
    assert marked.mark is not None
    assert torch.equal(marked.mark, same.mark)
    delta = marked.edit(llama, [tiny_case(0)], ["Change it."])
    assert set(marking_neurons(llama).names) <= set(delta.a)  # type: ignore[union-attr]
    assert marked.taken(llama.reaching(delta.a), [tiny_case(0)], delta) == [True]


def test_more_steps_reach_further(llama: Backbone) -> None:
    editor = tiny_editor(llama)
    few, many = (teach_mark(editor, llama, MarkConfig(steps=n, texts=6, weight=1.0)) for n in (1, 40))
    assert many["least"] > few["least"] + 1


def test_an_editor_whose_mark_was_never_taught_makes_none(llama: Backbone) -> None:
    config = EditorConfig(
        transform=TRANSFORM, gate=replace(CONFIG, marked=True), polish=PolishConfig(steps=1)
    )
    editor = InstructedEditor(config, llama.sites, llama.width)
    assert editor.mark is not None
    neurons = marking_neurons(llama)
    assert neurons
    delta = editor.edit(llama, [tiny_case(0)], ["Change it."])
    assert not any(delta.b[name].any() for name in set(neurons.names) & set(delta.b))
