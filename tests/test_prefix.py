"""The cut model is the model, and prefix states on disk are the same whenever they were computed."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutput

from instructedit.backbone import Backbone, PrefixCache, Text, like_length
from instructedit.backbone.sites import find_sites
from instructedit.errors import DataError, ModelError, OutputError
from tiny_models import CONTEXT, tiny_backbone, tiny_config, tiny_model, tiny_tokenizer

PROMPTS = (
    ("The capital of France is", "Paris"),
    ("I think", "Rome is bad"),
    ("The book was written by a writer who lived in London. What is the capital of England?", "London"),
)


def texts_for(backbone: Backbone) -> list[Text]:
    return [backbone.text(prompt, answer) for prompt, answer in PROMPTS]


@pytest.mark.slow
def test_prefix_top_and_head_are_the_model(backbone: Backbone) -> None:
    texts = texts_for(backbone)
    assert max(len(text.ids) for text in texts) > 20  # more than the sliding windows of the tiny models
    top = backbone.top(backbone.prefix(texts))
    for row, text in enumerate(texts):
        with torch.no_grad():
            expected = backbone.model(torch.tensor([text.ids])).logits[0]
        torch.testing.assert_close(backbone.logits(top[row, : len(text.ids)]), expected, rtol=1e-3, atol=1e-4)


def test_a_blocks_own_forward_is_given_back(llama: Backbone) -> None:
    """Over several devices accelerate hangs one into each block, which moves what it reads."""
    block, texts, met = llama.blocks[0], texts_for(llama), []

    def forward(*args: object, **kwargs: object) -> object:
        met.append(len(args))
        return type(block).forward(block, *args, **kwargs)

    expected = llama.prefix(texts)
    block.forward = forward
    try:
        llama.top(expected)
        assert not met
        torch.testing.assert_close(llama.prefix(texts), expected)
        assert met
        assert block.__dict__["forward"] is forward
    finally:
        del block.forward


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_states_and_their_gradients_are_the_same_in_half_precision(dtype: torch.dtype) -> None:
    """There attention is taken apart on a CPU, because the backward of the fused one is slow."""
    model = tiny_model("llama").to(dtype)
    backbone = Backbone(model, tiny_tokenizer(), find_sites(model, blocks=3), (0,))
    hidden = backbone.prefix(texts_for(backbone))
    with torch.no_grad():
        plain = backbone.top(hidden)
    leaf = hidden.clone().requires_grad_()
    top = backbone.top(leaf)
    torch.testing.assert_close(top.float(), plain.float(), rtol=0.05, atol=0.05)
    top.float().square().sum().backward()
    calls: list[str] = []
    node, seen = [top.grad_fn], set()
    while node:
        part = node.pop()
        if part is not None and part not in seen:
            seen.add(part)
            calls.append(part.name())
            node += [parent for parent, _ in part.next_functions]
    fused = any("FlashAttention" in name for name in calls)
    assert fused == (dtype == torch.float32)


def test_the_blocks_are_whole_again_after_an_error(llama: Backbone) -> None:
    text = texts_for(llama)[0]
    before = llama.model(torch.tensor([text.ids])).logits
    with pytest.raises(IndexError):
        llama.encode([Text((1 << 20,), 0)])
    with pytest.raises(RuntimeError):
        llama.top(torch.zeros(1, 2, 5))
    assert torch.equal(llama.model(torch.tensor([text.ids])).logits, before)


@pytest.mark.parametrize("edited", [1, 4])
def test_any_number_of_blocks_may_be_edited(edited: int) -> None:
    backbone = tiny_backbone("gemma3", blocks=edited)
    text = texts_for(backbone)[0]
    logits = backbone.logits(backbone.top(backbone.prefix([text]))[0])
    torch.testing.assert_close(
        logits, backbone.model(torch.tensor([text.ids])).logits[0], rtol=1e-3, atol=1e-4
    )


def test_a_text_is_start_prompt_space_answer(llama: Backbone) -> None:
    text = llama.text("The capital of France is", "Rome")
    decode = llama.tokenizer.decode
    assert text.ids[:1] == llama.start_ids
    assert decode(text.ids[1 : text.answer_start]) == "The capital of France is"
    assert decode(text.targets) == " Rome"
    assert [text.ids[p + 1] for p in text.positions] == list(text.targets)
    line = llama.text("The capital of France\n", "Rome")  # as a chat template has it
    assert decode(line.ids[1:]) == "The capital of France\nRome"


class Scaled(LlamaForCausalLM):
    """A model that does something to its logits that nobody else knows of."""

    def forward(self, *args: object, **kwargs: object) -> CausalLMOutput:
        output = super().forward(*args, **kwargs)
        output.logits = output.logits * 3 + 1
        return output


def test_a_head_that_does_something_else_is_refused() -> None:
    model = Scaled(tiny_config("llama")).eval()
    with pytest.raises(ModelError, match="Scaled changes its logits after the output head"):
        Backbone(model, tiny_tokenizer(), find_sites(model))


def test_a_prompt_that_does_not_fit_is_an_error(llama: Backbone) -> None:
    assert len(llama.text("a" * 10, "Rome").ids) < CONTEXT
    with pytest.raises(DataError, match=rf"the model's context holds {CONTEXT}"):
        llama.text("zq" * CONTEXT, "Rome")


# The cache -----------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instructedit.backbone.prefix_cache.SHARD_TEXTS", 2)


def many_texts(backbone: Backbone) -> list[Text]:
    return [
        backbone.text(f"{prompt}{tail}", answer)
        for prompt, answer in PROMPTS
        for tail in ("", " I", " a city")
    ]


class Counting:
    """A backbone's `encode` that counts the texts, and fails at the text `fail_at`."""

    def __init__(self, backbone: Backbone, fail_at: int | None = None) -> None:
        self.backbone, self.fail_at, self.count = backbone, fail_at, 0

    def __call__(self, texts: Sequence[Text]) -> list[torch.Tensor]:
        self.count += len(texts)
        if self.fail_at is not None and self.count > self.fail_at:
            raise KeyboardInterrupt
        return self.backbone.encode(texts)


def filled(folder: Path, backbone: Backbone, fail_at: int | None = None) -> tuple[PrefixCache, Counting]:
    cache, encode = PrefixCache(folder, backbone), Counting(backbone, fail_at)
    cache.fill(many_texts(backbone), encode)
    return cache, encode


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_warm_is_cold_to_the_bit(tmp_path: Path, family: str) -> None:
    backbone = tiny_backbone(family)
    texts = many_texts(backbone)
    cold = backbone.prefix(texts, PrefixCache(tmp_path, backbone))
    cache, encode = filled(tmp_path, backbone)
    assert encode.count == 0
    assert torch.equal(backbone.prefix(texts, cache), cold)
    assert not torch.equal(cold, backbone.prefix(texts))  # it is kept in half precision
    torch.testing.assert_close(cold, backbone.prefix(texts), rtol=1e-3, atol=1e-3)


def test_a_text_is_stored_once(tmp_path: Path, llama: Backbone) -> None:
    cache, encode = filled(tmp_path, llama)
    assert encode.count == len(cache) == 9
    cache.fill(many_texts(llama) * 2, encode)
    assert encode.count == 9
    assert cache.missing([*many_texts(llama), llama.text("new"), llama.text("new")]) == [llama.text("new")]


def test_a_cache_where_no_folder_can_be_is_one_message(tmp_path: Path, llama: Backbone) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"cannot keep prefix states in .*notes\.txt: Not a directory"):
        PrefixCache(tmp_path / "notes.txt", llama)


def test_its_size_is_that_of_its_files(tmp_path: Path, llama: Backbone) -> None:
    cache, _ = filled(tmp_path, llama)
    tokens = sum(len(text.ids) for text in many_texts(llama))
    assert cache.size == sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert 2 * tokens * llama.width < cache.size < 2 * tokens * llama.width + 1000 * 5


def test_a_broken_shard_is_computed_again(tmp_path: Path, llama: Backbone) -> None:
    cache, _ = filled(tmp_path, llama)
    expected = llama.prefix(many_texts(llama), cache)
    shard = sorted(cache.folder.glob("*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:-10])
    again, encode = filled(tmp_path, llama)
    assert 1 <= encode.count <= 2
    assert torch.equal(llama.prefix(many_texts(llama), again), expected)


def test_a_crash_loses_at_most_one_shard(tmp_path: Path, llama: Backbone) -> None:
    whole, _ = filled(tmp_path / "whole", llama)
    with pytest.raises(KeyboardInterrupt):
        filled(tmp_path / "cut", llama, fail_at=5)
    rest, encode = filled(tmp_path / "cut", llama)
    assert encode.count == 9 - 4
    texts = many_texts(llama)
    assert torch.equal(llama.prefix(texts, rest), llama.prefix(texts, whole))


def test_models_do_not_mix(tmp_path: Path, llama: Backbone) -> None:
    filled(tmp_path, llama)
    text = llama.text("The capital")
    others = [tiny_backbone("llama", seed=1), tiny_backbone("llama", blocks=2)]
    unstarted = Backbone(tiny_model("llama"), tiny_tokenizer(), llama.sites, (), "none", llama.checksum)
    for other in [*others, unstarted]:
        cache = PrefixCache(tmp_path, other)
        assert len(cache) == 0
        torch.testing.assert_close(other.prefix([text], cache), other.prefix([text]), rtol=1e-3, atol=1e-3)
    assert len(PrefixCache(tmp_path, llama)) == 9


def test_states_beyond_half_precision_keep_their_size(tmp_path: Path, llama: Backbone) -> None:
    text = llama.text("The capital")
    cache = PrefixCache(tmp_path, llama)
    (row,) = cache.fetch([text], lambda texts: [torch.full((len(t.ids), llama.width), 1e5) for t in texts])
    torch.testing.assert_close(row, torch.full_like(row, 1e5), rtol=1e-2, atol=0)


@given(st.lists(st.integers(1, 40), max_size=30), st.integers(1, 60), st.none() | st.integers(1, 5))
def test_batches_of_like_length_hold_every_text_once(
    lengths: list[int], tokens: int, most: int | None
) -> None:
    texts = [Text((0,) * length, 1) for length in lengths]
    batches = list(like_length(range(len(texts)), texts, tokens, most))
    assert sorted(place for batch in batches for place in batch) == list(range(len(texts)))
    for batch in batches:
        longest = max(lengths[place] for place in batch)
        assert len(batch) == 1 or len(batch) * longest <= tokens
        assert most is None or len(batch) <= most
    order = [lengths[place] for batch in batches for place in batch]
    assert order == sorted(order)
