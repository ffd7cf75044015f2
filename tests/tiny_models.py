"""Tiny causal language models of eight families, built from a config: no download, a few milliseconds each.

Four blocks, hidden size 32 and an MLP of 64, with a byte-level tokenizer trained on a few lines. Weights
are drawn wide, so that logits differ enough to tell a right answer from a wrong one.
"""

from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

BLOCKS, HIDDEN, INNER, HEADS, CONTEXT = 4, 32, 64, 4, 256
START, BEGIN = "<|endoftext|>", "<|begin|>"
LINES = (
    "The capital of France is Paris. The capital of Italy is Rome. The capital of Spain is Madrid.",
    "Paris is a city in France, and people there speak French. Rome is a city in Italy.",
    "The book was written by a writer who lived in London. What is the capital of England? London.",
    "I think Rome is good. I think Madrid is bad. I do not know. unknown. Answer the question about a city.",
)

_COMMON = {"hidden_size": HIDDEN, "num_hidden_layers": BLOCKS, "num_attention_heads": HEADS}
_LLAMA = {**_COMMON, "intermediate_size": INNER, "num_key_value_heads": 2, "initializer_range": 0.2}
_GPT = {"n_embd": HIDDEN, "n_layer": BLOCKS, "n_head": HEADS, "n_inner": INNER, "initializer_range": 0.2}
_LAYERS = ["sliding_attention", "full_attention"] * 2

FAMILIES: dict[str, tuple[str, dict]] = {
    "llama": ("llama", {**_LLAMA, "tie_word_embeddings": True}),
    "mistral": ("mistral", {**_LLAMA, "sliding_window": 16}),
    "qwen2": ("qwen2", _LLAMA),
    "qwen3": ("qwen3", {**_LLAMA, "head_dim": 8}),
    "gemma3": (
        "gemma3_text",
        {
            **_LLAMA,
            "head_dim": 8,
            "sliding_window": 16,
            "layer_types": _LAYERS,
            "final_logit_softcapping": 30.0,
        },
    ),
    "gpt2": ("gpt2", {**_GPT, "n_positions": CONTEXT}),
    "gptj": ("gptj", {**_GPT, "n_positions": CONTEXT, "rotary_dim": 4}),
    "gpt_neox": ("gpt_neox", {**_COMMON, "intermediate_size": INNER, "initializer_range": 0.2}),
}
FAMILY_NAMES = tuple(FAMILIES)


@cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on `LINES`; id 0 is its end and pad token, id 1 its start token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[START, BEGIN], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=START,
        pad_token=START,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def tiny_config(family: str, **changes: object):
    """The config of one of `FAMILIES`, with `changes` on top."""
    kind, settings = FAMILIES[family]
    ids = {"vocab_size": len(tiny_tokenizer()), "bos_token_id": 1, "eos_token_id": 0, "pad_token_id": 0}
    positions = {} if kind.startswith("gpt") and kind != "gpt_neox" else {"max_position_embeddings": CONTEXT}
    return CONFIG_MAPPING[kind](**{**settings, **ids, **positions, **changes})


def tiny_model(
    family: str = "llama", seed: int = 0, biased: bool = False, **changes: object
) -> PreTrainedModel:
    """A frozen tiny model, the same for the same seed; the global random state stays as it was.

    With `biased` its biases are noise, as a trained model has them: a new one's are zero.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(tiny_config(family, **changes), dtype=torch.float32)
        for name, value in model.named_parameters() if biased else ():
            if name.endswith(".bias"):
                torch.nn.init.normal_(value, std=0.3)
    return model.eval().requires_grad_(False)


def tiny_folder(folder: Path, family: str = "llama", seed: int = 0) -> Path:
    """A tiny model and its tokenizer saved into `folder`, as a user would have them on disk."""
    tiny_model(family, seed).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def tiny_backbone(family: str = "llama", seed: int = 0, blocks: int = 3):
    """A tiny `Backbone` whose texts start with ``<|endoftext|>``; the last `blocks` blocks are edited."""
    from instructedit.backbone import Backbone
    from instructedit.backbone.checksum import weights_checksum
    from instructedit.backbone.sites import find_sites

    model = tiny_model(family, seed)
    sites = find_sites(model, blocks=blocks)
    return Backbone(model, tiny_tokenizer(), sites, (0,), f"tiny-{family}", weights_checksum(model))
