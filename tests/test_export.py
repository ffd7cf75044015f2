"""An exported edit answers like the edit: as a LoRA folder through peft, and merged into the model."""

import json
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import PeftModel

from instructedit.backbone import Backbone
from instructedit.backbone.loading import load_backbone
from instructedit.delta import LowRankDelta
from instructedit.errors import ModelError, OutputError
from instructedit.export import check, lora, save_lora, save_merged
from instructedit.types import EditCase
from tiny_models import tiny_backbone, tiny_model

TEXT = "The capital of France is Rome."
CASE = EditCase(prompt="The capital of France is", target_new="Rome | Roma", subject="France")


def random_delta(backbone: Backbone, edits: int = 1, rank: int = 3, seed: int = 0) -> LowRankDelta:
    """A delta large enough to change every logit visibly."""
    generator = torch.Generator().manual_seed(seed)
    a = {s.name: torch.randn(edits, rank, s.d_in, generator=generator) * 0.2 for s in backbone.sites}
    b = {s.name: torch.randn(edits, s.d_out, rank, generator=generator) * 0.2 for s in backbone.sites}
    return LowRankDelta(a, b)


def logits_of(model, backbone: Backbone) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=backbone.pad([backbone.text(TEXT).ids])).logits


def edited_logits(delta: LowRankDelta, backbone: Backbone) -> torch.Tensor:
    with delta.merge().applied_to(backbone.model):
        return logits_of(backbone.model, backbone)


def weights(backbone: Backbone) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}


@pytest.mark.slow
def test_a_lora_folder_answers_like_the_edit_in_a_fresh_model(family, backbone, tmp_path):
    delta = random_delta(backbone, edits=2)
    report = save_lora(delta, tmp_path / "lora", backbone, energy=1.0, cases=[CASE])
    fresh = PeftModel.from_pretrained(tiny_model(family), str(tmp_path / "lora"))
    expected, plain = edited_logits(delta, backbone), logits_of(backbone.model, backbone)
    torch.testing.assert_close(logits_of(fresh, backbone), expected, atol=2e-4, rtol=1e-3)
    assert (expected - plain).abs().max() > 0.1, (
        "the delta must change something for this test to mean anything"
    )
    assert report.difference < 1e-3
    assert report.checks == ("peft", "transformers' load_adapter")
    assert report.energy > 0.9999
    assert set(report.ranks) == {site.name for site in backbone.sites}
    assert max(report.ranks.values()) <= 6


@pytest.mark.slow
def test_a_lora_export_leaves_the_backbone_as_it_was(backbone, tmp_path):
    before, plain = weights(backbone), logits_of(backbone.model, backbone)
    modules, attributes = dict(backbone.model.named_modules()), dict(vars(backbone.model))
    save_lora(random_delta(backbone), tmp_path / "lora", backbone)
    assert vars(backbone.model) == attributes
    after = backbone.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert dict(backbone.model.named_modules()) == modules
    assert not any(p.requires_grad for p in backbone.model.parameters())
    assert torch.equal(plain, logits_of(backbone.model, backbone))


@pytest.mark.slow
def test_a_merged_model_answers_like_the_edit_and_the_base_stays(backbone, tmp_path):
    delta, before = random_delta(backbone, edits=2), weights(backbone)
    report = save_merged(delta, tmp_path / "merged", backbone, cases=[CASE])
    loaded = load_backbone(str(tmp_path / "merged"), start="none")
    expected = edited_logits(delta, backbone)
    torch.testing.assert_close(logits_of(loaded.model, backbone), expected, atol=2e-4, rtol=1e-3)
    assert report.difference < 1e-3
    assert loaded.checksum != backbone.checksum
    assert loaded.tokenizer.get_vocab() == backbone.tokenizer.get_vocab()
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.model.state_dict().items())


def test_every_site_keeps_its_own_rank_at_scale_one(llama, tmp_path):
    sites = [site.name for site in llama.sites]
    delta = random_delta(llama, rank=5)
    for index, name in enumerate(sites):  # site i has true rank 1 + i % 5, hidden in five rows
        delta.b[name][..., 1 + index % 5 :] = 0
    report = save_lora(delta, tmp_path / "lora", llama, energy=1 - 1e-6)
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert [report.ranks[name] for name in sites] == [1 + index % 5 for index in range(len(sites))]
    assert config["rank_pattern"] == config["alpha_pattern"] == dict(report.ranks)
    assert sorted(config["target_modules"]) == sorted(sites)
    assert config["fan_in_fan_out"] is False


def test_gpt2_is_marked_as_transposed(tmp_path):
    backbone = tiny_backbone("gpt2")
    save_lora(random_delta(backbone), tmp_path / "lora", backbone)
    assert json.loads((tmp_path / "lora" / "adapter_config.json").read_text())["fan_in_fan_out"] is True


def test_the_cut_of_ranks_is_reported_and_checked_against_what_is_stored(llama, tmp_path):
    delta = random_delta(llama, rank=6)
    report = save_lora(delta, tmp_path / "lora", llama, rank=2)
    assert set(report.ranks.values()) == {2}
    assert report.energy < 0.9
    assert report.approximation > 100 * report.difference


@pytest.mark.slow
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.integers(1, 3), rank=st.integers(1, 4), seed=st.integers(0, 99))
def test_export_of_many_edits_is_export_of_their_sum(edits, rank, seed, llama, tmp_path):
    delta = random_delta(llama, edits, rank, seed)
    save_lora(delta, tmp_path / "lora", llama, energy=1.0, force=True)
    name = llama.sites[0].name
    tensors, _ = lora_tensors(tmp_path / "lora")
    stored = (
        tensors[f"base_model.model.{name}.lora_B.weight"] @ tensors[f"base_model.model.{name}.lora_A.weight"]
    )
    torch.testing.assert_close(stored, delta.dense(name).sum(0), atol=1e-4, rtol=1e-3)


def lora_tensors(folder):
    from instructedit.storage import load_tensors

    return load_tensors(folder / "adapter_model.safetensors")


@pytest.mark.slow
def test_a_delta_of_nothing_exports(llama, tmp_path):
    delta = random_delta(llama).scale(0.0)
    assert save_lora(delta, tmp_path / "lora", llama).approximation == 0
    assert save_merged(delta, tmp_path / "merged", llama).difference < 1e-5


@pytest.mark.slow
def test_bfloat16_models_export(tmp_path):
    tiny_model("qwen3").save_pretrained(tmp_path / "base")
    tiny_backbone("qwen3").tokenizer.save_pretrained(tmp_path / "base")
    backbone = load_backbone(str(tmp_path / "base"), dtype="bfloat16")
    delta = random_delta(backbone)
    save_lora(delta, tmp_path / "lora", backbone)
    save_merged(delta, tmp_path / "merged", backbone)
    assert load_backbone(str(tmp_path / "merged"), dtype="auto").dtype == torch.bfloat16


def test_the_record_names_the_edits_and_the_base(llama, tmp_path):
    save_lora(random_delta(llama), tmp_path / "lora", llama, cases=[CASE])
    record = json.loads((tmp_path / "lora" / "instructedit.json").read_text())
    assert record["base_checksum"] == llama.checksum
    assert record["edits"][0]["target_new"] == "Rome | Roma"
    readme = (tmp_path / "lora" / "README.md").read_text()
    assert "PeftModel" in readme
    assert "Rome \\| Roma" in readme


@pytest.mark.slow
@pytest.mark.parametrize("save", [save_lora, save_merged])
def test_an_existing_folder_is_kept_unless_forced(save, llama, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        save(random_delta(llama), folder, llama)
    assert (folder / "mine.txt").read_text() == "mine"
    save(random_delta(llama), folder, llama, force=True)
    assert not (folder / "mine.txt").exists()


def test_a_lora_folder_that_answers_otherwise_is_not_kept(llama, tmp_path, monkeypatch):
    good = lora._tensors
    monkeypatch.setattr(lora, "_tensors", lambda delta: good(delta.scale(1.01)))
    with pytest.raises(ModelError, match="the LoRA folder was loaded back and its update of"):
        save_lora(random_delta(llama), tmp_path / "lora", llama)
    assert list(tmp_path.iterdir()) == []


def test_a_merged_model_that_answers_otherwise_is_not_kept(llama, tmp_path, monkeypatch):
    monkeypatch.setattr("instructedit.export.merged._merged_weights", lambda _d, b: b.model.state_dict())
    with pytest.raises(ModelError, match="the merged model was loaded back"):
        save_merged(random_delta(llama), tmp_path / "merged", llama)
    assert list(tmp_path.iterdir()) == []


def test_peft_unwraps_even_when_the_check_breaks(llama, tmp_path, monkeypatch):
    modules = dict(llama.model.named_modules())

    def broken(*_args):
        raise RuntimeError("out of memory")

    delta = random_delta(llama)
    monkeypatch.setattr(lora, "text_logits", broken)
    with pytest.raises(RuntimeError):
        save_lora(delta, tmp_path / "lora", llama)
    assert dict(llama.model.named_modules()) == modules
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 1])
def test_not_a_number_never_agrees(broken, place):
    good, bad = [torch.ones(2, 3), torch.ones(2, 3)], [torch.ones(2, 3), torch.ones(2, 3)]
    bad[place][1, 2] = broken
    assert not check.largest_difference(good, bad) <= 1.0
    for expected, found, whose in (
        (good, bad, "it"),
        (bad, good, "the edited model"),
        (bad, bad, "the edited"),
    ):
        with pytest.raises(ModelError, match=f"{whose}.* not finite"):
            check.check_agreement(expected, found, torch.float32, "it")
    assert check.check_agreement(good, good, torch.float32, "it") == 0


def test_without_peft_the_error_says_how_to_get_it(llama, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(OutputError, match=r"pip install 'instructedit\[export\]'"):
        save_lora(random_delta(llama), tmp_path / "lora", llama)
    assert list(tmp_path.iterdir()) == []


def test_quantised_weights_cannot_be_merged(tmp_path):
    backbone = tiny_backbone("llama")
    delta = random_delta(backbone)
    module = backbone.model.get_submodule(backbone.sites[0].name)
    module.weight = torch.nn.Parameter(module.weight.to(torch.int8), requires_grad=False)
    from instructedit.export.merged import _merged_weights

    with pytest.raises(ModelError, match="is quantised"):
        _merged_weights(delta, backbone)


def test_empty_fields_are_left_out_of_the_record(llama, tmp_path):
    save_lora(random_delta(llama), tmp_path / "lora", llama, cases=[replace(CASE, subject="")])
    edit = json.loads((tmp_path / "lora" / "instructedit.json").read_text())["edits"][0]
    assert "subject" not in edit
    assert edit["kind"] == "change"


def test_a_folder_that_only_load_adapter_reads_otherwise_is_not_kept(llama, tmp_path, monkeypatch):
    good = lora.text_logits

    def shifted(model, backbone, texts):
        return [x + (model is backbone.model) for x in good(model, backbone, texts)]

    monkeypatch.setattr(lora, "text_logits", shifted)
    with pytest.raises(ModelError, match="the LoRA folder was loaded back and its logits differ"):
        save_lora(random_delta(llama), tmp_path / "lora", llama)
    assert list(tmp_path.iterdir()) == []
    assert not llama.model._hf_peft_config_loaded


@pytest.mark.slow
def test_two_folders_are_swapped_by_load_adapter(llama, tmp_path):
    """What the docs tell a server to do: load both, choose one at a time, and none."""
    deltas = [random_delta(llama, seed=seed) for seed in (1, 2)]
    model, plain = tiny_model("llama"), logits_of(llama.model, llama)
    for number, delta in enumerate(deltas):
        save_lora(delta, tmp_path / str(number), llama)
        model.load_adapter(str(tmp_path / str(number)), adapter_name=f"edit{number}")
    for number, delta in enumerate(deltas):
        model.set_adapter(f"edit{number}")
        torch.testing.assert_close(logits_of(model, llama), edited_logits(delta, llama), atol=2e-4, rtol=1e-3)
    model.disable_adapters()
    torch.testing.assert_close(logits_of(model, llama), plain)
