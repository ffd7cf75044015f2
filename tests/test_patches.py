"""Facts of a store by neurons of their own: alone, in any order, and gone without a trace."""

from pathlib import Path

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.patches import Patches, PatchMaker, start_patches
from instructedit.editors.requests import EditorConfig
from instructedit.errors import DataError
from instructedit.factors import answer_nll
from instructedit.ledger.adding import draft_edits, solve_entries, solve_with
from instructedit.ledger.entries import plan_edits
from instructedit.ledger.kept import Kept, pack_edit, read_edit, unpack_edit
from instructedit.ledger.store import Store, create_store
from instructedit.ledger.writer import open_writer
from instructedit.types import EditCase
from test_gates import levelled
from test_subject_gates import CONFIG, NEURONS, made, read
from test_together import STEPS, WORDS
from tiny_editors import tiny_case, tiny_cases, tiny_opinion

pytestmark = pytest.mark.slow

NAMES = {"name": "tiny", "checksum": "c"}
PROMPT = "The book was written by a writer who"


@pytest.fixture(scope="module")
def llama() -> Backbone:
    return levelled("llama")


@pytest.fixture(scope="module")
def editor(llama: Backbone) -> InstructedEditor:
    return made(llama)


@pytest.fixture(scope="module")
def maker(llama: Backbone) -> PatchMaker:
    found = start_patches(llama, CONFIG)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def edits(llama: Backbone, editor: InstructedEditor) -> list[Kept]:
    return [read_edit(editor, llama, case, WORDS[0]) for case in tiny_cases(3)]


def joined(maker: PatchMaker, edits: list[Kept]) -> LowRankDelta:
    return maker.join([edit.patches for edit in edits])


def fill(folder: Path, editor: InstructedEditor, backbone: Backbone, cases: list[EditCase]) -> LowRankDelta:
    """Add edits one by one; the update that the last one was measured under."""
    create_store(folder, NAMES, NAMES, "float32")
    delta = LowRankDelta({}, {})
    for case in cases:
        with open_writer(folder) as writer:
            drafts = draft_edits(writer, backbone, editor, plan_edits(writer.in_force, [case]), [WORDS[0]])
            delta = solve_with(writer, backbone, editor, drafts)
            writer.add(drafts)
    return delta


def test_a_patch_makes_its_answer_likelier_and_takes_so_many_neurons(
    llama: Backbone, maker: PatchMaker, edits: list[Kept]
) -> None:
    case = tiny_case(0)
    assert not edits[0].rounds
    assert len(edits[0].patches) == NEURONS.each
    assert all(len(patch.reads) == len(patch.writes) == 1 for patch in edits[0].patches.values())
    asked, wide = [llama.text(case.prompt, case.wanted)], maker.writer.backbone
    before = answer_nll(wide, wide.top(wide.prefix(asked)), asked)
    with joined(maker, edits[:1]).applied_to(llama.model):
        after = answer_nll(wide, wide.top(wide.prefix(asked)), asked)
    assert float(after - before) < -0.02


def test_a_patch_does_not_depend_on_those_that_were_made_before(
    llama: Backbone, editor: InstructedEditor, edits: list[Kept]
) -> None:
    again = read_edit(editor, llama, tiny_case(2), WORDS[0])
    assert again.patches.keys() == edits[2].patches.keys()
    for name, patch in again.patches.items():
        torch.testing.assert_close(patch.reads, edits[2].patches[name].reads)
        torch.testing.assert_close(patch.writes, edits[2].patches[name].writes)


def test_in_any_order_the_model_is_the_same(llama: Backbone, maker: PatchMaker, edits: list[Kept]) -> None:
    there, back = joined(maker, edits), joined(maker, edits[::-1])
    for prompt in (PROMPT, tiny_case(1).prompt):
        one, other, base = (read(llama, prompt, delta) for delta in (there, back, LowRankDelta({}, {})))
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
        assert float((one - base).abs().max()) > 1e-3


def test_a_fact_that_does_not_take_gets_more_neurons(
    llama: Backbone, editor: InstructedEditor, maker: PatchMaker
) -> None:
    case = tiny_case(0)
    practice = editor.texts.practice(llama, case, WORDS[0])
    assert practice is not None
    tried: list[LowRankDelta] = []

    def never(change: LowRankDelta) -> bool:
        tried.append(change)
        return False

    patches = maker.make(case, practice, [], never, 2)
    assert len(tried) == 2
    assert sum(len(patch.reads) for patch in patches.values()) == 2 * NEURONS.each
    assert maker.writer.taken == [0] * len(maker.writer.taken)
    whole = maker.join([patches])
    for name in whole.a:
        torch.testing.assert_close(whole.dense(name), tried[-1].dense(name), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("precision", "close"), [("float32", 1e-7), ("float16", 1e-3)])
def test_a_patch_is_read_as_it_was_kept(edits: list[Kept], precision: str, close: float) -> None:
    again = unpack_edit(pack_edit(edits[0], precision))
    assert again.rounds == []
    assert again.patches.keys() == edits[0].patches.keys()
    for name, patch in again.patches.items():
        torch.testing.assert_close(patch.reads, edits[0].patches[name].reads, rtol=close, atol=close)
        torch.testing.assert_close(patch.writes, edits[0].patches[name].writes, rtol=close, atol=close)


def test_more_facts_than_neurons_are_refused(maker: PatchMaker, edits: list[Kept]) -> None:
    room = min(len(ground.spare) for ground in maker.writer.grounds)
    with pytest.raises(DataError, match="no neurons are left"):
        joined(maker, edits[:1] * (room + 1))


def test_nothing_is_an_update_without_layers(maker: PatchMaker) -> None:
    assert maker.join([]).a == {}


def test_an_edit_undone_was_never_made(llama: Backbone, editor: InstructedEditor, tmp_path: Path) -> None:
    first, never = tmp_path / "first", tmp_path / "never"
    cases = [*tiny_cases(2), tiny_opinion(2)]
    before = fill(first, editor, llama, cases)
    expected = fill(never, editor, llama, cases[1:])
    with open_writer(first) as writer:
        writer.undo(["1"])
    kept = Store(first)
    assert [entry.solved for entry in kept.entries.values()] == [False, False, True]
    after = solve_entries(kept, llama, editor, kept.in_force)
    assert after.a.keys() == expected.a.keys()
    for name in after.a:
        torch.testing.assert_close(after.dense(name), expected.dense(name), rtol=1e-4, atol=1e-6)
    gap = max(float((before.dense(name) - after.dense(name)).abs().max()) for name in after.a)
    assert gap > 1e-3


def test_without_neurons_facts_are_rows(llama: Backbone, editor: InstructedEditor) -> None:
    assert start_patches(llama, EditorConfig(together=STEPS)) is None
    plain: Patches = {}
    assert read_edit(made(llama, each=0), llama, tiny_case(0), WORDS[0]).patches == plain
