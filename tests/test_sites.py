"""Edit sites are found from the module tree, and a wrong wish is answered with what there is."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from instructedit.backbone.sites import find_blocks, find_sites, is_linear, is_transposed, weight_shape
from instructedit.errors import ModelError
from tiny_models import BLOCKS, HIDDEN, INNER, tiny_model


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama")


def names(sites):
    return [site.name for site in sites]


def test_the_mlp_of_the_last_blocks_is_found(family):
    model = tiny_model(family)
    sites = find_sites(model, blocks=2)
    assert {site.block for site in sites} == {BLOCKS - 2, BLOCKS - 1}
    assert {(site.d_in, site.d_out) for site in sites} == {(HIDDEN, INNER), (INNER, HIDDEN)}
    in_one = sum(is_linear(module) for module in find_blocks(model)[1][-1].mlp.modules())
    assert len(sites) == 2 * in_one
    assert in_one in (2, 3)


def test_a_site_maps_its_input_size_to_its_output_size(family):
    model = tiny_model(family)
    for site in find_sites(model, blocks=BLOCKS):
        module = model.get_submodule(site.name)
        assert module(torch.zeros(1, site.d_in)).shape == (1, site.d_out)
        stored = (site.d_in, site.d_out) if is_transposed(module) else (site.d_out, site.d_in)
        assert tuple(module.weight.shape) == stored
        assert weight_shape(module) == (site.d_out, site.d_in)


def test_only_gpt2_is_transposed(family):
    model = tiny_model(family)
    kinds = {is_transposed(model.get_submodule(site.name)) for site in find_sites(model)}
    assert kinds == {family == "gpt2"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("*.3.mlp.down_proj", ["model.layers.3.mlp.down_proj"]),
        ("model.layers.[01].mlp.up_proj", ["model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"]),
        ("3.mlp.up_proj, 3.mlp.gate_proj", ["model.layers.3.mlp.gate_proj", "model.layers.3.mlp.up_proj"]),
        ("blocks=0|2-3,names=down_proj", [f"model.layers.{n}.mlp.down_proj" for n in (0, 2, 3)]),
        (
            "blocks=-1,names=down_proj|o_proj",
            ["model.layers.3.self_attn.o_proj", "model.layers.3.mlp.down_proj"],
        ),
        ("names=down_proj", [f"model.layers.{n}.mlp.down_proj" for n in (1, 2, 3)]),
        ("blocks=-3--2,part=output", [f"model.layers.{n}.mlp.down_proj" for n in (1, 2)]),
        (
            "blocks=-2,part=output; blocks=-1,names=up_proj",
            ["model.layers.2.mlp.down_proj", "model.layers.3.mlp.up_proj"],
        ),
        ("blocks=2", [f"model.layers.2.mlp.{n}_proj" for n in ("gate", "up", "down")]),
    ],
)
def test_a_spec_chooses_sites(model, spec, expected):
    assert names(find_sites(model, spec)) == expected


@given(first=st.integers(0, BLOCKS - 1), length=st.integers(1, BLOCKS))
def test_a_range_of_blocks_is_those_blocks(first, length):
    last = min(first + length, BLOCKS) - 1
    sites = find_sites(tiny_model("gptj"), f"blocks={first}-{last}")
    assert {site.block for site in sites} == set(range(first, last + 1))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("*.mlp.c_fc", r"no layer matches .*model\.layers\.\*\.mlp\.down_proj"),
        ("blocks=2,names=fc_in", r"no layer matches"),
        ("blocks=4", "this model has the blocks 0 to 3"),
        ("blocks=3-2", "this model has the blocks 0 to 3"),
        ("blocks=some", "numbers and ranges"),
        ("layers=2", "cannot read the sites"),
        ("blocks=2,*.mlp.*", "cannot read the sites"),
        (" , ", "cannot read the sites"),
    ],
)
def test_a_spec_that_fits_nothing_says_what_there_is(model, spec, message):
    with pytest.raises(ModelError, match=message):
        find_sites(model, spec)


@pytest.mark.parametrize("blocks", [0, BLOCKS + 1])
def test_more_blocks_than_there_are(model, blocks):
    with pytest.raises(ModelError, match="Expected 1 to 4"):
        find_sites(model, blocks=blocks)


def expert_model(kind: str, **changes):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 64}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**sizes, **heads, **changes))


def test_fused_experts_are_refused_with_the_reason():
    with pytest.raises(
        ModelError, match=r"mixture of experts: it holds .* as one three-dimensional parameter"
    ):
        find_sites(expert_model("mixtral", num_local_experts=4), blocks=1)


def test_what_every_token_passes_in_a_mixture_can_be_chosen():
    model = expert_model(
        "qwen2_moe", num_experts=4, moe_intermediate_size=16, shared_expert_intermediate_size=48
    )
    with pytest.raises(ModelError, match="mixture of experts"):
        find_sites(model, blocks=1)
    sites = find_sites(model, "blocks=1,names=shared_expert.down_proj")
    assert [(site.d_in, site.d_out) for site in sites] == [(48, 32)]


class Block(nn.Module):
    """A block whose MLP has no telling name, beside an attention that is wider than the hidden size."""

    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


class Net(nn.Module):
    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(blocks)
        self.config = self

    def get_text_config(self):
        return type("Config", (), {"hidden_size": 8})


def test_an_mlp_without_a_name_is_found_by_its_shape():
    attention = nn.ModuleDict({"q": nn.Linear(8, 16), "o": nn.Linear(16, 8)})
    block = Block(attn=attention, norm=nn.LayerNorm(8), widen=nn.Linear(8, 20), narrow=nn.Linear(20, 8))
    assert names(find_sites(Net(block), blocks=1)) == ["layers.0.widen", "layers.0.narrow"]


def test_linears_that_are_children_of_the_block_are_found_by_name():
    block = Block(self_attn=nn.Linear(8, 8), fc1=nn.Linear(8, 32), fc2=nn.Linear(32, 8))
    assert names(find_sites(Net(block), blocks=1)) == ["layers.0.fc1", "layers.0.fc2"]


def test_a_norm_called_after_the_mlp_is_no_site():
    block = Block(pre_feedforward_norm=nn.LayerNorm(8), mlp=nn.Sequential(nn.Linear(8, 32), nn.Linear(32, 8)))
    assert names(find_sites(Net(block), blocks=1)) == ["layers.0.mlp.0", "layers.0.mlp.1"]


def test_a_list_of_experts_is_refused_and_never_taken_for_the_blocks():
    experts = nn.ModuleList(nn.Linear(8, 32) for _ in range(9))
    net = Net(*(Block(mlp=nn.ModuleDict({"experts": experts})) for _ in range(2)))
    assert find_blocks(net)[0] == "layers"
    with pytest.raises(ModelError, match="a list of experts in experts"):
        find_sites(net, blocks=1)


def test_a_block_without_an_mlp_says_what_it_holds():
    with pytest.raises(ModelError, match=r"no MLP found in block 0 of Net, which holds layers\.\*\.attn"):
        find_sites(Net(Block(attn=nn.Linear(8, 8))), blocks=1)


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ModelError, match="no list of transformer blocks"):
        find_sites(nn.Linear(2, 2))
