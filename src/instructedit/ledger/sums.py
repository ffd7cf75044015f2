"""What a store was last solved from, added up and kept, so that a further edit costs its own rows only.

The file may be deleted at any time: without it, or with one that does not fit, every row is read again.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version

from safetensors import SafetensorError
from torch import Tensor

from instructedit.errors import OutputError
from instructedit.hypernetwork import Hypernetwork
from instructedit.ledger.entries import Entry
from instructedit.ledger.kept import unpack_edit
from instructedit.ledger.solving import Sums, add_up
from instructedit.ledger.store import SUMS, Store
from instructedit.progress import track
from instructedit.storage import load_tensors, save_tensors

FORMAT = "instructedit-sums-1"
WORTH = 64  # edits beyond the kept sums from which they are written anew
ROOM = 1.0  # that they may take, as a share of the rows that they stand for
MOST = 1 << 30  # bytes that they may take: writing needs several times as much memory
PARTS = ("systems", "moments")


def sum_up(store: Store, network: Hypernetwork, entries: Sequence[Entry]) -> Sums:
    """The normal equations of some edits of a store: from the kept sums where none of theirs is missing here.

    To be called by the one writer. Sums that cannot be written are not kept. Errors: `DataError` when rows
    are missing or broken.
    """
    names = {_name(entry) for entry in entries}
    before, known = _load(store, network)
    if not known <= names:  # an edit that is gone leaves no trace: all is added up again
        before, known = None, frozenset()
    new = [entry for entry in entries if _name(entry) not in known]
    rows = (unpack_edit(store.read_rows(entry)).rounds for entry in track(new, "Solving"))
    sums = add_up(network, rows, before)
    rows_size = sum(entry.made["rows"]["bytes"] for entry in entries)
    if len(new) >= WORTH and _size(sums) <= min(MOST, ROOM * rows_size):
        with suppress(OutputError):
            _save(store, sums, names)
    return sums


def _name(entry: Entry) -> str:
    """An edit's id with the checksum of its rows: an id that was given up may be given again."""
    return f"{entry.id} {entry.made['rows']['sha256']}"


def _size(sums: Sums) -> int:
    parts = [part for rounds in (sums.systems, sums.moments) for sites in rounds for part in sites.values()]
    return sum(part.nbytes for part in parts)


def _facts(store: Store) -> dict[str, str]:
    """What else the sums depend on: the editor, and the code that makes them."""
    return {
        "format": FORMAT,
        "version": version("instructedit"),
        "editor": store.facts["editor"]["checksum"],
    }


def _save(store: Store, sums: Sums, names: set[str]) -> None:
    tensors = {
        f"{number}.{site}.{part}": tensor.cpu()
        for part in PARTS
        for number, sites in enumerate(getattr(sums, part))
        for site, tensor in sites.items()
    }
    facts = {**_facts(store), "edits": json.dumps(sorted(names)), "sha256": _digest(tensors)}
    save_tensors(store.folder / SUMS, tensors, facts)


def _load(store: Store, network: Hypernetwork) -> tuple[Sums | None, frozenset[str]]:
    """The kept sums and the edits in them; nothing where there are none, or they are not to be trusted."""
    path = store.folder / SUMS
    try:
        tensors, facts = load_tensors(path)
        names = frozenset(json.loads(facts.pop("edits", "[]")))
    except (OSError, SafetensorError, ValueError, TypeError):
        return None, frozenset()
    if facts != {**_facts(store), "sha256": _digest(tensors)}:
        return None, frozenset()
    device = next(network.parameters()).device
    found: dict[str, list[dict[str, Tensor]]] = {part: [] for part in PARTS}
    for name, tensor in tensors.items():
        number, _, rest = name.partition(".")
        site, _, part = rest.rpartition(".")
        while len(found[part]) <= int(number):
            found[part].append({})
        found[part][int(number)][site] = tensor.to(device)
    return Sums(**found), names


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).numpy().tobytes())
    return digest.hexdigest()
