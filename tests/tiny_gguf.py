"""A tiny model as a GGUF file, written with the `gguf` package as llama.cpp would name things."""

import json
from pathlib import Path

from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quantize

from tiny_models import BLOCKS, CONTEXT, HEADS, HIDDEN, INNER, tiny_model, tiny_tokenizer

FAMILY = "qwen2"  # llama.cpp permutes Llama's queries and keys; Qwen2's lie as they are
_TOP = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}
_BLOCK = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def tiny_gguf(path: Path, *, quantised: bool = False) -> Path:
    """The tiny Qwen2 of `tiny_models` with its tokenizer; `quantised` stores its matrices as Q8_0."""
    writer = GGUFWriter(path, FAMILY)
    writer.add_block_count(BLOCKS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    _add_tokenizer(writer)
    for name, tensor in tiny_model(FAMILY).state_dict().items():
        values = tensor.numpy()
        if quantised and values.ndim == 2:
            packed = quantize(values, GGMLQuantizationType.Q8_0)
            writer.add_tensor(_gguf_name(name), packed, raw_dtype=GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(_gguf_name(name), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: GGUFWriter) -> None:
    tokenizer = tiny_tokenizer()
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    pairs = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] * 2 + [TokenType.NORMAL] * (len(tokens) - 2))
    writer.add_token_merges([" ".join(pair) for pair in pairs])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(0)


def _gguf_name(name: str) -> str:
    name = name.removeprefix("model.")
    if name == "lm_head.weight":
        return "output.weight"
    if name in _TOP:
        return _TOP[name]
    _, number, rest = name.split(".", 2)
    module, kind = rest.rsplit(".", 1)
    return f"blk.{number}.{_BLOCK[module]}.{kind}"
