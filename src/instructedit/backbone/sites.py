"""Where edits may go: the linear layers of the last blocks, found from the module tree.

The blocks are the longest outermost `ModuleList`. Of a block's children, those called mlp, ffn,
feed_forward or fc are its MLP; where no child is called so, every child that is not attention and holds
a linear layer with one side other than the hidden size. `transformers`' ``Conv1D`` (GPT-2), whose weight
lies transposed, counts as a linear layer; `weight_shape` and `is_transposed` are the only places that know.
"""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from instructedit.backbone.parts import Site
from instructedit.errors import ModelError, SitesError

_MLP = re.compile(r"mlp|ffn|feed_?forward|^fc\d*$", re.IGNORECASE)
_ATTENTION = re.compile(r"att(n|ention)", re.IGNORECASE)
_KEYS = ("blocks", "names", "part")

Named = tuple[str, nn.Module]


def is_linear(module: nn.Module) -> bool:
    """Whether `module` is a linear layer that can be edited."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def is_transposed(module: nn.Module) -> bool:
    """Whether the weight is stored ``[d_in d_out]`` (``Conv1D``); PEFT calls this ``fan_in_fan_out``."""
    return not isinstance(module, nn.Linear)


def weight_shape(module: Any) -> tuple[int, int]:
    """``(d_out, d_in)`` of a linear layer, however its weight is stored or quantised."""
    if is_transposed(module):
        return int(module.nf), int(module.nx)
    return int(module.out_features), int(module.in_features)


def find_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The dotted name and the list of the model's blocks: the longest `ModuleList` that lies in no other.

    Errors: `ModelError` when the model has none.
    """
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    outer = [
        name
        for name in lists
        if len(lists[name]) and not any(name.startswith(f"{other}.") for other in lists)
    ]
    if not outer:
        raise ModelError(f"{type(model).__name__} has no list of transformer blocks, so it cannot be edited.")
    name = max(outer, key=lambda name: len(lists[name]))
    return name, lists[name]


def find_sites(model: Any, spec: str | None = None, blocks: int = 3) -> tuple[Site, ...]:
    """The sites to edit: the MLP linears of the last `blocks` blocks, or what `spec` asks for.

    `spec` is a comma list. Items like ``*.27.mlp.down_proj`` are patterns over dotted names. Items
    like ``blocks=20-25|28`` and ``names=down_proj|gate_proj`` filter the linears of those blocks
    (the last `blocks` without ``blocks=``; the MLP's without ``names=``); numbers below zero count from
    the end, and ``part=output`` leaves the MLP's output projections. Lists joined by ``;`` add up.
    Errors: `ModelError` when nothing matches, saying what there is, or when the MLP is a mixture of experts.
    """
    root, members = find_blocks(model)
    if not spec and not 1 <= blocks <= len(members):
        raise ModelError(
            f"cannot edit the last {blocks} blocks of a model that has {len(members)}. "
            f"Expected 1 to {len(members)}."
        )
    last = range(max(0, len(members) - blocks), len(members))
    if not spec:
        return tuple(_site(name, module, root) for name, module in _mlp_of(root, members, last, model))
    asked = {name for part in spec.split(";") for name, _ in _by_spec(root, members, part, last, model)}
    if not asked:
        raise SitesError(f"no layer matches the sites {spec!r}. It holds {_names(_linears(root, members))}.")
    return tuple(_site(name, module, root) for name, module in _linears(root, members) if name in asked)


def _site(name: str, module: nn.Module, root: str) -> Site:
    d_out, d_in = weight_shape(module)
    return Site(name, d_in, d_out, int(name[len(root) + 1 :].split(".")[0]))


def _linears(root: str, members: nn.ModuleList) -> Iterator[Named]:
    for name, module in members.named_modules(prefix=root):
        if is_linear(module):
            yield name, module


def _mlp_of(root: str, members: nn.ModuleList, numbers: range | set[int], model: Any) -> list[Named]:
    hidden = int(model.config.get_text_config().hidden_size)
    found: list[Named] = []
    for number in sorted(numbers):
        before = len(found)
        for child_name, child in _mlp_children(members[number], hidden):
            name = f"{root}.{number}.{child_name}"
            _refuse_experts(name, child)
            found += [
                (inner, module) for inner, module in child.named_modules(prefix=name) if is_linear(module)
            ]
        if len(found) == before:
            raise ModelError(
                f"no MLP found in block {number} of {type(model).__name__}, which holds "
                f"{_names(_linears(root, members))}. Choose among them with --sites 'names=...'."
            )
    return found


def _mlp_children(block: nn.Module, hidden: int) -> list[Named]:
    children = [
        (name, child) for name, child in block.named_children() if any(map(_has_weights, child.modules()))
    ]
    named = [(name, child) for name, child in children if _MLP.search(name)]
    named = [
        (name, child) for name, child in named if any(_is_wide(m, hidden) for m in child.modules())
    ] or named
    return named or [
        (name, child)
        for name, child in children
        if not _ATTENTION.search(name)
        and not _ATTENTION.search(type(child).__name__)
        and any(_is_wide(module, hidden) for module in child.modules())
    ]


def _has_weights(module: nn.Module) -> bool:
    """Whether a module holds a matrix of its own: norms and activations do not."""
    return any(parameter.ndim > 1 for parameter in module.parameters(recurse=False))


def _is_wide(module: nn.Module, hidden: int) -> bool:
    """Whether a linear layer, or an expert's stacked weight, has a side other than the hidden size."""
    if is_linear(module):
        return weight_shape(module) != (hidden, hidden)
    return any(parameter.ndim == 3 for parameter in module.parameters(recurse=False))


def _refuse_experts(name: str, module: nn.Module) -> None:
    fused = [n for n, p in module.named_parameters() if p.ndim == 3]
    listed = [n for n, m in module.named_modules() if isinstance(m, nn.ModuleList)]
    if not fused and not listed:
        return
    what = f"{fused[0]} as one three-dimensional parameter" if fused else f"a list of experts in {listed[0]}"
    raise ModelError(
        f"{name} is a mixture of experts: it holds {what}, and every token passes through a "
        "few of them only. Edits need linear layers that see every token: choose such layers with "
        "--sites 'names=...', or take a dense model."
    )


def _by_spec(root: str, members: nn.ModuleList, spec: str, last: range, model: Any) -> list[Named]:
    everything = list(_linears(root, members))
    items = [item.strip() for item in spec.split(",") if item.strip()]
    filters = dict(item.split("=", 1) for item in items if "=" in item)
    patterns = [item for item in items if "=" not in item]
    unknown = [key for key in filters if key not in _KEYS]
    if unknown or (filters and patterns) or not items:
        raise ModelError(
            f"cannot read the sites {spec!r}. Expected patterns such as '*.27.mlp.down_proj', "
            "or filters such as 'blocks=20-25,names=down_proj|gate_proj'."
        )
    numbers = _numbers(filters["blocks"], len(members)) if "blocks" in filters else set(last)
    if filters and "names" not in filters:
        chosen = _mlp_of(root, members, numbers, model)
    else:
        patterns = filters["names"].split("|") if filters else patterns
        within = [(n, m) for n, m in everything if not filters or _site(n, m, root).block in numbers]
        chosen = [(n, m) for n, m in within if any(_matches(n, pattern) for pattern in patterns)]
    return _part_of(chosen, filters.get("part", "whole"), model)


def _part_of(found: list[Named], part: str, model: Any) -> list[Named]:
    """All of an MLP's linears, or those alone that end in the hidden size."""
    if part not in ("whole", "output"):
        raise ModelError(f"no part {part!r} of an MLP. Expected whole or output.")
    width = int(model.config.get_text_config().hidden_size)
    return [(n, m) for n, m in found if part == "whole" or weight_shape(m)[0] == width]


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"*.{pattern}")


def _numbers(text: str, count: int) -> set[int]:
    """The blocks of ``20-25|28`` or ``-6--1``; a number below zero counts from the end."""
    found: set[int] = set()
    for part in text.split("|"):
        match = re.fullmatch(r"(-?\d+)(?:-(-?\d+))?", part.strip())
        if not match:
            raise ModelError(
                f"cannot read the blocks {text!r}. Expected numbers and ranges such as '20-25|28'."
            )
        start, end = (int(x) + count * x.startswith("-") for x in (match[1], match[2] or match[1]))
        if start > end or end >= count:
            raise ModelError(f"no blocks {part!r}: this model has the blocks 0 to {count - 1}.")
        found.update(range(max(start, 0), end + 1))  # a short model has fewer before its last
    return found


def _names(linears: Iterator[Named] | list[Named]) -> str:
    """The distinct names of linear layers, with every number as ``*``."""
    names = sorted({re.sub(r"\.\d+(?=\.)", ".*", name) for name, _ in linears})
    return ", ".join(names) or "no linear layer"
