"""MLflow's /invocations: dataframe_split, dataframe_records, inputs, instances and CSV as rows; answered with `predictions`."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from noria.kernel.errors import Invalid
from noria.serving.rows import Kind, Listed, Rows, Schema, check_count, from_columns, from_rows, plain_json, transposed

CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"
JSON_TYPES = frozenset(
    {"application/json", "", "application/octet-stream", "application/x-www-form-urlencoded"}
)  # curl's too
# What pandas, and so MLflow, reads as a missing value in a CSV.
MISSING = frozenset({
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN",
    "None", "n/a", "nan", "null",
})  # fmt: skip
FORM = "Send one of dataframe_split, dataframe_records, inputs or instances, or text/csv."


class UnknownType(Invalid):
    """415."""

    code, status = "invalid", 415


class _Split(Struct):
    data: list[list[Any]]
    columns: list[str] | None = None


class _Invocation(Struct):
    dataframe_split: _Split | None = None
    dataframe_records: list[dict[str, Any]] | None = None
    inputs: Any = None
    instances: Any = None
    params: Any = None
    stream: bool = False


_invocation = msgspec.json.Decoder(_Invocation).decode


def decode(content_type: str, body: bytes, schema: Schema, *, as_matrix: bool) -> Rows:
    """A request's body as rows. Raises Invalid, naming the column at fault."""
    kind = media_type(content_type)
    if kind == CSV:
        return _decode_csv(body, schema, as_matrix)
    if kind == PARQUET:
        return _decode_parquet(body, schema, as_matrix)
    asked = _invocation(body)
    rows = _decode_invocation(asked, schema, as_matrix)
    if schema.params and asked.params is not None:
        rows.params = params_of(asked.params, schema)
    rows.is_stream = asked.stream
    return rows


@lru_cache(100)
def media_type(content_type: str) -> str:
    """What a body is. Raises UnknownType."""
    kind, _, parameters = content_type.partition(";")
    found = kind.strip().lower()
    charset = parameters.lower().replace(" ", "").replace('"', "")
    if found not in (*JSON_TYPES, CSV, PARQUET) or charset not in ("", "charset=utf-8"):
        raise UnknownType(
            f"{content_type!r} is not taken.",
            hint=f"Send application/json, {CSV} or {PARQUET}, in UTF-8.",
            where="content-type",
        )
    return found


def params_of(given: Any, schema: Schema) -> dict[str, Any] | None:
    """Those of the params that the signature knows; MLflow ignores the others too."""
    if not isinstance(given, dict):
        raise Invalid("params must be an object of names and values.", where="params")
    return {k: v for k, v in given.items() if k in schema.params} or None


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
        return from_rows(rows, None, schema, as_matrix)
    return from_columns(read, schema, as_matrix)


def _decode_parquet(body: bytes, schema: Schema, as_matrix: bool) -> Rows:
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as cause:
        raise UnknownType(
            "The model's environment has no pyarrow to read Parquet with.", hint="Send JSON or CSV."
        ) from cause
    try:
        table = pyarrow.parquet.read_table(pa.BufferReader(body))
    except pa.ArrowException as cause:
        raise Invalid(f"The body is no Parquet file: {cause}.") from cause
    check_count(table.num_rows)
    columns: dict[str, list[Any]] = {
        name: [v.isoformat() if isinstance(v, datetime) else v for v in values] for name, values in table.to_pydict().items()
    }
    if schema.is_free:
        return Rows(table.num_rows, raw=columns)
    if not schema.is_named:
        return from_rows([list(row) for row in zip(*columns.values(), strict=True)], None, schema, as_matrix)
    return from_columns(columns, schema, as_matrix)


def _from_text(text: str, kind: Kind, name: str) -> Any:
    if text in MISSING:
        return None
    if kind in ("text", "datetime"):
        return text
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
        raise Invalid("Send exactly one of dataframe_split, dataframe_records, inputs and instances.", hint=FORM)
    if asked.dataframe_split is not None:
        split = asked.dataframe_split
        if schema.is_free:
            names = split.columns or [str(i) for i in range(len(split.data[0]) if split.data else 0)]
            return Rows(len(split.data), raw=dict(zip(names, transposed(split.data, len(names)), strict=True)))
        return from_rows(split.data, split.columns, schema, as_matrix)
    if asked.dataframe_records is not None:
        return _from_records(asked.dataframe_records, schema, as_matrix)
    return _from_any(asked.inputs if asked.inputs is not None else asked.instances, schema, as_matrix)


def _from_any(value: Any, schema: Schema, as_matrix: bool) -> Rows:
    """`inputs` or `instances`: a list of rows, a list of records, or a dict of columns."""
    if isinstance(value, dict):
        columns = {str(k): v if isinstance(v, list) else [v] for k, v in value.items()}
        if schema.is_free:
            return Rows(len(next(iter(columns.values()), [])), raw=columns)
        return from_columns({k: _unnest(v, k) for k, v in columns.items()}, schema, as_matrix)
    if not isinstance(value, list) or not value:
        raise Invalid("The request has no rows.", hint=FORM)
    if isinstance(value[0], dict):
        return _from_records(value, schema, as_matrix)
    if schema.is_free:
        return Rows(len(value), raw=np.array(value) if not isinstance(value[0], str) else value)
    rows = value if isinstance(value[0], list) else [[v] for v in value]
    return from_rows(rows, None, schema, as_matrix)


def _unnest(values: list[Any], name: str) -> list[Any]:
    if values and all(isinstance(v, list) and len(v) == 1 for v in values):
        return [v[0] for v in values]
    return values


def _from_records(records: list[dict[str, Any]], schema: Schema, as_matrix: bool) -> Rows:
    if not all(isinstance(r, dict) for r in records):
        raise Invalid("Every record must be an object of columns.", hint=FORM)
    names = schema.names or list(dict.fromkeys(k for r in records for k in r))
    present = {name for r in records for name in r}
    columns = {name: [r.get(name) for r in records] for name in names if name in present}
    if schema.is_free:
        return Rows(len(records), raw=columns)
    return from_columns(columns, schema, as_matrix)


def encode(listed: Listed, start: int, rows: Rows) -> bytes:
    """The body of the answer to the request whose rows begin at `start` of the batch."""
    said = listed.said
    if said.is_whole:
        return plain_json(said.said_whole if rows.is_unwrapped else {"predictions": said.said_whole})
    end = start + rows.n
    if said.said_rows is not None:
        return plain_json({"predictions": said.said_rows[start:end]})
    return plain_json({"predictions": listed.prediction.values()[start:end]})
