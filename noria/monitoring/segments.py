"""Reads what the recorder sealed: Arrow files of inferences and of truths. The columns are serving's, see docs/internals/serving.md.

pyarrow is imported at first use: most of the control plane never needs it.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from noria.kernel.errors import Invalid

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
INPUT = "in_"


class Inferences(Struct, frozen=True, kw_only=True):
    """The rows of one inference segment, by column. Missing numbers are NaN, missing words None."""

    revision_id: str
    model_version: str
    prediction_ids: list[str]
    is_shadow: NDArray[np.bool_]
    at_ms: Ints
    event_at_ms: Ints
    keys: list[str | None]
    predictions: list[str | None]
    scores: Floats
    classes: list[str]  # of a classifier, in the order of the probabilities; empty otherwise
    probability: Floats | None  # one column per class
    inputs: dict[str, Any]  # NumPy columns under the names of the signature


class Truths(Struct, frozen=True, kw_only=True):
    """The rows of one truth segment, by column; `values` in the words of `canonical`."""

    prediction_ids: list[str | None]
    keys: list[str | None]
    values: list[str]
    at_ms: list[int]


def canonical(value: Any) -> str | None:
    """A prediction or a truth as one word, so that 1, 1.0 and True are the same answer."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int | float):
        number = float(value)
        if number != number:
            return None
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
    return str(value)


def number(word: str | None) -> float | None:
    """The number a truth stands for, or None for a word."""
    if word is None:
        return None
    try:
        found = float(word)
    except ValueError:
        return None
    return found if np.isfinite(found) else None


def read_inferences(data: bytes) -> Inferences:
    """The rows of an inference segment. Raises Invalid when it is none."""
    return inferences_of(read_table(data, needs=("prediction_id", "revision_id", "model_version", "at_ms", "event_at_ms")))


def inferences_of(table: Any) -> Inferences:
    """The rows of a table with the columns of an inference segment."""
    meta = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    names = set(table.column_names)
    revision_id = table.column("revision_id")[0].as_py() if table.num_rows else meta.get("revision_id", "")
    version = table.column("model_version")[0].as_py() if table.num_rows else 0
    model = meta.get("model", "")
    roles = table.column("role").to_pylist() if "role" in names else [None] * table.num_rows
    predicted = table.column("prediction").to_pylist() if "prediction" in names else [None] * table.num_rows
    return Inferences(
        revision_id=revision_id,
        model_version=f"{model}@{version}" if model else str(version),
        prediction_ids=table.column("prediction_id").to_pylist(),
        is_shadow=np.asarray([r == "shadow" for r in roles], dtype=np.bool_),
        at_ms=_ints(table, "at_ms"),
        event_at_ms=_ints(table, "event_at_ms"),
        keys=table.column("key").to_pylist() if "key" in names else [None] * table.num_rows,
        predictions=[canonical(p) for p in predicted],
        classes=[canonical(c) or "" for c in msgspec.json.decode(meta.get("classes", "[]") or "[]") or []],
        scores=as_numpy(table.column("score")) if "score" in names else np.full(table.num_rows, np.nan),
        probability=_matrix(table.column("probability")) if "probability" in names else None,
        inputs={n.removeprefix(INPUT): as_numpy(table.column(n)) for n in table.column_names if n.startswith(INPUT)},
    )


def predicted(rows: Inferences) -> Any:
    """What the model said as a column: words for a classifier, numbers otherwise."""
    values = [number(p) for p in rows.predictions]
    if rows.classes or any(v is None and p is not None for v, p in zip(values, rows.predictions, strict=True)):
        return np.asarray(rows.predictions, dtype=object)
    return np.asarray([math.nan if v is None else v for v in values])


def read_truths(data: bytes) -> Truths:
    """The rows of a truth segment that say something. Raises Invalid when it is none."""
    table = read_table(data, needs=("value", "at_ms"))
    names = set(table.column_names)
    empty: list[Any] = [None] * table.num_rows
    values = table.column("value").to_pylist()
    labels = table.column("label").to_pylist() if "label" in names else empty
    words = [canonical(v if v is not None else label) for v, label in zip(values, labels, strict=True)]
    kept = [i for i, word in enumerate(words) if word is not None]
    ids = table.column("prediction_id").to_pylist() if "prediction_id" in names else empty
    keys = table.column("key").to_pylist() if "key" in names else empty
    at_ms = table.column("at_ms").to_pylist()
    return Truths(
        prediction_ids=[ids[i] or None for i in kept],
        keys=[keys[i] or None for i in kept],
        values=[words[i] or "" for i in kept],
        at_ms=[int(at_ms[i]) for i in kept],
    )


def read_row(data: bytes, row: int) -> dict[str, Any]:
    """One row of a segment with every column, for the page of one prediction. Raises Invalid when it is not there."""
    table = read_table(data)
    if not 0 <= row < table.num_rows:
        raise Invalid(f"The segment has {table.num_rows} rows and no row {row}.")
    found: dict[str, Any] = table.slice(row, 1).to_pylist()[0]
    return found


def read_table(data: bytes, *, needs: tuple[str, ...] = ()) -> Any:
    """An Arrow file as a table. Raises Invalid when it is none, or lacks a column."""
    import pyarrow

    try:
        table = pyarrow.ipc.open_file(pyarrow.py_buffer(data)).read_all()
    except pyarrow.ArrowInvalid as cause:
        raise Invalid("The segment is not an Arrow file.") from cause
    missing = [name for name in needs if name not in table.column_names]
    if missing:
        raise Invalid(f"The segment has no column {missing[0]!r}.")
    return table


def _matrix(column: Any) -> Floats | None:
    """A column of lists of one length as a matrix; None when a row has none, or another length."""
    lists = column.combine_chunks()
    rows = len(lists)
    if not rows or lists.null_count:
        return None
    flat = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    width = len(flat) // rows
    lengths = np.diff(lists.offsets.to_numpy())
    return flat.reshape(rows, width) if width and (lengths == width).all() else None


def _ints(table: Any, name: str) -> Ints:
    found: Ints = table.column(name).to_numpy().astype(np.int64)
    return found


def is_number(kind: Any) -> bool:
    """Does a column of this Arrow type hold numbers or booleans?"""
    import pyarrow

    types = pyarrow.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def as_numpy(column: Any) -> Any:
    """A NumPy column: numbers and booleans as float64 with NaN for what is missing, everything else as objects."""
    import pyarrow

    kind = column.type
    if isinstance(column, pyarrow.Array):
        column = pyarrow.chunked_array([column])
    if pyarrow.types.is_boolean(kind):
        column = column.cast(pyarrow.int8())
    elif not is_number(kind):
        return np.asarray(column.to_pylist(), dtype=object)
    return column.to_numpy().astype(np.float64, copy=False)
