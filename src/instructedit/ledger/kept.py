"""What an edit is solved from, read once on the unedited model and kept as a file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from safetensors.torch import load, save
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.opinions import Opinion, is_opinion, read_opinions
from instructedit.editors.patches import Patch, Patches, start_patches
from instructedit.ledger.room import FORMAT, OWN, READS, read_head
from instructedit.ledger.solving import Rounds
from instructedit.site_rows import SiteRows
from instructedit.types import EditCase

ROWS, NEURONS = ("keys", "values", "fixed"), (READS, "writes")  # names of tensors, by what they are of
TOPIC = "topic"  # as `OWN`, stands before a layer's name in the place of a round's number
KEY, SENTIMENT = "key", "sentiment"
DTYPES = {"float16": torch.float16, "float32": torch.float32}
LARGEST = 6e4  # what float16 holds


@dataclass(frozen=True)
class Kept:
    """Rows of one or more rounds, neurons of its own, or an opinion: an edit has one of these.

    `room` is how many neurons the edits of a store can take, by the layer that those of a block read with.
    """

    rounds: Rounds = field(default_factory=list)
    patches: Patches = field(default_factory=dict)
    opinion: Opinion | None = None
    room: Mapping[str, int] = field(default_factory=dict)


@torch.no_grad()
def read_edit(editor: InstructedEditor, backbone: Backbone, case: EditCase, instruction: str) -> Kept:
    """What an edit alone is solved from, as if there were no others.

    A fact's own neurons, where the editor gives it such (`PatchMaker`), or an opinion, where it has learned
    of them; else rows (`InstructedEditor.rows`).
    An edit that does not take by itself is made once more under its own update, up to the editor's `rounds`.
    What is written as rows is made stronger at last (`WriteConfig.strength`): together edits take from one
    another, and none may depend on which others there are.
    """
    if is_opinion(editor, case):
        return Kept(opinion=read_opinions(editor, backbone, [case], [instruction])[0])
    return _read_patches(editor, backbone, case, instruction) or Kept(
        _read_rounds(editor, backbone, case, instruction)
    )


def _read_patches(
    editor: InstructedEditor, backbone: Backbone, case: EditCase, instruction: str
) -> Kept | None:
    maker = start_patches(backbone, editor.config)
    practice = editor.texts.practice(backbone, case, instruction) if maker else None
    if maker is None or practice is None:
        return None
    wide = maker.writer.backbone

    def taken(change: LowRankDelta) -> bool:
        return editor.taken(wide, [case], change)[0]

    near, rounds = editor.texts.near(backbone, case), maker.writer.config.rounds
    patches = maker.make(case, practice, near, taken, rounds)
    return Kept(patches=patches, room=maker.room) if patches else None


def _read_rounds(editor: InstructedEditor, backbone: Backbone, case: EditCase, words: str) -> Rounds:
    found = editor.rows(backbone, [case], [words])
    delta = editor.hypernetwork.solve(found[0])
    while len(found) < editor.config.rounds and not editor.taken(backbone, [case], delta)[0]:
        found += editor.rows(backbone, [case], [words], under=delta)
        delta = delta + editor.hypernetwork.solve(found[-1])
    strength = editor.config.write.strength if editor.writes(case) else 1.0
    return [{name: rows.scale(strength) for name, rows in sites.items()} for sites in found]


def pack_edit(kept: Kept, precision: str = "float16") -> bytes:
    """One edit as a safetensors file: tensors ``round.site.part`` or ``neurons.layer.part``, ``[n d]`` each.

    Of an opinion: ``topic.site.key`` ``[d_in]``, and ``topic.sentiment``.
    Rows of zeros are left out. A tensor that half precision cannot hold stays in float32. The room for
    neurons stands in the head.
    """
    tensors = {**_rows(kept.rounds), **_neurons(kept.patches), **_opinion(kept.opinion)}
    narrow = {name: _narrow(tensor, DTYPES[precision]) for name, tensor in tensors.items()}
    room = {"room": json.dumps(dict(kept.room))} if kept.room else {}
    return save(narrow, {"format": FORMAT, **room})


def unpack_edit(data: bytes) -> Kept:
    """What `pack_edit` wrote, in float32, without the room. Errors: `DataError` for another format."""
    read_head(data)
    found: dict[str, dict[str, dict[str, Tensor]]] = {}
    for name, tensor in load(data).items():
        number, _, rest = name.partition(".")
        site, _, part = rest.rpartition(".")
        found.setdefault(number, {}).setdefault(site, {})[part] = tensor.float()
    patches = {layer: Patch(**parts) for layer, parts in found.pop(OWN, {}).items()}
    topic = found.pop(TOPIC, None)
    sentiment = float(topic.pop("")[SENTIMENT]) if topic else 0.0
    opinion = Opinion({site: parts[KEY] for site, parts in topic.items()}, sentiment) if topic else None
    return Kept([_site_rows(found[number]) for number in sorted(found, key=int)], patches, opinion)


def _rows(rounds: Rounds) -> dict[str, Tensor]:
    return {
        f"{number}.{site}.{part}": tensor[0]
        for number, sites in enumerate(rounds)
        for site, rows in sites.items()
        for part in ROWS
        if (tensor := getattr(rows, part)) is not None and tensor.shape[1]
    }


def _neurons(patches: Patches) -> dict[str, Tensor]:
    pairs = ((layer, patch, part) for layer, patch in patches.items() for part in NEURONS)
    return {f"{OWN}.{layer}.{part}": getattr(patch, part) for layer, patch, part in pairs}


def _opinion(opinion: Opinion | None) -> dict[str, Tensor]:
    if opinion is None:
        return {}
    keys = {f"{TOPIC}.{site}.{KEY}": key for site, key in opinion.keys.items()}
    return {**keys, f"{TOPIC}.{SENTIMENT}": torch.tensor(opinion.sentiment)}


def _site_rows(sites: Mapping[str, Mapping[str, Tensor]]) -> dict[str, SiteRows]:
    return {
        site: SiteRows(**{part: tensor[None] for part, tensor in parts.items()})
        for site, parts in sites.items()
    }


def _narrow(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    fits = dtype != torch.float16 or float(tensor.abs().max()) < LARGEST
    return tensor.to("cpu", dtype if fits else torch.float32, copy=True).contiguous()
