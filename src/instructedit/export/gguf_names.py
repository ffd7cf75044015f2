"""llama.cpp's names for what an edit changes: ``model.layers.29.mlp.down_proj`` is ``blk.29.ffn_down``.

Only MLP linears are mapped. llama.cpp's converter writes those as they are, ``[d_out d_in]`` (GPT-2's, which
lie transposed in transformers, it transposes), while it permutes or joins attention's in several families.
"""

from collections.abc import Iterable
from typing import Any

from instructedit.backbone.sites import find_blocks
from instructedit.errors import ModelError

# `model_type` in transformers, and the architecture that llama.cpp's converter makes of it
ARCHITECTURES = {
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "gpt2": "gpt2",
    "gpt_neox": "gptneox",
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
}
BY_CONVERTER = (
    "Export it with --to merged and run llama.cpp's own converter on that folder: "
    "`python convert_hf_to_gguf.py FOLDER --outfile model.gguf`."
)


def find_architecture(model: Any) -> str:
    """What GGUF calls the model's architecture.

    Errors: `ModelError` for a family whose MLP layers are not known to keep their form in GGUF.
    """
    kind = str(model.config.get_text_config().model_type)
    if kind not in ARCHITECTURES:
        raise ModelError(
            f"cannot write {kind} as GGUF: what llama.cpp makes of its MLP layers is not known here; known "
            f"are {', '.join(sorted(ARCHITECTURES))}. {BY_CONVERTER}"
        )
    return ARCHITECTURES[kind]


def name_tensors(model: Any, sites: Iterable[str]) -> dict[str, str]:
    """The GGUF name of each site's weight, by the tables of the `gguf` package.

    Errors: `ModelError` as `find_architecture`, and for a site that is no MLP linear of a block.
    """
    from gguf import MODEL_ARCH_NAMES, MODEL_TENSOR, get_tensor_name_map

    wanted = find_architecture(model)
    architecture = next(key for key, name in MODEL_ARCH_NAMES.items() if name == wanted)
    table = get_tensor_name_map(architecture, len(find_blocks(model)[1]))
    linears = (MODEL_TENSOR.FFN_GATE, MODEL_TENSOR.FFN_UP, MODEL_TENSOR.FFN_DOWN)
    names: dict[str, str] = {}
    for site in sites:
        found = table.get_type_and_name(site)
        if found is None or found[0] not in linears:
            kind = "not a layer that GGUF has a name for" if found is None else f"{found[1]} in GGUF"
            raise ModelError(
                f"cannot write an edit of {site} as GGUF: it is {kind}, and only MLP layers are sure to lie "
                f"there as they do here (attention's may be permuted or joined). {BY_CONVERTER}"
            )
        names[site] = f"{found[1]}.weight"
    return names
