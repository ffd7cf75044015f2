"""Whether facts find neurons: how many each takes and how many a block has, from the heads of their files."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from instructedit.errors import DataError
from instructedit.ledger.entries import Entry
from instructedit.ledger.store import Store

FORMAT = "instructedit-rows-1"
OWN, READS = "neurons", "reads"  # of the name of a tensor: neurons.LAYER.reads


def read_head(data: bytes) -> dict[str, Any]:
    """The head of a file of rows: its tensors by name, and what is said of them under ``__metadata__``.

    Errors: `DataError` when it is no such file, or one of another version.
    """
    try:
        head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        found = head["__metadata__"]["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        head, found = {}, None
    if found != FORMAT:
        raise DataError(
            f"the rows of an edit have the format {found!r}; this version reads {FORMAT!r}. Expected a store "
            "that this version, or one before it, has written."
        )
    return head


def check_room(store: Store, entries: Sequence[Entry], others: Sequence[Entry]) -> None:
    """See that edits find neurons beside others in force, as far as the files say how many there are.

    Errors: `DataError` when too few are left, or a file is missing or broken.
    """
    own = [read_head(store.read_rows(one)) for one in entries if not one.solved]
    wanted = sum(map(count_neurons, own), Counter())
    if not wanted:
        return
    heads = [*own, *(read_head(store.read_rows(one)) for one in others if not one.solved)]
    taken = sum(map(count_neurons, heads), Counter())
    room = {
        layer: count
        for head in heads
        for layer, count in json.loads(head["__metadata__"].get("room", "{}")).items()
    }
    full = [layer for layer in wanted if taken[layer] > room.get(layer, taken[layer])]
    if full:
        whose = f"edit {entries[0].id} finds" if len(entries) == 1 else f"the {len(entries)} edits find"
        raise DataError(
            f"{whose} no neurons: of the {room[full[0]]} of {full[0]} too few are left by the edits in "
            "force. Nothing was changed. Undo another edit first."
        )


def count_neurons(head: dict[str, Any]) -> Counter[str]:
    """How many neurons an edit takes, by the layer that they read with."""
    names = [name for name in head if name.startswith(f"{OWN}.") and name.endswith(f".{READS}")]
    return Counter({name[len(OWN) + 1 : -len(READS) - 1]: head[name]["shape"][0] for name in names})
