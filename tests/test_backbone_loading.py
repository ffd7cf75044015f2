"""A model is loaded by what the user typed, frozen, with a checksum; what cannot be loaded says why."""

import json
import logging

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel, T5Config, T5ForConditionalGeneration
from transformers.utils import logging as transformers_logging

from instructedit.backbone.checksum import weights_checksum
from instructedit.backbone.loading import load_backbone, resolve
from instructedit.backbone.quiet import quiet
from instructedit.backbone.sites import find_sites
from instructedit.errors import ModelError
from tiny_gguf import tiny_gguf
from tiny_models import START, tiny_folder, tiny_model, tiny_tokenizer

IDS = torch.arange(2, 12)[None]


@pytest.mark.slow
def test_a_folder_of_every_family_loads_frozen(family, tmp_path, capfd):
    tiny_folder(tmp_path, family)
    capfd.readouterr()
    backbone = load_backbone(str(tmp_path), blocks=2)
    assert capfd.readouterr() == ("", ""), "loading must not write to the terminal"
    assert backbone.sites == find_sites(tiny_model(family), blocks=2)
    assert backbone.first_block == 2
    assert not backbone.model.training
    assert not any(p.requires_grad for p in backbone.model.parameters())
    torch.testing.assert_close(backbone.model(IDS).logits, tiny_model(family)(IDS).logits)


@pytest.mark.slow
def test_a_gguf_file_of_another_family_loads(tmp_path, capfd):
    path = tiny_gguf(tmp_path / "tiny.gguf")
    capfd.readouterr()
    backbone = load_backbone(str(path), sites="*.down_proj", start=START)
    assert capfd.readouterr() == ("", "")
    model = tiny_model("qwen2")
    torch.testing.assert_close(backbone.model(IDS).logits, model(IDS).logits)
    assert backbone.checksum == weights_checksum(model)
    assert backbone.tokenizer("Paris is").input_ids == tiny_tokenizer()("Paris is").input_ids
    assert backbone.start_ids == (0,)
    assert len(backbone.sites) == 4


@pytest.mark.slow
def test_the_checksum_is_the_same_in_bfloat16_and_after_saving(family, tmp_path):
    model = tiny_model(family)
    tiny_folder(tmp_path / "a", family)
    loaded = load_backbone(str(tmp_path / "a"), dtype="bfloat16")
    assert loaded.dtype == torch.bfloat16
    assert loaded.checksum == weights_checksum(model)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_checksum_tells_models_apart(family):
    model = tiny_model(family)
    sums = {weights_checksum(model), weights_checksum(tiny_model(family, seed=1))}
    for parameter in list(model.parameters()):
        parameter.flatten()[0] += 1.0
        sums.add(weights_checksum(model))
    assert len(sums) == 2 + len(list(model.parameters()))


def test_equal_weights_of_another_family_have_another_checksum():
    models = [tiny_model(f, sliding_window=None) for f in ("llama", "mistral")]
    assert len({weights_checksum(model) for model in models}) == 2


def test_a_big_tensor_is_sampled_in_every_column():
    class Wide(torch.nn.Module):
        config = tiny_model("llama").config

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(512, 1024), requires_grad=False)

    model = Wide()
    sums = {weights_checksum(model)}
    for column in range(0, 1024, 97):
        model.weight[:, column] = 1.0
        sums.add(weights_checksum(model))
    assert len(sums) == 12


@pytest.mark.parametrize("name", ["./nothing", "/no/such/folder", "nothing.gguf", "a/b/c", "two words", ""])
def test_nothing_there(name):
    with pytest.raises(ModelError, match="no model at"):
        load_backbone(name)


def test_a_hub_id_is_told_from_a_path(tmp_path, monkeypatch):
    assert resolve("Qwen/Qwen2.5-0.5B") == "Qwen/Qwen2.5-0.5B"
    assert resolve("gpt2") == "gpt2"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2").mkdir()
    assert resolve("gpt2").is_dir()


def test_a_hub_id_without_a_network():
    with pytest.raises(ModelError, match=r"cannot fetch 'nobody/nothing' from the hub.*local folder"):
        load_backbone("nobody/nothing")


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_backbone(str(tmp_path))


def test_a_config_that_is_no_json(tmp_path):
    tiny_folder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"cannot read .*config\.json"):
        load_backbone(str(tmp_path))


def test_weights_cut_short(tmp_path):
    tiny_folder(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="cannot load"):
        load_backbone(str(tmp_path))


def test_no_weights(tmp_path):
    tiny_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot load"):
        load_backbone(str(tmp_path))


def test_missing_weights_are_not_made_up(tmp_path):
    from safetensors.torch import load_file, save_file

    tiny_folder(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.2.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ModelError, match=r"1 weights are missing, the first is model\.layers\.2\.mlp\.up_proj"
    ):
        load_backbone(str(tmp_path))


def test_no_tokenizer(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="tokenizer"):
        load_backbone(str(tmp_path))


def test_a_tokenizer_of_another_model(tmp_path):
    tiny_model("llama", vocab_size=300).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="a tokenizer that belongs to the model"):
        load_backbone(str(tmp_path))


@pytest.mark.slow
def test_an_encoder_with_a_decoder_is_refused(tmp_path):
    config = T5Config(d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=2, vocab_size=400)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"is not a causal language model \(T5Config\)"):
        load_backbone(str(tmp_path))


def test_a_model_that_looks_ahead_is_refused(tmp_path):
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(**sizes, vocab_size=400, initializer_range=0.5)
    BertLMHeadModel(config).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="its tokens see the text behind them"):
        load_backbone(str(tmp_path), blocks=1)


@pytest.mark.parametrize("content", [b"", b"GG", b"not a model at all", b"GGUF", b"GGUF" + bytes(64)])
def test_a_broken_gguf_file(content, tmp_path):
    path = tmp_path / "broken.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.gguf"):
        load_backbone(str(path))


def test_a_gguf_file_cut_short(tmp_path):
    path = tiny_gguf(tmp_path / "tiny.gguf")
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ModelError, match=r"cannot read .*tiny\.gguf"):
        load_backbone(str(path))


def test_wrong_dtype_device_and_start(tmp_path):
    tiny_folder(tmp_path)
    with pytest.raises(ModelError, match="unknown dtype 'int3'"):
        load_backbone(str(tmp_path), dtype="int3")
    with pytest.raises(ModelError, match="cannot put the model on 'moon'"):
        load_backbone(str(tmp_path), device="moon")
    with pytest.raises(ModelError, match="no token '<nothing>'"):
        load_backbone(str(tmp_path), start="<nothing>")


def test_a_model_that_does_not_fit_into_memory_is_refused(tmp_path):
    tiny_folder(tmp_path)
    with pytest.raises(ModelError, match="was moved out of memory"):
        load_backbone(str(tmp_path), device_map={"": "meta"})
    assert load_backbone(str(tmp_path), device_map={"": "cpu"}).device.type == "cpu"


def test_a_recorded_start_token_is_taken_unless_the_user_says_otherwise(tmp_path):
    tiny_folder(tmp_path)
    (tmp_path / "source.json").write_text(json.dumps({"start_token": "<|begin|>"}))
    assert load_backbone(str(tmp_path)).start_ids == (1,)
    assert load_backbone(str(tmp_path), start="none").start_ids == ()


def test_transformers_is_as_it_was_after_loading(tmp_path):
    tiny_folder(tmp_path)
    transformers_logging.set_verbosity(logging.INFO)
    try:
        load_backbone(str(tmp_path))
        assert transformers_logging.get_verbosity() == logging.INFO
        assert transformers_logging.is_progress_bar_enabled()
    finally:
        transformers_logging.set_verbosity(logging.WARNING)


def test_quiet_puts_settings_back_after_an_error():
    def fail():
        with quiet():
            assert not transformers_logging.is_progress_bar_enabled()
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert transformers_logging.is_progress_bar_enabled()
