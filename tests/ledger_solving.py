"""The one update of edits whose rows are at hand."""

from collections.abc import Iterable

from instructedit.delta import LowRankDelta
from instructedit.hypernetwork import Hypernetwork
from instructedit.ledger.solving import Rounds, add_up, solve_sums


def solve_together(network: Hypernetwork, edits: Iterable[Rounds]) -> LowRankDelta:
    """The one update (b = 1) of all edits."""
    return solve_sums(network, add_up(network, edits))
