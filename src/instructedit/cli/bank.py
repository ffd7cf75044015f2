"""``--bank``: instructions of one's own in the place of the package's."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

Banks = Annotated[tuple[Path, ...], Parameter(negative="", consume_multiple=False, show_default=False)]


@contextmanager
def using_banks(paths: Sequence[Path]) -> Iterator[None]:
    """Draw instructions from these banks for as long as the block lasts; of two for one task the last counts.

    All are read before the block begins. Errors: `DataError` as `read_bank`.
    """
    from instructedit.instructions.banks import read_bank, using_bank

    with ExitStack() as stack:
        for bank in [read_bank(path) for path in paths]:
            stack.enter_context(using_bank(bank))
        yield
