"""What an edit is solved from, read once and kept, and the one update that all edits together give."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from safetensors.torch import load, save
from torch import Tensor

from instructedit.backbone import Backbone
from instructedit.delta import LowRankDelta
from instructedit.editors.descent import dense_delta
from instructedit.editors.instructed import InstructedEditor
from instructedit.editors.many import CHUNK
from instructedit.hypernetwork import Hypernetwork
from instructedit.site_rows import SiteRows
from instructedit.types import EditCase

Rounds = list[
    dict[str, SiteRows]
]  # of one edit (b = 1), by site; a second round where the first did not take
PARTS = ("keys", "values", "fixed")
DTYPES = {"float16": torch.float16, "float32": torch.float32}
LARGEST = 6e4  # what float16 holds


@torch.no_grad()
def read_rounds(
    editor: InstructedEditor, backbone: Backbone, cases: Sequence[EditCase], instructions: Sequence[str]
) -> list[Rounds]:
    """What each case alone is solved from, made on the unedited model (`InstructedEditor.rows`).

    An edit that does not take by itself is made once more under its own update, up to the editor's `rounds`.
    What is written is made stronger at last (`WriteConfig.strength`): together edits take from one another,
    and none may depend on which others there are.
    """
    return [
        _read_rounds(editor, backbone, case, words) for case, words in zip(cases, instructions, strict=True)
    ]


def _read_rounds(editor: InstructedEditor, backbone: Backbone, case: EditCase, words: str) -> Rounds:
    found = editor.rows(backbone, [case], [words])
    delta = editor.hypernetwork.solve(found[0])
    while len(found) < editor.config.rounds and not editor.taken(backbone, [case], delta)[0]:
        found += editor.rows(backbone, [case], [words], under=delta)
        delta = delta + editor.hypernetwork.solve(found[-1])
    strength = editor.config.write.strength if editor.writes(case) else 1.0
    return [{name: rows.scale(strength) for name, rows in sites.items()} for sites in found]


def pack_rounds(rounds: Rounds, precision: str = "float16") -> bytes:
    """One edit as a safetensors file: tensors ``round.site.part``, of shape ``[n d]``.

    Rows of zeros are left out. A tensor that half precision cannot hold stays in float32.
    """
    tensors = {
        f"{number}.{site}.{part}": _narrow(tensor[0], DTYPES[precision])
        for number, sites in enumerate(rounds)
        for site, rows in sites.items()
        for part in PARTS
        if (tensor := getattr(rows, part)) is not None and tensor.shape[1]
    }
    return save(tensors, {"format": "instructedit-rows-1"})


def unpack_rounds(data: bytes) -> Rounds:
    """What `pack_rounds` wrote, in float32."""
    rounds: list[dict[str, dict[str, Tensor]]] = []
    for name, tensor in sorted(load(data).items()):
        number, _, rest = name.partition(".")
        site, _, part = rest.rpartition(".")
        while len(rounds) <= int(number):
            rounds.append({})
        rounds[int(number)].setdefault(site, {})[part] = tensor.float()[None]
    return [{site: SiteRows(**parts) for site, parts in sites.items()} for sites in rounds]


@dataclass(frozen=True)
class Sums:
    """The normal equations of edits, one a round: by site e^lambda C + sum of K.T K and sum of K.T D."""

    systems: list[dict[str, Tensor]] = field(default_factory=list)
    moments: list[dict[str, Tensor]] = field(default_factory=list)


def solve_together(network: Hypernetwork, edits: Iterable[Rounds]) -> LowRankDelta:
    """The one update (b = 1) of all edits, from the sum of their normal equations: in any order the same.

    Round r solves (e^lambda C + sum of K.T K) S = sum of K.T D over the edits that have one, and the others'
    last keys are asked to stay where they are; the update is the sum of the rounds. No edits: no change.
    Source: the normal equation of MALMEN (arXiv 2311.04661).
    """
    return solve_sums(network, add_up(network, edits))


@torch.no_grad()
def add_up(network: Hypernetwork, edits: Iterable[Rounds], before: Sums | None = None) -> Sums:
    """The normal equations of edits, and of those that `before` holds already; in any order the same."""
    systems = [dict(sites) for sites in before.systems] if before else []
    moments = [dict(sites) for sites in before.moments] if before else []
    for chunk in _chunks(edits):
        depth = max(map(len, chunk))
        while len(systems) < depth:  # those before ended a round earlier: their last keys are there
            systems.append(dict(systems[-1]) if systems else _metrics(network))
            moments.append({})
        for number in range(len(systems)):
            _add(network, chunk, number, systems[number], moments[number])
    return Sums(systems, moments)


@torch.no_grad()
def solve_sums(network: Hypernetwork, sums: Sums) -> LowRankDelta:
    """The update (b = 1) of the edits that were added up."""
    updates = {}
    for name, shape, index in network.places():
        parts = [
            shape.to_weight(index, torch.cholesky_solve(moment[name], torch.linalg.cholesky(system[name])))
            for system, moment in zip(sums.systems, sums.moments, strict=True)
            if name in moment
        ]
        whole = torch.stack(parts).sum(0) if parts else torch.zeros(shape.d_out, shape.d_in)
        updates[name] = whole[None]
    return dense_delta(updates)


def _metrics(network: Hypernetwork) -> dict[str, Tensor]:
    return {name: shape.metric(index) for name, shape, index in network.places()}


def _add(
    network: Hypernetwork,
    chunk: Sequence[Rounds],
    number: int,
    system: dict[str, Tensor],
    moment: dict[str, Tensor],
) -> None:
    """Add what some edits ask of one round to its normal equation."""
    for name, shape, index in network.places():
        found = [rows for edit in chunk if (rows := _rows_of(edit, number, name)) is not None]
        if found:
            gram, right = shape.normal_equation(index, SiteRows.concat(found).to(system[name].device))
            system[name] = system[name] + gram
            moment[name] = moment.get(name, 0) + right


def _rows_of(edit: Rounds, number: int, site: str) -> SiteRows | None:
    """An edit's rows of a round, if it has any; past its last one, the same keys are held."""
    rows = edit[min(number, len(edit) - 1)].get(site)
    return rows if rows is None or number < len(edit) else rows.hold()


def _narrow(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    fits = dtype != torch.float16 or float(tensor.abs().max()) < LARGEST
    return tensor.to("cpu", dtype if fits else torch.float32, copy=True).contiguous()


def _chunks(edits: Iterable[Rounds]) -> Iterable[list[Rounds]]:
    chunk: list[Rounds] = []
    for edit in edits:
        chunk.append(edit)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
