"""Only texts in which neurons open are asked, and only from there: nothing else can be moved."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from instructedit.backbone import Backbone, Text
from instructedit.delta import LowRankDelta
from instructedit.editors import opened
from instructedit.editors.drill import Drill, Practice, encode_drill
from instructedit.editors.many import EditSequence
from instructedit.editors.opened import drop_unheard, prepare_opened
from instructedit.types import EditCase
from test_gates import levelled
from test_subject_gates import hear, made, writer_of
from tiny_editors import tiny_cases

LEAST = 1e-3


@pytest.fixture(scope="module")
def llama() -> Backbone:
    return levelled("llama")


class Opened:
    """Neurons of one fact in the model, which write something, and the practice that they were opened for."""

    def __init__(self, own: Backbone) -> None:
        writer = writer_of(EditSequence(made(own, each=1, sites=2), own))
        case: EditCase = tiny_cases(1)[0]
        self.backbone = writer.backbone
        self.shut, page = writer._open([case], hear(writer, [case], LowRankDelta({}, {})))
        self.reads: Mapping[str, torch.Tensor] = page.reads
        self.least = LEAST * writer.passed
        loud = {name: rows[None] for name, rows in page.reads.items()}
        noise = torch.Generator().manual_seed(0)
        wide = {name: torch.randn(1, own.width, len(rows[0]), generator=noise) for name, rows in loud.items()}
        self.change = self.shut + LowRankDelta(loud, wide)
        subject = case.subject or ""
        fit = (self.text(f"I think {subject} is", "Rome"), self.text(f"London is not {subject}", "Paris"))
        keep = (self.text(f"The city that {subject} is", "in"), self.text("I think that is", "Rome is bad"))
        self.practice = Practice(fit, (*keep, self.text("I think that is", f"of {subject}")))

    def text(self, prompt: str, answer: str) -> Text:
        return self.backbone.text(prompt, answer)

    def prepare(self, under: LowRankDelta | None = None) -> Drill:
        return prepare_opened(self.backbone, self.practice, self.reads, self.least, under or self.shut)

    def ask(self, drill: Drill, place: int, change: LowRankDelta) -> torch.Tensor:
        with torch.no_grad(), change.applied_to(self.backbone.model):
            return drill.answers(self.backbone, [place])[0]


@pytest.mark.slow
def test_what_is_asked_from_where_neurons_open_is_answered_as_the_whole_text(llama: Backbone) -> None:
    made = Opened(llama)
    drill, whole = made.prepare(), encode_drill(made.backbone, made.practice)
    assert {0, 1, 2} <= set(drill.states)
    shorter = [place for place in drill.states if len(drill.texts[place].ids) < len(whole.texts[place].ids)]
    assert {0, 2} <= set(shorter)
    for place in drill.states:
        found, expected = (made.ask(one, place, made.change) for one in (drill, whole))
        torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
        assert not torch.allclose(expected, made.ask(whole, place, made.shut), atol=0.1)


def test_texts_that_are_left_out_cannot_be_moved(llama: Backbone) -> None:
    made = Opened(llama)
    drill, whole = made.prepare(), encode_drill(made.backbone, made.practice)
    left = set(whole.states) - set(drill.states)
    assert left
    for place in left:
        before, after = (made.ask(whole, place, change) for change in (made.shut, made.change))
        torch.testing.assert_close(after, before, rtol=0.02, atol=0.02)


def test_what_is_left_alone_is_compared_with_the_model_as_edited_so_far(llama: Backbone) -> None:
    made = Opened(llama)
    whole = encode_drill(made.backbone, made.practice)
    for earlier in (made.shut, made.change):
        drill = made.prepare(earlier)
        assert set(drill.before) == {place for place in drill.states if place >= drill.fits}
        for place, before in drill.before.items():
            torch.testing.assert_close(before, made.ask(whole, place, earlier), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("why", ["room", "model"])
def test_texts_are_run_whole_where_nothing_can_be_kept_of_them(
    llama: Backbone, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    made = Opened(llama)
    known = made.prepare()
    if why == "room":
        monkeypatch.setattr(opened, "ROOM", 0)
    else:
        monkeypatch.setattr(opened, "goes_on", lambda _: False)
    drill = made.prepare()
    assert set(drill.states) == set(known.states)
    assert not drill.pasts
    for place in drill.states:
        found, expected = (made.ask(one, place, made.change) for one in (drill, known))
        torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)


def test_only_texts_to_be_left_alone_that_can_be_moved_are_drawn_from(llama: Backbone) -> None:
    made = Opened(llama)
    fit, keep = made.practice.fit, made.practice.keep
    alone, other = replace(made.practice, keep=keep[1:]), Practice(fit[:1], ())
    whole = made.prepare()
    moved = tuple(text for place, text in enumerate(keep, len(fit)) if place in whole.states)
    assert 0 < len(moved) < len(keep)
    found = drop_unheard(made.backbone, [made.practice, alone, other], made.reads, made.least, made.shut)
    expected = [replace(one, keep=tuple(t for t in one.keep if t in moved)) for one in (made.practice, alone)]
    assert found == [*expected, other]
