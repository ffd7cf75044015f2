"""The options of a cut of ranks, which commands that write adapters share."""

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter

from instructedit.errors import DataError

Rank = Annotated[int | None, Parameter(help="Cut every layer's LoRA to this rank.")]
Energy = Annotated[
    float | None,
    Parameter(
        help="Without --rank: cut to the least rank with this share of the squared norm. Left out, 0.9999 "
        "where no edit shows it, else the whole."
    ),
]


def cut_options(
    to: str, forms: Sequence[str], why: str, rank: int | None, energy: float | None
) -> dict[str, Any]:
    """What a writer is told about ranks; `why` says it of a form that is none of those with ranks, `forms`.

    Errors: `DataError` for a cut of such a form, and for both cuts at once.
    """
    if rank is not None and energy is not None:
        raise DataError(
            f"--rank {rank} and --energy {energy} were both given. Expected one of them: a rank for every "
            "layer, or a share of the squared norm."
        )
    given = {name: value for name, value in (("rank", rank), ("energy", energy)) if value is not None}
    if given and to not in forms:
        raise DataError(
            f"--to {to} {why}. Leave {' and '.join(f'--{name}' for name in given)} out, or export --to "
            f"{' or '.join(forms)}."
        )
    return given
