"""Rows that a model is asked about, and what it says of them: the form between the protocols and the models.

A request becomes `Rows`: one float64 matrix when every feature is a number and the model takes it so, else columns of plain
values. What does not fit the signature is Invalid, naming the column.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from noria.kernel.errors import Invalid

Floats = NDArray[np.float64]
Kind = Literal["number", "integer", "boolean", "text", "datetime", "any"]
EXACT_INT = 1 << 53  # beyond this a 64-bit float no longer holds every integer
ROWS_MAX = 100_000  # in one request

# MLflow's types of columns that rows can hold, each with what it is here and in a table.
_KINDS: dict[str, tuple[Kind, str]] = {
    "double": ("number", "float64"), "float": ("number", "float32"), "long": ("integer", "int64"), "integer": ("integer", "int32"),
    "boolean": ("boolean", "bool"), "string": ("text", "object"), "datetime": ("datetime", "datetime64[ns]"),
}  # fmt: skip
_NUMERIC: frozenset[Kind] = frozenset({"number", "integer", "boolean"})
_ALLOWED: dict[Kind, frozenset[type]] = {
    "number": frozenset({float, int, type(None)}),
    "integer": frozenset({int, float}),
    "boolean": frozenset({bool, int}),
    "text": frozenset({str, type(None)}),
    "datetime": frozenset({str, type(None)}),
}


class Column(Struct, frozen=True):
    """One feature of a signature."""

    name: str
    kind: Kind
    required: bool = True
    dtype: str = "float64"  # of a number or an integer


class Schema(Struct, frozen=True):
    """What a model takes: named columns, or rows of `width` unnamed numbers; `is_free`: nobody said, or it is too rich for rows."""

    columns: tuple[Column, ...] = ()
    is_named: bool = True
    is_free: bool = False
    dtype: str = "float64"  # of unnamed numbers
    params: tuple[str, ...] = ()  # names of what may be sent beside the rows

    @property
    def names(self) -> list[str]:
        return [c.name for c in self.columns]

    @property
    def is_numeric(self) -> bool:
        return bool(self.columns) and all(c.kind in _NUMERIC for c in self.columns)


class Wanted(Struct, frozen=True):
    """An output that a caller of V2 names."""

    name: str
    is_binary: bool | None = None


class Rows(Struct):
    """A decoded request: either `matrix` (n × columns) or `columns`; `raw` when the model has no schema."""

    n: int
    request_id: str = ""
    row: list[Any] | None = None  # a single row of numbers, cheaper than a matrix of one
    matrix: Floats | None = None
    columns: list[list[Any]] | None = None
    raw: Any = None
    outputs: tuple[Wanted, ...] = ()
    is_binary: bool = False  # the caller of V2 wants tensors as bytes, unless it says otherwise of one
    params: dict[str, Any] | None = None
    absent: tuple[str, ...] = ()  # optional columns that were not sent
    is_stream: bool = False  # wanted bit by bit
    is_unwrapped: bool = False  # a chat or completion, which is answered as it is


class Outputs(Struct):
    """What a model said of n rows."""

    prediction: NDArray[Any]
    extra: dict[str, NDArray[Any]] = {}  # further columns of a model that returns a table
    probability: Floats | None = None
    score: Floats | None = None
    said_rows: list[Any] | None = None  # what /invocations says of each row, where it is not the prediction alone
    status: int = 200  # for the record
    said_whole: Any = None  # or of the whole request, which then was alone in its batch
    is_whole: bool = False


def read_schema(signature: dict[str, Any] | None) -> Schema:
    """The schema of an MLmodel signature (already parsed from JSON); free when there is none or it is too rich."""
    params = tuple(p["name"] for p in (signature or {}).get("params") or [])
    inputs = (signature or {}).get("inputs") or []
    if inputs and inputs[0].get("type") == "tensor":
        return structs.replace(_tensor_schema(inputs), params=params)
    if not inputs or any("name" not in i or i["type"] not in _KINDS for i in inputs):
        return Schema(is_free=True, params=params)
    columns = tuple(Column(i["name"], _KINDS[i["type"]][0], i.get("required", True), _KINDS[i["type"]][1]) for i in inputs)
    return Schema(columns, params=params)


def _tensor_schema(inputs: list[dict[str, Any]]) -> Schema:
    spec = inputs[0].get("tensor-spec", {})
    shape, dtype = spec.get("shape", []), str(spec.get("dtype", ""))
    is_table = len(inputs) == 1 and len(shape) == 2 and isinstance(shape[1], int) and shape[1] >= 1
    if not is_table or "name" in inputs[0] or not dtype.startswith(("float", "int")):
        return Schema(is_free=True)
    return structs.replace(unnamed(shape[1]), dtype=dtype)


def unnamed(width: int) -> Schema:
    """Rows of `width` numbers."""
    return Schema(tuple(Column(str(i), "number") for i in range(width)), is_named=False)


def transposed(rows: list[list[Any]], width: int) -> list[list[Any]]:
    for i, row in enumerate(rows):
        if type(row) is not list or len(row) != width:
            size = len(row) if isinstance(row, list) else 1
            raise Invalid(f"Row {i} has {size} values; {width} are needed.", where=f"row {i}")
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def from_rows(rows: list[list[Any]], names: list[str] | None, schema: Schema, as_matrix: bool) -> Rows:
    wanted = schema.names
    if names is None or names == wanted or not schema.is_named:
        return _checked(transposed(rows, len(wanted)), len(rows), schema, as_matrix)
    if len(set(names)) != len(names):
        raise Invalid("A column is named twice.", where="columns")
    return from_columns(dict(zip(names, transposed(rows, len(names)), strict=True)), schema, as_matrix)


def from_columns(columns: dict[str, list[Any]], schema: Schema, as_matrix: bool) -> Rows:
    """Columns by name, in the signature's order; further ones are ignored, as MLflow does."""
    n = len(next(iter(columns.values()), []))
    ordered: list[list[Any]] = []
    absent: list[str] = []
    for column in schema.columns:
        values = columns.get(column.name)
        if values is None:
            if column.required:
                raise Invalid(f"The column {column.name!r} is missing.", where=column.name, hint=needs(schema))
            values = [None] * n
            absent.append(column.name)
        elif len(values) != n:
            raise Invalid(f"The column {column.name!r} has {len(values)} values; others have {n}.", where=column.name)
        ordered.append(values)
    rows = _checked(ordered, n, schema, as_matrix)
    rows.absent = tuple(absent)
    return rows


def needs(schema: Schema) -> str:
    return "The model takes " + ", ".join(f"{c.name} ({c.kind})" for c in schema.columns[:40]) + "."


def check_count(n: int) -> None:
    """Raises Invalid for no rows, and for too many."""
    if n == 0:
        raise Invalid("The request has no rows.")
    if n > ROWS_MAX:
        raise Invalid(f"The request has {n} rows; at most {ROWS_MAX} are taken at once.", hint="Send several requests.")


def _checked(columns: list[list[Any]], n: int, schema: Schema, as_matrix: bool) -> Rows:
    check_count(n)
    for column, values in zip(schema.columns, columns, strict=True):
        _check_values(column, values, as_matrix)
    if not as_matrix:
        return Rows(n, columns=columns)
    if n == 1:
        return Rows(1, row=[math.nan if c[0] is None else c[0] for c in columns])
    return Rows(n, matrix=np.array(columns, dtype=np.float64).T)  # None becomes NaN


def _check_values(column: Column, values: list[Any], as_matrix: bool) -> None:
    kind = column.kind
    if kind == "any":
        return
    found = {type(values[0])} if len(values) == 1 else set(map(type, values))
    if not column.required:
        found.discard(type(None))
    if not found <= _ALLOWED[kind]:
        raise _mismatch(column, next(v for v in values if type(v) not in _ALLOWED[kind]))
    if kind == "integer":
        for v in values:
            if v is not None and (v != int(v) if math.isfinite(v) else True):
                raise _mismatch(column, v)
            if v is not None and not -EXACT_INT <= v <= EXACT_INT and (as_matrix or not -(1 << 63) <= v < 1 << 63):
                raise Invalid(f"The column {column.name!r} holds {v}, too large to be exact.", where=column.name)
            if v is not None and column.dtype == "int32" and not -(1 << 31) <= v < 1 << 31:
                raise Invalid(f"The column {column.name!r} is an integer of 32 bits; {v} is too large.", where=column.name)
    elif kind == "number" and int in found:
        for v in values:
            if type(v) is int and not -EXACT_INT <= v <= EXACT_INT and abs(v) > 1 << 1000:
                raise Invalid(f"The column {column.name!r} holds a number that is too large.", where=column.name)


def _mismatch(column: Column, value: Any) -> Invalid:
    """The column, what it takes, what was sent, and what to do."""
    article = "an" if column.kind == "integer" else "a"
    shown = (
        str(value).lower()
        if isinstance(value, bool)
        else str(value)[:50]
        if not isinstance(value, str)
        else repr(value[:50])
    )
    sent = "nothing (null)" if value is None else f"{shown}, {_WORDS.get(type(value), type(value).__name__)}"
    return Invalid(
        f"The column {column.name!r} is {article} {column.kind}; it was sent {sent}.", where=column.name,
        hint=_REMEDIES["null" if value is None else column.kind],
    )  # fmt: skip


_WORDS = {str: "text", bool: "a boolean", int: "an integer", float: "a number", list: "a list", dict: "an object"}
_REMEDIES = {
    "number": "Send a JSON number, without quotes.",
    "integer": "Send a whole number, without quotes.",
    "boolean": "Send true or false, without quotes.",
    "text": "Send a string, in quotes.",
    "datetime": 'Send a time as text, such as "2026-11-27T21:40:00".',
    "null": "Send a value; or log the model with an example that has missing values, and the column becomes optional.",
}


# V2's name of each of numpy's types.
V2_TYPES = {
    np.dtype(form).char: name
    for form, name in (
        ("bool", "BOOL"), ("u1", "UINT8"), ("u2", "UINT16"), ("u4", "UINT32"), ("u8", "UINT64"), ("i1", "INT8"), ("i2", "INT16"),
        ("i4", "INT32"), ("i8", "INT64"), ("f2", "FP16"), ("f4", "FP32"), ("f8", "FP64"), ("longlong", "INT64"),
        ("ulonglong", "UINT64"),
    )
}  # fmt: skip


class Output:
    """One of the outputs of a batch; as a list once, so that each request's part is a slice."""

    __slots__ = ("_list", "array", "datatype", "name", "width")

    def __init__(self, name: str, array: NDArray[Any]) -> None:
        self.name = name
        self.array = array
        self.datatype = V2_TYPES.get(array.dtype.char, "BYTES")
        self.width = array.shape[1:]
        self._list: list[Any] | None = None

    def values(self) -> list[Any]:
        if self._list is None:
            self._list = self.array.tolist()
        return self._list


class Listed:
    """The outputs of a batch, in their order: the prediction first."""

    __slots__ = ("outputs", "prediction", "said")

    def __init__(self, outputs: Outputs) -> None:
        self.said = outputs
        self.prediction = Output("predict", outputs.prediction)
        self.outputs = [self.prediction, *(Output(name, array) for name, array in outputs.extra.items())]
        if outputs.probability is not None:
            self.outputs.append(Output("probability", outputs.probability))


def plain_json(value: Any) -> bytes:
    """An answer of a model as JSON: NaN becomes null, arrays lists, times text. Raises TypeError for what JSON does not know."""
    return _plain(value)


def _hook(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "to_dict"):
        return value.to_dict()
    raise TypeError(f"JSON has no form for a {type(value).__name__}")


_plain = msgspec.json.Encoder(enc_hook=_hook).encode


def as_text(value: Any) -> str:
    """One value of an answer as text: text as it is, the rest as JSON."""
    return value if isinstance(value, str) else plain_json(value).decode()


def output_arrays(outputs: list[Outputs], arrays: list[tuple[str, Any]], predictions: list[object]) -> None:
    """Add answers of one form to a record's arrays; predictions that are no numbers to `predictions`, as text."""
    first = outputs[0].prediction
    if first.ndim == 1 and first.dtype.kind in "fiub":
        arrays.append(("prediction", np.concatenate([o.prediction for o in outputs])))
    else:
        predictions.extend(as_text(v) for o in outputs for v in o.prediction.tolist())
    for name in ("score", "probability"):
        found = [getattr(o, name) for o in outputs]
        if all(f is not None for f in found):
            arrays.append((name, np.concatenate(found)))
