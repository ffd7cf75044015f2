"""An edit as GGUF: what is read back is the edit, every other weight of a merged file is untouched."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instructedit.backbone import origin
from instructedit.backbone.loading import load_backbone
from instructedit.backbone.origin import original_gguf
from instructedit.delta import LowRankDelta
from instructedit.errors import DataError, ModelError, OutputError
from instructedit.export import gguf_adapter, gguf_merged, save_gguf, save_gguf_merged
from instructedit.export.gguf_adapter import read_adapter, write_adapter
from instructedit.export.gguf_names import find_architecture, name_tensors
from instructedit.export.updates import check_updates
from instructedit.storage import sha256_file
from instructedit.types import EditCase
from tiny_gguf import tiny_gguf
from tiny_models import tiny_backbone

pytestmark = pytest.mark.slow
CASE = EditCase(prompt="The capital of France is", target_new="Rome", subject="France")
SUPPRESS = [HealthCheck.function_scoped_fixture]


def random_delta(sites: dict[str, tuple[int, int]], ranks: list[int], edits: int = 1, seed: int = 0):
    """A delta of `edits` edits; site i has d_in and d_out as given and the rank ``ranks[i % len(ranks)]``."""
    draw = torch.Generator().manual_seed(seed)
    a: dict[str, torch.Tensor] = {}
    b: dict[str, torch.Tensor] = {}
    for index, (name, (d_in, d_out)) in enumerate(sites.items()):
        rank = ranks[index % len(ranks)]
        a[name] = torch.randn(edits, rank, d_in, generator=draw) * 0.2
        b[name] = torch.randn(edits, d_out, rank, generator=draw) * 0.2
    return LowRankDelta(a, b)


def delta_for(backbone, ranks=(3,), edits: int = 1, seed: int = 0) -> LowRankDelta:
    sizes = {site.name: (site.d_in, site.d_out) for site in backbone.sites}
    return random_delta(sizes, list(ranks), edits, seed)


def logits_of(backbone, model=None, ids=None) -> torch.Tensor:
    ids = ids or backbone.text("The capital of France is Rome.").ids
    with torch.no_grad():
        return (model or backbone.model)(input_ids=backbone.pad([ids])).logits


def edited_logits(delta: LowRankDelta, backbone, ids=None) -> torch.Tensor:
    with delta.merge().applied_to(backbone.model):
        return logits_of(backbone, ids=ids)


@pytest.fixture(scope="module")
def from_gguf(tmp_path_factory):
    """A backbone that was read from a GGUF file with packed weights: nobody may write to it."""
    path = tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", quantised=True)
    return load_backbone(str(path), start="none")


@pytest.fixture(autouse=True)
def no_llama_cpp(monkeypatch):
    """As where llama-cpp-python is not installed, unless a test puts one in."""
    monkeypatch.setitem(sys.modules, "llama_cpp", None)


@settings(max_examples=25, deadline=None, suppress_health_check=SUPPRESS)
@given(ranks=st.lists(st.integers(1, 6), min_size=1, max_size=3), seed=st.integers(0, 999))
def test_what_llama_cpp_will_add_is_the_delta_at_every_mix_of_ranks(ranks, seed, tmp_path):
    names = {f"layers.{i}": f"blk.{i}.ffn_down.weight" for i in range(3)}
    delta = random_delta(dict.fromkeys(names, (8, 5)), ranks, seed=seed)
    write_adapter(tmp_path / "x.gguf", delta, names, "llama")
    reader = GGUFReader(tmp_path / "x.gguf")
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    alpha = reader.fields["adapter.lora.alpha"].contents()
    for site, name in names.items():
        a, b = tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"]
        rank = delta.a[site].shape[1]
        assert a.shape.tolist() == [8, rank]  # GGUF counts the innermost axis first
        assert b.shape.tolist() == [rank, 5]
        update = alpha / int(b.shape[0]) * torch.tensor(b.data) @ torch.tensor(a.data)
        torch.testing.assert_close(update, delta.dense(site)[0], atol=1e-6, rtol=1e-5)
    check_updates(delta, read_adapter(tmp_path / "x.gguf", names), "it")


@settings(max_examples=4, deadline=None, suppress_health_check=SUPPRESS)
@given(edits=st.integers(1, 3), rank=st.integers(1, 4), seed=st.integers(0, 99))
def test_a_gguf_adapter_of_many_edits_is_their_sum(edits, rank, seed, llama, tmp_path):
    delta = delta_for(llama, [rank], edits, seed)
    save_gguf(delta, tmp_path / "out", llama, energy=1.0, force=True, texts=["Rome is a city."])
    found = read_adapter(tmp_path / "out" / "adapter.gguf", name_tensors(llama.model, delta.a))
    for site in delta.a:
        torch.testing.assert_close(found.dense(site)[0], delta.dense(site).sum(0), atol=1e-4, rtol=1e-3)


def test_the_adapter_says_what_it_is(llama, tmp_path):
    report = save_gguf(delta_for(llama), tmp_path / "out", llama, cases=[CASE])
    fields = GGUFReader(tmp_path / "out" / "adapter.gguf").fields
    said = {name: field.contents() for name, field in fields.items()}
    assert said["general.architecture"] == "llama"
    assert (said["general.type"], said["adapter.type"], said["adapter.lora.alpha"]) == ("adapter", "lora", 3)
    assert report.checks == ("gguf's reader",)
    assert "llama-cpp-python is not installed" in report.untried[0]
    assert report.difference < 1e-4
    assert json.loads((tmp_path / "out" / "instructedit.json").read_text())["edits"][0]["subject"] == "France"
    assert "llama-server -m" in (tmp_path / "out" / "README.md").read_text()


def test_a_cut_of_ranks_is_reported(llama, tmp_path):
    report = save_gguf(delta_for(llama, [6]), tmp_path / "out", llama, rank=2)
    assert set(report.ranks.values()) == {2}
    assert report.energy < 0.9
    assert report.approximation > 100 * report.difference


@pytest.mark.parametrize("options", [{"rank": 0}, {"energy": 0.0}, {"energy": 1.5}])
def test_a_rank_that_cannot_be_is_refused(options, llama, tmp_path):
    with pytest.raises(DataError, match=r"Expected 1 or more|Expected a share"):
        save_gguf(delta_for(llama), tmp_path / "out", llama, **options)


def test_every_family_has_its_names_or_a_reason(family, backbone, tmp_path):
    sites = [site.name for site in backbone.sites]
    if family == "gptj":
        with pytest.raises(ModelError, match=r"cannot write gptj as GGUF.*convert_hf_to_gguf"):
            name_tensors(backbone.model, sites)
        return
    names = name_tensors(backbone.model, sites)
    assert len(set(names.values())) == len(sites)
    for site in backbone.sites:
        assert re.fullmatch(rf"blk\.{site.block}\.ffn_(gate|up|down)\.weight", names[site.name])
    save_gguf(delta_for(backbone), tmp_path / "out", backbone)
    shapes = {t.name: t.shape.tolist() for t in GGUFReader(tmp_path / "out" / "adapter.gguf").tensors}
    for site in backbone.sites:  # also where transformers stores the weight transposed
        assert shapes[f"{names[site.name]}.lora_a"][0] == site.d_in
        assert shapes[f"{names[site.name]}.lora_b"][1] == site.d_out


@pytest.mark.parametrize("site", ["model.layers.3.self_attn.q_proj", "lm_head", "model.layers.9.mlp.up_proj"])
def test_other_layers_are_refused_with_the_reason(site, llama):
    with pytest.raises(ModelError, match="only MLP layers are sure to lie there"):
        name_tensors(llama.model, [site])


def test_mistral_is_llama_to_llama_cpp():
    assert find_architecture(tiny_backbone("mistral").model) == "llama"


def test_an_adapter_that_is_not_the_edit_is_not_kept(llama, tmp_path, monkeypatch):
    good = gguf_adapter.write_adapter
    monkeypatch.setattr(gguf_adapter, "write_adapter", lambda p, d, *more: good(p, d.scale(1.001), *more))
    with pytest.raises(ModelError, match="was loaded back and its update of"):
        save_gguf(delta_for(llama), tmp_path / "out", llama)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_adapter_is_refused(from_gguf, llama):
    names = name_tensors(llama.model, [site.name for site in llama.sites])
    with pytest.raises(ModelError, match="is no LoRA adapter of this edit"):
        read_adapter(Path(from_gguf.name), names)


def test_a_merged_file_answers_like_the_edit_and_keeps_the_rest(from_gguf, tmp_path):
    source = Path(from_gguf.name)
    before, delta = sha256_file(source), delta_for(from_gguf, edits=2)
    report = save_gguf_merged(delta, tmp_path / "out", from_gguf, cases=[CASE])
    path = tmp_path / "out" / "model.gguf"
    loaded, expected = load_backbone(str(path), start="none"), edited_logits(delta, from_gguf)
    torch.testing.assert_close(logits_of(from_gguf, loaded.model), expected, atol=2e-4, rtol=1e-3)
    assert (expected - logits_of(from_gguf)).abs().max() > 0.1
    assert report.difference < 1e-3
    assert sha256_file(source) == before
    edited = set(name_tensors(from_gguf.model, delta.a).values())
    old, new = GGUFReader(source), GGUFReader(path)
    assert [tensor.name for tensor in old.tensors] == [tensor.name for tensor in new.tensors]
    for was, now in zip(old.tensors, new.tensors, strict=True):
        assert was.shape.tolist() == now.shape.tolist()
        if was.name in edited:
            assert now.tensor_type == GGMLQuantizationType.F32
        else:
            assert (was.tensor_type, was.data.tobytes()) == (now.tensor_type, now.data.tobytes())
    assert {n: f.contents() for n, f in old.fields.items()} == {
        n: f.contents() for n, f in new.fields.items()
    }


def test_a_model_from_elsewhere_is_sent_to_the_converter(tmp_path):
    backbone = tiny_backbone("qwen2")
    with pytest.raises(ModelError, match=r"does not come from a GGUF file.*convert_hf_to_gguf\.py"):
        save_gguf_merged(delta_for(backbone), tmp_path / "out", backbone)
    assert list(tmp_path.iterdir()) == []


def test_the_file_of_another_model_is_refused(from_gguf, tmp_path):
    other = tiny_backbone("qwen2", seed=1)
    delta = delta_for(other)
    names = name_tensors(other.model, delta.a)
    with pytest.raises(ModelError, match="is not the weight of"):
        gguf_merged.write_merged(tmp_path / "x.gguf", Path(from_gguf.name), delta, other, names)
    with pytest.raises(ModelError, match=r"holds no blk\.77\.x"):
        gguf_merged.write_merged(
            tmp_path / "x.gguf",
            Path(from_gguf.name),
            delta,
            other,
            dict.fromkeys(names, "blk.77.x.weight"),
        )


def test_an_existing_folder_is_kept(from_gguf, tmp_path):
    for save in (save_gguf, save_gguf_merged):
        with pytest.raises(OutputError, match="exists already"):
            save(delta_for(from_gguf), tmp_path, from_gguf)


def test_the_origin_of_a_converted_folder_is_the_file_it_was_made_from(tmp_path, monkeypatch):
    gguf, folder = tiny_gguf(tmp_path / "tiny.gguf"), tmp_path / "model"
    folder.mkdir()
    with original_gguf(str(folder)) as found:
        assert found is None
    (folder / "source.json").write_text(json.dumps({"sha256": sha256_file(gguf)}))
    monkeypatch.setattr(origin, "find_gguf", lambda: None)
    monkeypatch.setattr(origin, "fetch_gguf", lambda _place: gguf)
    with original_gguf(str(folder)) as found:
        assert found is None, "nothing is fetched unasked"
    with original_gguf(str(folder), download=True) as found:
        assert found == gguf
    (folder / "source.json").write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(ModelError, match="is not the file that"), original_gguf(str(folder), download=True):
        pass


class FakeLlama:
    """`llama_cpp.Llama` as far as it is used, with the answers of `backbone`; `factor` scales the edit."""

    backbone = None
    factor = 1.0

    def __init__(self, *, model_path, lora_path, n_ctx, verbose):
        assert verbose is False
        assert Path(model_path).is_file()
        self.room, self.delta = n_ctx, delta_for(self.backbone).scale(self.factor)
        if lora_path:
            found = read_adapter(Path(lora_path), name_tensors(self.backbone.model, self.delta.a))
            self.delta = found.scale(self.factor)

    def generate(self, tokens, *, temp, repeat_penalty):
        assert (temp, repeat_penalty) == (0.0, 1.0)
        row = list(tokens)
        while len(row) < self.room:
            row.append(int(edited_logits(self.delta, self.backbone, row)[0, -1].argmax()))
            yield row[-1]


def use_llama(monkeypatch, backbone, factor: float = 1.0) -> None:
    monkeypatch.setattr(FakeLlama, "factor", factor)
    monkeypatch.setattr(FakeLlama, "backbone", backbone)
    monkeypatch.setitem(sys.modules, "llama_cpp", SimpleNamespace(Llama=FakeLlama))


def test_llama_cpp_is_asked_where_it_is_installed(from_gguf, tmp_path, monkeypatch):
    use_llama(monkeypatch, from_gguf)
    cases = [CASE, EditCase(prompt="Water freezes at", target_new="zero")]
    for save in (save_gguf, save_gguf_merged):
        out = tmp_path / save.__name__
        report = save(delta_for(from_gguf), out, from_gguf, cases=cases, texts=["Rome is a city."])
        assert report.checks[-1] == "llama.cpp: 2 of 2 greedy answers are the edited model's"
        assert report.untried == ()


def test_other_answers_of_llama_cpp_are_counted_and_no_error(from_gguf, tmp_path, monkeypatch):
    use_llama(monkeypatch, from_gguf, factor=-3.0)
    report = save_gguf(delta_for(from_gguf), tmp_path / "out", from_gguf, cases=[CASE])
    assert report.checks[-1] == "llama.cpp: 0 of 1 greedy answers are the edited model's"


def test_what_llama_cpp_cannot_load_is_not_kept(from_gguf, tmp_path, monkeypatch):
    class Broken:
        def __init__(self, **_options):
            raise ValueError("Failed to load model from file")

    monkeypatch.setitem(sys.modules, "llama_cpp", SimpleNamespace(Llama=Broken))
    with pytest.raises(ModelError, match=r"llama\.cpp cannot load adapter\.gguf: Failed"):
        save_gguf(delta_for(from_gguf), tmp_path / "out", from_gguf)
    assert list(tmp_path.iterdir()) == []


def test_without_a_gguf_of_the_base_the_adapter_is_not_tried(llama, tmp_path, monkeypatch):
    use_llama(monkeypatch, llama)
    report = save_gguf(delta_for(llama), tmp_path / "out", llama)
    assert "no GGUF file of the base model" in report.untried[-1]
