"""The result of an evaluation: one row a probe, kept in Parquet."""

import math
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from instructedit.errors import DataError
from instructedit.storage import write_atomic

Row = dict[str, Any]
LABELS = {  # column -> Arrow type
    "condition": "string",  # of a comparison of two evaluations, else empty
    "case": "int32",  # the case's place in the evaluated list
    "case_id": "string",
    "task": "string",
    "kind": "string",
    "scope": "string",
    "subject": "string",  # what intervals resample, where a case has one
    "group": "string",
    "name": "string",
    "prompt": "string",
    "answer": "string",
    "instruction": "string",  # the one that the edit was made with
    "instructed": "bool",  # whether it was also left in the test prompt
}
METRICS = (
    "exact",
    "accuracy",
    "log_prob",
    "unchanged",
    "unchanged_exact",
    "kl",
    "win_rate",
    "sentiment_score",
    "good_log_prob",
    "bad_log_prob",
    "generation",
    "fluency",
)
SIDES = ("base", "edited")
VALUES = tuple(f"{side}_{metric}" for metric in METRICS for side in SIDES)
TEXTS = tuple(f"{side}_text" for side in SIDES)


def make_row(labels: Mapping[str, Any], values: Mapping[str, float | str]) -> Row:
    """A row with every column: a metric that does not apply (or is NaN) is None."""
    row: Row = {name: labels.get(name, False if kind == "bool" else "") for name, kind in LABELS.items()}
    row |= dict.fromkeys((*VALUES, *TEXTS))
    return row | {name: x for name, x in values.items() if isinstance(x, str) or not math.isnan(x)}


def write_rows(path: Path | str, rows: Iterable[Row]) -> None:
    """Write rows as one Parquet file, whole or not at all.

    Errors: `OutputError` when the disk is full or writing is not allowed.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [
        (name, {"int32": pa.int32(), "bool": pa.bool_()}.get(kind, pa.string()))
        for name, kind in LABELS.items()
    ]
    fields += [(name, pa.float64()) for name in VALUES] + [(name, pa.string()) for name in TEXTS]
    buffer = BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema=pa.schema(fields)), buffer, compression="zstd")
    write_atomic(Path(path), buffer.getvalue())


def read_rows(path: Path | str) -> list[Row]:
    """Read what `write_rows` wrote.

    Errors: `DataError` when the file is missing, is not Parquet, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(BytesIO(Path(path).read_bytes()))
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"cannot read the rows in {path}: {error}. Expected a Parquet file that an evaluation wrote."
        ) from error
    missing = [name for name in (*LABELS, *VALUES, *TEXTS) if name not in table.column_names]
    if missing:
        raise DataError(
            f"{path} lacks the columns {', '.join(missing[:5])}. Expected rows of this version: evaluate "
            "again."
        )
    return table.to_pylist()


def select(rows: Sequence[Row], **labels: Any) -> list[Row]:
    """The rows whose labels have the given values: ``select(rows, group="locality", instructed=False)``."""
    return [row for row in rows if all(row[name] == value for name, value in labels.items())]
