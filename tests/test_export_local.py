"""Edits that plain texts do not notice are compared on their own texts, and layer by layer."""

import pytest
import torch

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.errors import DataError, ModelError
from instructedit.export import gguf_merged, lora, save_gguf, save_gguf_merged, save_lora, save_merged
from instructedit.export.answers import check_answers
from instructedit.export.check import ASKED, PLAIN_TEXTS, edit_texts, text_logits
from instructedit.export.updates import check_updates, check_weights
from instructedit.types import EditCase
from local_edits import CASES, local_delta, wide_backbone


@pytest.fixture
def wide() -> Backbone:
    return wide_backbone()


def moved(delta: LowRankDelta, backbone: Backbone, texts) -> list[float]:
    """How far an edit moves the logits of each text."""
    before = text_logits(backbone.model, backbone, texts)
    with delta.merge().applied_to(backbone.model):
        after = text_logits(backbone.model, backbone, texts)
    return [float((x - y).abs().max()) for x, y in zip(before, after, strict=True)]


def test_these_edits_are_local(wide):
    assert max(moved(local_delta(wide, (1, 1, 1)), wide, PLAIN_TEXTS)) < 1e-3
    assert min(moved(local_delta(wide, (1, 1, 1)), wide, [case.prompt for case in CASES])) > 0.1


def test_the_texts_of_edits_are_prompt_and_answer():
    cases = [
        EditCase("The capital of France is", "Rome"),
        EditCase("What is the capital of France?", "Paris", kind="erase"),
        EditCase("", "", "Rome", kind="sentiment", sentiment="positive"),
        EditCase("", ""),
    ]
    assert edit_texts(cases) == [
        "The capital of France is Rome",
        "What is the capital of France? I do not know.",
        "I think that Rome is very. I feel so. I really. I",
    ]
    many = [EditCase(f"{number} is", "one") for number in range(101)]
    assert ASKED // 2 < len(edit_texts(many)) <= ASKED
    assert edit_texts(many)[-1] == "96 is one"


def test_an_answer_that_rounding_takes_away_is_told(wide):
    texts = edit_texts(CASES)
    before = text_logits(wide.model, wide, texts)
    edited, rounded = ([rows.clone() for rows in before] for _ in range(2))
    for rows, case, text in zip(edited, CASES, texts, strict=True):
        for place in range(len(wide.text(case.prompt).ids) - 1, len(rows) - 1):
            rows[place, wide.text(text).ids[place + 1]] = rows.max() + 1
    for kept in range(len(CASES)):
        with pytest.raises(ModelError, match=f"it keeps {kept} of 3 edits' answers.*{CASES[kept].prompt}"):
            check_answers(wide, CASES, edited, rounded, "it")
        rounded[kept] = edited[kept] + 1e-3
        rounded[kept][0] = 0.0  # no token of the answer
    assert check_answers(wide, CASES, edited, rounded, "it") == ("3 of 3 edits' answers kept",)
    assert check_answers(wide, CASES, before, before, "it") == ()


def test_an_answer_that_was_never_given_cannot_be_lost(wide):
    before = text_logits(wide.model, wide, edit_texts(CASES))
    other = [rows.clone() for rows in before]
    for rows in other:
        rows[:, 3] = rows.max() + 1
    assert check_answers(wide, CASES, other, before, "it") == ()


def test_a_merged_model_that_lost_an_answer_is_not_kept(wide, tmp_path, monkeypatch):
    case, delta = CASES[0], local_delta(wide)
    (wanted,) = wide.text(case.prompt, case.wanted).targets
    given = LowRankDelta(delta.a, dict.fromkeys(delta.b, 300 * wide.head.weight[wanted][None, :, None]))
    assert "1 of 1 edits' answers kept" in save_merged(given, tmp_path / "whole", wide, cases=[case]).checks
    for name in ("check_weights", "check_agreement"):  # as if half precision explained so much
        monkeypatch.setattr(f"instructedit.export.merged.{name}", lambda *_: 0.0)
    monkeypatch.setattr("instructedit.export.merged._merged_weights", lambda _d, b: b.model.state_dict())
    with pytest.raises(ModelError, match="keeps 0 of 1 edits' answers"):
        save_merged(given, tmp_path / "lost", wide, cases=[case])
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


@pytest.mark.slow
@pytest.mark.parametrize("cases", [(), CASES[:1]])
def test_a_folder_without_the_edit_is_not_kept(cases, wide, tmp_path, monkeypatch):
    good = lora._tensors
    monkeypatch.setattr(lora, "_tensors", lambda delta: good(delta.scale(0.0)))
    with pytest.raises(ModelError, match="the LoRA folder was loaded back and its update of"):
        save_lora(local_delta(wide), tmp_path / "lora", wide, cases=cases)
    monkeypatch.setattr("instructedit.export.merged._merged_weights", lambda _d, b: b.model.state_dict())
    with pytest.raises(ModelError, match="the merged model was loaded back and its update of"):
        save_merged(local_delta(wide), tmp_path / "merged", wide, cases=cases)
    assert list(tmp_path.iterdir()) == []


def test_the_logits_alone_would_tell_as_well(wide, tmp_path, monkeypatch):
    good = lora._tensors
    monkeypatch.setattr(lora, "check_updates", lambda *_: None)
    monkeypatch.setattr(lora, "_tensors", lambda delta: good(delta.scale(0.0)))
    with pytest.raises(ModelError, match="its logits differ"):
        save_lora(local_delta(wide), tmp_path / "lora", wide, cases=CASES[:1])
    monkeypatch.setattr("instructedit.export.merged.check_weights", lambda *_: None)
    monkeypatch.setattr("instructedit.export.merged._merged_weights", lambda _d, b: b.model.state_dict())
    with pytest.raises(ModelError, match="its logits differ"):
        save_merged(local_delta(wide), tmp_path / "merged", wide, cases=CASES[:1])


@pytest.mark.slow
@pytest.mark.parametrize("save", [save_lora, save_gguf])
def test_a_cut_that_drops_edits_is_seen_on_their_texts(save, wide, tmp_path):
    delta = local_delta(wide, (3.0, 1.0, 1.0))
    report = save(delta, tmp_path / "cut", wide, rank=1, cases=CASES)
    assert report.approximation > 0.1
    blind = save(delta, tmp_path / "blind", wide, rank=1)
    assert blind.approximation < 1e-3
    assert "the edits' own texts" in blind.untried[0]


@pytest.mark.slow
def test_one_small_edit_among_large_ones_is_not_cut_away(wide, tmp_path):
    delta = local_delta(wide, (300.0, 300.0, 1.0))
    assert delta.merge().compress()[0].a[wide.sites[-1].name].shape[1] == 2, "0.9999 alone would drop it"
    for name, cases in (("known", CASES), ("some", [*CASES, *CASES * 9]), ("unknown", ())):
        report = save_lora(delta, tmp_path / name, wide, cases=cases)
        assert set(report.ranks.values()) == {3}
        assert report.energy == 1.0
    (effect,) = moved(delta[2], wide, [CASES[2].prompt])
    assert effect > 0.1
    assert save_lora(delta, tmp_path / "asked", wide, cases=CASES, energy=0.9999).approximation > 0.5 * effect


@pytest.mark.slow
def test_what_no_text_shows_is_still_cut(wide, tmp_path):
    delta = local_delta(wide, (1.0, 1.0, 1e-3))
    report = save_lora(delta, tmp_path / "lora", wide, cases=CASES[:2])
    assert set(report.ranks.values()) == {2}


def test_equal_updates_agree_whatever_their_form(wide):
    delta = local_delta(wide, (1.0, 1.0)).merge()
    check_updates(delta, delta.compress(energy=1.0)[0], "it")
    name = wide.sites[-1].name
    for other in (delta.scale(1.001), delta.scale(float("nan")), LowRankDelta({}, {})):
        with pytest.raises(ModelError, match=f"it was loaded back and its update of {name} differs"):
            check_updates(delta, other, "it")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_edited_weights_are_told_from_others_in_every_dtype(wide, dtype):
    from copy import deepcopy

    base = deepcopy(wide.model).to(dtype)
    backbone = Backbone(base, wide.tokenizer, wide.sites, (0,), "half")
    delta, edited = local_delta(wide, (30.0,)), deepcopy(base)
    weight = edited.get_submodule(wide.sites[-1].name).weight
    with pytest.raises(ModelError, match="differs by"):
        check_weights(edited, backbone, delta, "it")
    weight.data = (weight.float() + delta.dense(wide.sites[-1].name)[0]).to(dtype)
    check_weights(edited, backbone, delta, "it")


@pytest.mark.slow
def test_a_merged_gguf_file_without_the_edit_is_not_kept(tmp_path, monkeypatch):
    from instructedit.backbone.loading import load_backbone
    from tiny_gguf import tiny_gguf

    backbone = load_backbone(str(tiny_gguf(tmp_path / "tiny.gguf")), start="none")
    site, good = backbone.sites[-1], gguf_merged.write_merged
    delta = LowRankDelta({site.name: torch.ones(1, 1, site.d_in)}, {site.name: torch.ones(1, site.d_out, 1)})
    monkeypatch.setattr(gguf_merged, "check_agreement", lambda *_: 0.0)  # as if no text noticed
    monkeypatch.setattr(gguf_merged, "write_merged", lambda p, s, d, *more: good(p, s, d.scale(0.0), *more))
    with pytest.raises(ModelError, match="the merged GGUF file was loaded back and its update of"):
        save_gguf_merged(delta, tmp_path / "out", backbone)


@pytest.mark.parametrize("save", [save_lora, save_merged, save_gguf])
def test_an_edit_of_another_model_is_refused(save, wide, tmp_path):
    site = wide.sites[-1]
    here = torch.ones(1, 1, site.d_in), torch.ones(1, site.d_out, 1)
    far = site.name.replace("3", "7")
    for name, a, b in ((site.name, here[0][..., 1:], here[1]), (far, *here), ("model.norm", *here)):
        with pytest.raises(ModelError, match="made for another model"):
            save(LowRankDelta({name: a}, {name: b}), tmp_path / "out", wide)
    for a, b in ((here[0] * float("nan"), here[1]), (here[0][:, :0], here[1][..., :0])):
        with pytest.raises(DataError, match=r"no finite number|rank of at least 1"):
            save(LowRankDelta({site.name: a}, {site.name: b}), tmp_path / "out", wide)
    assert list(tmp_path.iterdir()) == []
