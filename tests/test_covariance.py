"""Moments of ordinary text, measured once; where in its texts and in the model an edit acts."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.backbone.sites import find_sites
from instructedit.editors import covariance, ordinary
from instructedit.editors.covariance import covariances
from instructedit.editors.location import last_of, locate, output_projections
from instructedit.editors.ordinary import ordinary_texts, plain_passages, plain_sentences
from instructedit.editors.registry import find_method, load_for_method, make_method
from instructedit.errors import DataError, ModelError
from tiny_editors import tiny_case, tiny_cases, tiny_opinion
from tiny_models import tiny_backbone

LINES = (
    "The book was written by a writer who lived in London.",
    "I think Rome is good. I think Madrid is bad.",
    "too short",
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("INSTRUCTEDIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "covariance"


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "ordinary.txt"
    path.write_text("\n".join(LINES))
    return str(path)


@pytest.fixture(params=["llama", "gpt2"], scope="module")
def model(request: pytest.FixtureRequest) -> Backbone:
    return tiny_backbone(request.param, blocks=2)


def test_the_covariance_is_that_of_the_whole_model(model: Backbone, text: str) -> None:
    site = output_projections(model)[-1]
    rows: list[torch.Tensor] = []
    hook = model.modules[site.name].register_forward_hook(lambda _m, args, _o: rows.append(args[0][0, 1:]))
    try:
        for line in LINES[:2]:
            model.model(torch.tensor([model.text(line).ids]))
    finally:
        hook.remove()
    stacked = torch.cat(rows)
    found = covariances(model, [site.name], text)[site.name]
    torch.testing.assert_close(found, stacked.T @ stacked / len(stacked), rtol=1e-3, atol=1e-5)


def test_a_covariance_is_measured_once(
    model: Backbone, text: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [site.name for site in output_projections(model)]
    first = covariances(model, names[:1], text)
    calls: list[Sequence[str]] = []
    measure = covariance.second_moments

    def count(*args, names: Sequence[str]):
        calls.append(names)
        return measure(*args, names=names)

    monkeypatch.setattr(covariance, "second_moments", count)
    both = covariances(model, names, text)
    assert calls == [names[1:]]
    assert torch.equal(both[names[0]], first[names[0]])
    assert len(list(cache.iterdir())) == 2
    for path in cache.iterdir():
        path.write_bytes(path.read_bytes()[:100])  # cut short
    assert torch.allclose(covariances(model, names, text)[names[1]], both[names[1]])
    Path(text).write_text(LINES[0])
    covariances(model, names, text)
    assert calls == [names[1:], names, names]


def test_ordinary_text_is_read_from_lines_and_records(
    llama: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, records = tmp_path / "a.txt", tmp_path / "b.jsonl"
    plain.write_text("short line\n" + "word " * 70)
    assert len(ordinary_texts(llama, str(plain))) == 3
    records.write_text(
        '\ufeff{"question": "who wrote the book", "answer": ["a writer"]}\n\n'
        '{"text": "one two three\u2028four five"}\n',
        encoding="utf-8",
    )
    read = [llama.tokenizer.decode(text.ids[1:]) for text in ordinary_texts(llama, str(records))]
    assert read == ["who wrote the book a writer", "one two three four five"]
    monkeypatch.setattr(ordinary, "plain_facts", lambda split: tiny_cases(3))
    monkeypatch.setattr(ordinary, "plain_sentences", plain_sentences.__wrapped__)  # none that are kept
    assert len(plain_passages()) > 800
    monkeypatch.setattr(ordinary, "plain_passages", lambda: ("The book was written by a writer",))
    said = [llama.tokenizer.decode(text.ids[1:]) for text in ordinary_texts(llama)]
    assert len(said) == 7
    assert {"The capital of France is Madrid", "People in France speak French"} < set(said)
    monkeypatch.setattr(ordinary, "TEXTS", 2)
    assert len(ordinary_texts(llama)) == 2
    records.write_text("{}")
    with pytest.raises(DataError, match="line 1"):
        ordinary_texts(llama, str(records))
    plain.write_text("nothing")
    with pytest.raises(DataError, match="no passage"):
        ordinary_texts(llama, str(plain))


def test_the_place_is_the_subjects_last_token(llama: Backbone) -> None:
    for prompt, subject, said in (
        ("The capital of France is", "France", "The capital of France"),
        ("Paris, and Paris is", "Paris", "Paris, and Paris"),
        ("I think that it is", "", "I think that it is"),
        ("I think that it is", "Madrid", "I think that it is"),
    ):
        ids = llama.text(prompt, "Rome").ids
        place = last_of(llama, prompt, subject, ids)
        assert llama.tokenizer.decode(ids[1 : place + 1]) == said
    ids = llama.text("Parisian people", "").ids
    merged = last_of(llama, "Parisian people", "Pari", ids)
    assert llama.tokenizer.decode(ids[1 : merged + 1]).startswith("Pari")


def test_contexts_share_a_subject_and_batch(llama: Backbone) -> None:
    located = locate(llama, [tiny_case(0), tiny_opinion(1)], 3)
    assert located.requests == 6
    assert located.owner.tolist() == [0, 0, 0, 1, 1, 1, 0, 1]
    for place, text, owner in zip(located.places, located.texts, located.owner, strict=True):
        said = llama.tokenizer.decode(text.ids[1 : int(place) + 1])
        assert said.endswith(("France", "Italy")[int(owner)])
    assert located.texts[0] == llama.text(tiny_case(0).prompt, "Rome")


def test_methods_edit_their_blocks(folder: Path) -> None:
    for name, settings_, blocks in (
        ("rome", {}, {1}),
        ("memit", {"layers": 2}, {0, 1}),
        ("alphaedit", {}, {0, 1}),
    ):
        backbone, editor = load_for_method(name, settings_, model=str(folder), start="none")
        assert {site.block for site in backbone.sites} == blocks
        assert isinstance(editor, find_method(name))
    for bad in ({"contexts": 0}, {"steps": 0}):
        with pytest.raises(DataError):
            make_method("rome", bad)
    sites = find_sites(backbone.model, "*.1.mlp.up_proj")
    narrow = Backbone(backbone.model, backbone.tokenizer, sites)
    with pytest.raises(ModelError, match="output projection"):
        output_projections(narrow)
