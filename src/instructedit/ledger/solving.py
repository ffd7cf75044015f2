"""The one update that edits give together, from the normal equations of their rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from instructedit.delta import LowRankDelta
from instructedit.editors.descent import dense_delta
from instructedit.editors.many import CHUNK
from instructedit.hypernetwork import Hypernetwork
from instructedit.site_rows import SiteRows

Rounds = list[
    dict[str, SiteRows]
]  # of one edit (b = 1), by site; a second round where the first did not take


@dataclass(frozen=True)
class Sums:
    """The normal equations of edits, one a round: by site e^lambda C + sum of K.T K and sum of K.T D."""

    systems: list[dict[str, Tensor]] = field(default_factory=list)
    moments: list[dict[str, Tensor]] = field(default_factory=list)


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
    """The one update (b = 1) of the edits that were added up; of none, no change.

    Round r solves (e^lambda C + sum of K.T K) S = sum of K.T D over the edits that have one, and the others'
    last keys are asked to stay where they are; the update is the sum of the rounds.
    Source: the normal equation of MALMEN (arXiv 2311.04661).
    """
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


def _chunks(edits: Iterable[Rounds]) -> Iterable[list[Rounds]]:
    chunk: list[Rounds] = []
    for edit in edits:
        chunk.append(edit)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
