"""The two ways to ask a model: Open Inference Protocol V2 and MLflow's /invocations; decoded to rows, answered in kind.

Runs in the worker. A request becomes `Rows`: one float64 matrix when every feature is a number and the model takes it so, else
columns of plain values. What does not fit the signature is Invalid, naming the column.
"""

from __future__ import annotations

import csv
import io
import math
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from noria.kernel.errors import Invalid

Floats = NDArray[np.float64]
Kind = Literal["number", "integer", "boolean", "text", "any"]
EXACT_INT = 1 << 53  # beyond this a 64-bit float no longer holds every integer
ROWS_MAX = 100_000  # in one request

_KINDS: dict[str, Kind] = {
    "double": "number", "float": "number", "integer": "integer", "long": "integer", "boolean": "boolean", "string": "text",
    "datetime": "text",
}  # fmt: skip
_NUMERIC: frozenset[Kind] = frozenset({"number", "integer", "boolean"})
_V2_TYPES: dict[str, str] = {"number": "FP64", "integer": "INT64", "boolean": "BOOL", "text": "BYTES", "any": "BYTES"}
_NUMPY_V2: dict[str, str] = {
    "float64": "FP64", "float32": "FP32", "float16": "FP16", "int64": "INT64", "int32": "INT32", "int16": "INT16",
    "int8": "INT8", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "bool": "BOOL",
}  # fmt: skip
_V2_KNOWN = frozenset({*_NUMPY_V2.values(), "BYTES"})
_ALLOWED: dict[Kind, frozenset[type]] = {
    "number": frozenset({float, int, type(None)}),
    "integer": frozenset({int, float}),
    "boolean": frozenset({bool, int}),
    "text": frozenset({str, type(None)}),
}


class Column(Struct, frozen=True):
    """One feature of a signature."""

    name: str
    kind: Kind
    required: bool = True


class Schema(Struct, frozen=True):
    """What a model takes: named columns, or rows of `width` unnamed numbers; `is_free`: nobody said."""

    columns: tuple[Column, ...] = ()
    is_named: bool = True
    is_free: bool = False

    @property
    def names(self) -> list[str]:
        return [c.name for c in self.columns]

    @property
    def is_numeric(self) -> bool:
        return bool(self.columns) and all(c.kind in _NUMERIC for c in self.columns)


class Rows(Struct):
    """A decoded request: either `matrix` (n × columns) or `columns`; `raw` when the model has no schema."""

    n: int
    request_id: str = ""
    row: list[Any] | None = None  # a single row of numbers, cheaper than a matrix of one
    matrix: Floats | None = None
    columns: list[list[Any]] | None = None
    raw: Any = None
    outputs: tuple[str, ...] = ()


class Outputs(Struct):
    """What a model said of n rows."""

    prediction: NDArray[Any]
    extra: dict[str, NDArray[Any]] = {}  # further columns of a model that returns a table
    probability: Floats | None = None
    score: Floats | None = None


class _Tensor(Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class _Wanted(Struct):
    name: str


class _Infer(Struct):
    inputs: list[_Tensor]
    id: str = ""
    outputs: list[_Wanted] = field(default_factory=list)


class _Split(Struct):
    data: list[list[Any]]
    columns: list[str] | None = None


class _Invocation(Struct):
    dataframe_split: _Split | None = None
    dataframe_records: list[dict[str, Any]] | None = None
    inputs: Any = None
    instances: Any = None
    params: Any = None


_infer = msgspec.json.Decoder(_Infer).decode
_invocation = msgspec.json.Decoder(_Invocation).decode
_json = msgspec.json.Encoder().encode


def read_schema(signature: dict[str, Any] | None) -> Schema:
    """The schema of an MLmodel signature's inputs (already parsed from JSON); free when there is none or it is too rich."""
    inputs = signature.get("inputs") if signature else None
    if not inputs:
        return Schema(is_free=True)
    if inputs[0].get("type") == "tensor":
        return _tensor_schema(inputs)
    if any("name" not in i for i in inputs):
        return Schema(is_free=True)
    return Schema(tuple(Column(i["name"], _KINDS.get(i["type"], "any"), i.get("required", True)) for i in inputs))


def _tensor_schema(inputs: list[dict[str, Any]]) -> Schema:
    spec = inputs[0].get("tensor-spec", {})
    shape, dtype = spec.get("shape", []), str(spec.get("dtype", ""))
    if (
        len(inputs) != 1
        or len(shape) != 2
        or not isinstance(shape[1], int)
        or shape[1] < 1
        or not dtype.startswith(("float", "int"))
    ):
        return Schema(is_free=True)
    return unnamed(shape[1])


def unnamed(width: int) -> Schema:
    """Rows of `width` numbers."""
    return Schema(tuple(Column(str(i), "number") for i in range(width)), is_named=False)


# --- in -----------------------------------------------------------------------------------------------------------------


def decode(protocol: str, content_type: str, body: bytes, schema: Schema, *, as_matrix: bool) -> Rows:
    """A request's body as rows. Raises Invalid, naming the column at fault."""
    try:
        if protocol == "v2":
            return _decode_v2(_infer(body), schema, as_matrix)
        if content_type.startswith("text/csv"):
            return _decode_csv(body, schema, as_matrix)
        return _decode_invocation(_invocation(body), schema, as_matrix)
    except (msgspec.DecodeError, UnicodeDecodeError) as cause:
        raise Invalid(f"The body cannot be read: {cause}.", hint=_FORM[protocol]) from cause


_FORM = {
    "v2": 'Send {"inputs": [{"name": …, "shape": [n], "datatype": "FP64", "data": […]}, …]}.',
    "invocations": "Send one of dataframe_split, dataframe_records, inputs or instances, or text/csv.",
}


def _decode_v2(asked: _Infer, schema: Schema, as_matrix: bool) -> Rows:
    tensors = asked.inputs
    if not tensors:
        raise Invalid("The request has no inputs.", where="inputs")
    outputs = tuple(o.name for o in asked.outputs)
    if schema.is_free:
        rows = Rows(_count(tensors[0]), raw=[(t.name, _nested(t), t.datatype) for t in tensors])
    elif len(tensors) == 1 and len(tensors[0].shape) == 2 and (tensors[0].shape[1] > 1 or not schema.is_named):
        tensor, width = tensors[0], len(schema.columns)
        if tensor.shape[1] != width:
            raise Invalid(
                f"The tensor {tensor.name!r} has {tensor.shape[1]} columns; the model takes {width}.", where=tensor.name
            )
        flat = _flat(tensor)
        rows = _from_rows([flat[i : i + width] for i in range(0, len(flat), width)], None, schema, as_matrix)
    elif not schema.is_named:
        raise Invalid(f"The model takes one tensor of shape [n, {len(schema.columns)}].", where=tensors[0].name)
    else:
        rows = _from_columns({t.name: _column(t) for t in tensors}, schema, as_matrix)
    rows.request_id, rows.outputs = asked.id, outputs
    return rows


def _column(tensor: _Tensor) -> list[Any]:
    shape = tensor.shape
    if tensor.datatype not in _V2_KNOWN:
        raise Invalid(f"{tensor.name!r} has the datatype {tensor.datatype!r}, which V2 does not know.", where=tensor.name)
    if not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
        raise Invalid(f"{tensor.name!r} has the shape {shape}; a column is [n] or [n, 1].", where=tensor.name)
    data = tensor.data
    if len(shape) == 2 and data and type(data[0]) is list:
        data = _flat(tensor)
    if len(data) != shape[0]:
        raise Invalid(f"{tensor.name!r} has {len(data)} values, but its shape says {shape[0]}.", where=tensor.name)
    return data


def _count(tensor: _Tensor) -> int:
    return tensor.shape[0] if tensor.shape else 1


def _flat(tensor: _Tensor) -> list[Any]:
    data = tensor.data
    while data and type(data[0]) is list:
        if not all(type(d) is list for d in data):
            raise Invalid(f"{tensor.name!r} is nested unevenly.", where=tensor.name)
        data = [v for d in data for v in d]
    if len(data) != math.prod(tensor.shape) or min(tensor.shape, default=0) < 0:
        raise Invalid(f"{tensor.name!r} has {len(data)} values, but its shape says {tensor.shape}.", where=tensor.name)
    return data


def _nested(tensor: _Tensor) -> Any:
    return np.array(_flat(tensor)).reshape(tensor.shape)


def _decode_csv(body: bytes, schema: Schema, as_matrix: bool) -> Rows:
    lines = list(csv.reader(io.StringIO(body.decode())))
    lines = [line for line in lines if line]
    if len(lines) < 2:
        raise Invalid("The CSV needs a line of column names and at least one row.")
    names, found = lines[0], lines[1:]
    for i, line in enumerate(found):
        if len(line) != len(names):
            raise Invalid(f"Row {i + 1} of the CSV has {len(line)} fields; the header has {len(names)}.")
    kinds = {c.name: c.kind for c in schema.columns}
    read = {name: [_from_text(line[i], kinds.get(name, "any"), name) for line in found] for i, name in enumerate(names)}
    if schema.is_free:
        return Rows(len(found), raw=read)
    if not schema.is_named:
        rows = [[_from_text(v, "number", str(i)) for i, v in enumerate(line)] for line in found]
        return _from_rows(rows, None, schema, as_matrix)
    return _from_columns(read, schema, as_matrix)


def _from_text(text: str, kind: Kind, name: str) -> Any:
    if kind == "text":
        return text
    if not text:
        return None
    if kind == "boolean" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text) if kind == "integer" else float(text)
    except ValueError as cause:
        if kind == "any":
            return text
        raise Invalid(f"The column {name!r} is a {kind}; {text[:50]!r} is not.", where=name) from cause


def _decode_invocation(asked: _Invocation, schema: Schema, as_matrix: bool) -> Rows:
    given = [n for n in ("dataframe_split", "dataframe_records", "inputs", "instances") if getattr(asked, n) is not None]
    if len(given) != 1:
        raise Invalid(
            "Send exactly one of dataframe_split, dataframe_records, inputs and instances.", hint=_FORM["invocations"]
        )
    if asked.dataframe_split is not None:
        split = asked.dataframe_split
        if schema.is_free:
            names = split.columns or [str(i) for i in range(len(split.data[0]) if split.data else 0)]
            return Rows(len(split.data), raw=dict(zip(names, _transposed(split.data, len(names)), strict=True)))
        return _from_rows(split.data, split.columns, schema, as_matrix)
    if asked.dataframe_records is not None:
        return _from_records(asked.dataframe_records, schema, as_matrix)
    return _from_any(asked.inputs if asked.inputs is not None else asked.instances, schema, as_matrix)


def _from_any(value: Any, schema: Schema, as_matrix: bool) -> Rows:
    """`inputs` or `instances`: a list of rows, a list of records, or a dict of columns."""
    if isinstance(value, dict):
        columns = {str(k): v if isinstance(v, list) else [v] for k, v in value.items()}
        if schema.is_free:
            return Rows(len(next(iter(columns.values()), [])), raw=columns)
        return _from_columns({k: _unnest(v, k) for k, v in columns.items()}, schema, as_matrix)
    if not isinstance(value, list) or not value:
        raise Invalid("The request has no rows.", hint=_FORM["invocations"])
    if isinstance(value[0], dict):
        return _from_records(value, schema, as_matrix)
    if schema.is_free:
        return Rows(len(value), raw=np.array(value) if not isinstance(value[0], str) else value)
    rows = value if isinstance(value[0], list) else [[v] for v in value]
    return _from_rows(rows, None, schema, as_matrix)


def _unnest(values: list[Any], name: str) -> list[Any]:
    if values and all(isinstance(v, list) and len(v) == 1 for v in values):
        return [v[0] for v in values]
    return values


def _from_records(records: list[dict[str, Any]], schema: Schema, as_matrix: bool) -> Rows:
    if not all(isinstance(r, dict) for r in records):
        raise Invalid("Every record must be an object of columns.", hint=_FORM["invocations"])
    names = schema.names or list(dict.fromkeys(k for r in records for k in r))
    present = {name for r in records for name in r}
    columns = {name: [r.get(name) for r in records] for name in names if name in present}
    if schema.is_free:
        return Rows(len(records), raw=columns)
    return _from_columns(columns, schema, as_matrix)


def _transposed(rows: list[list[Any]], width: int) -> list[list[Any]]:
    for i, row in enumerate(rows):
        if type(row) is not list or len(row) != width:
            size = len(row) if isinstance(row, list) else 1
            raise Invalid(f"Row {i} has {size} values; {width} are needed.", where=f"row {i}")
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def _from_rows(rows: list[list[Any]], names: list[str] | None, schema: Schema, as_matrix: bool) -> Rows:
    wanted = schema.names
    if names is None or names == wanted or not schema.is_named:
        return _checked(_transposed(rows, len(wanted)), len(rows), schema, as_matrix)
    if len(set(names)) != len(names):
        raise Invalid("A column is named twice.", where="columns")
    return _from_columns(dict(zip(names, _transposed(rows, len(names)), strict=True)), schema, as_matrix)


def _from_columns(columns: dict[str, list[Any]], schema: Schema, as_matrix: bool) -> Rows:
    """Columns by name, in the signature's order; further ones are ignored, as MLflow does."""
    n = len(next(iter(columns.values()), []))
    ordered: list[list[Any]] = []
    for column in schema.columns:
        values = columns.get(column.name)
        if values is None:
            if column.required:
                raise Invalid(f"The column {column.name!r} is missing.", where=column.name, hint=_needs(schema))
            values = [None] * n
        elif len(values) != n:
            raise Invalid(f"The column {column.name!r} has {len(values)} values; others have {n}.", where=column.name)
        ordered.append(values)
    return _checked(ordered, n, schema, as_matrix)


def _needs(schema: Schema) -> str:
    return "The model takes " + ", ".join(f"{c.name} ({c.kind})" for c in schema.columns[:40]) + "."


def _checked(columns: list[list[Any]], n: int, schema: Schema, as_matrix: bool) -> Rows:
    if n == 0:
        raise Invalid("The request has no rows.")
    if n > ROWS_MAX:
        raise Invalid(f"The request has {n} rows; at most {ROWS_MAX} are taken at once.", hint="Send several requests.")
    for column, values in zip(schema.columns, columns, strict=True):
        _check_values(column, values)
    if not as_matrix:
        return Rows(n, columns=columns)
    if n == 1:
        return Rows(1, row=[math.nan if c[0] is None else c[0] for c in columns])
    return Rows(n, matrix=np.array(columns, dtype=np.float64).T)  # None becomes NaN


def _check_values(column: Column, values: list[Any]) -> None:
    kind = column.kind
    if kind == "any":
        return
    found = {type(values[0])} if len(values) == 1 else set(map(type, values))
    if not column.required:
        found.discard(type(None))
    if not found <= _ALLOWED[kind]:
        wrong = next(v for v in values if type(v) not in _ALLOWED[kind])
        raise Invalid(f"The column {column.name!r} is a {kind}; {str(wrong)[:50]!r} is not.", where=column.name)
    if kind == "integer":
        for v in values:
            if v is not None and (v != int(v) if math.isfinite(v) else True):
                raise Invalid(f"The column {column.name!r} is an integer; {v!r} is not.", where=column.name)
            if v is not None and not -EXACT_INT <= v <= EXACT_INT:
                raise Invalid(f"The column {column.name!r} holds {v}, too large to be exact in a float.", where=column.name)
    elif kind == "number" and int in found:
        for v in values:
            if type(v) is int and not -EXACT_INT <= v <= EXACT_INT and abs(v) > 1 << 1000:
                raise Invalid(f"The column {column.name!r} holds a number that is too large.", where=column.name)


# --- out ----------------------------------------------------------------------------------------------------------------


class Listed(Struct):
    """The outputs of a batch as plain lists, so that each request's part is a slice."""

    prediction: list[Any]
    prediction_type: str
    prediction_width: tuple[int, ...]
    extra: dict[str, tuple[str, list[Any]]]
    probability: list[list[float]] | None

    @classmethod
    def of(cls, outputs: Outputs) -> Listed:
        prediction = outputs.prediction
        return cls(
            prediction=_plain(prediction), prediction_type=_v2_type(prediction), prediction_width=prediction.shape[1:],
            extra={k: (_v2_type(v), _plain(v)) for k, v in outputs.extra.items()},
            probability=None if outputs.probability is None else outputs.probability.tolist(),
        )  # fmt: skip


def _plain(values: NDArray[Any]) -> list[Any]:
    listed: list[Any] = values.tolist()
    return listed


def _v2_type(values: NDArray[Any]) -> str:
    return _NUMPY_V2.get(values.dtype.name, "BYTES")


def encode(protocol: str, listed: Listed, start: int, rows: Rows, *, prediction_id: str, model: str, version: str) -> bytes:
    """The body of the answer to the request whose rows begin at `start` of the batch. Raises Invalid for an unknown output."""
    end = start + rows.n
    if protocol != "v2":
        return _json({"predictions": _invocation_rows(listed, start, end)})
    outputs = [_tensor("predict", listed.prediction_type, rows.n, listed.prediction[start:end], listed.prediction_width)]
    for name, (datatype, values) in listed.extra.items():
        outputs.append(_tensor(name, datatype, rows.n, values[start:end], ()))
    if listed.probability is not None:
        part = listed.probability[start:end]
        outputs.append(_tensor("probability", "FP64", rows.n, part, (len(part[0]),)))
    if rows.outputs:
        outputs = _selected(outputs, rows.outputs)
    ids = [prediction_id, *(f"{prediction_id}.{i}" for i in range(1, rows.n))]
    return _json({
        "model_name": model, "model_version": version, "id": rows.request_id or prediction_id,
        "parameters": {"prediction_ids": ids}, "outputs": outputs,
    })  # fmt: skip


def _invocation_rows(listed: Listed, start: int, end: int) -> list[Any]:
    if not listed.extra:
        return listed.prediction[start:end]
    names = list(listed.extra)
    return [{n: listed.extra[n][1][i] for n in names} for i in range(start, end)]


def _tensor(name: str, datatype: str, n: int, values: list[Any], width: tuple[int, ...]) -> dict[str, Any]:
    if width:
        for _ in width:
            values = [v for row in values for v in row]
    if datatype.startswith("FP"):
        values = [v if v == v and abs(v) != math.inf else None for v in values]
    elif datatype == "BYTES":
        values = [v if isinstance(v, str) else str(v) for v in values]
    return {"name": name, "datatype": datatype, "shape": [n, *width], "data": values}


def _selected(outputs: list[dict[str, Any]], wanted: tuple[str, ...]) -> list[dict[str, Any]]:
    by_name = {o["name"]: o for o in outputs}
    for name in wanted:
        if name not in by_name:
            raise Invalid(f"The model has no output {name!r}.", where="outputs", hint="It has " + ", ".join(by_name) + ".")
    return [by_name[name] for name in wanted]


def metadata(schema: Schema, outputs: list[tuple[str, str, list[int]]]) -> dict[str, object]:
    """The V2 description of a model's inputs and outputs."""
    if schema.is_free:
        inputs: list[dict[str, object]] = []
    elif schema.is_named:
        inputs = [{"name": c.name, "datatype": _V2_TYPES[c.kind], "shape": [-1]} for c in schema.columns]
    else:
        inputs = [{"name": "input", "datatype": "FP64", "shape": [-1, len(schema.columns)]}]
    return {"inputs": inputs, "outputs": [{"name": n, "datatype": t, "shape": s} for n, t, s in outputs]}
