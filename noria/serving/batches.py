"""Arrow tables and models: which columns do not fit, the rows of a table as a model takes them, and its answers as columns.

The same code decodes and answers as for a live request: `rows.py`, `loader.py`. Only the way in differs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as types

from noria.kernel.errors import Invalid, Unavailable
from noria.serving.loader import Model
from noria.serving.rows import EXACT_INT, Column, Outputs, Rows, Schema, from_columns, needs, plain_json

BATCH_ROWS = 50_000  # in one call of the model
_FITS = {
    "number": lambda t: types.is_integer(t) or types.is_floating(t) or types.is_decimal(t),
    "integer": lambda t: types.is_integer(t) or types.is_floating(t),  # whole ones, which is looked at with the values
    "boolean": lambda t: types.is_boolean(t) or types.is_integer(t),
    "text": lambda t: types.is_string(t) or types.is_large_string(t) or types.is_string_view(t),
    "datetime": lambda t: types.is_timestamp(t) or types.is_date(t) or types.is_string(t) or types.is_large_string(t),
}


def check_columns(schema: Schema, given: pa.Schema) -> None:
    """Raises Invalid naming the first column that the model needs and the table lacks or has in another kind."""
    if schema.is_free:
        return
    if not schema.is_named:
        if len(given) != len(schema.columns):
            raise Invalid(f"The model takes {len(schema.columns)} columns without names; the data has {len(given)}.")
        wrong = next((f for f in given if not _FITS["number"](_plain(f.type)) and not types.is_boolean(f.type)), None)
        if wrong is not None:
            raise _unfit(Column(wrong.name, "number"), wrong)
        return
    for column in schema.columns:
        places = given.get_all_field_indices(column.name)
        if len(places) > 1:
            raise Invalid(f"The data has two columns called {column.name!r}.", where=column.name)
        if not places:
            if column.required:
                raise Invalid(f"The data has no column {column.name!r}, which the model needs.", where=column.name,
                              hint=needs(schema))  # fmt: skip
            continue
        field = given.field(places[0])
        if column.kind != "any" and not types.is_null(field.type) and not _FITS[column.kind](_plain(field.type)):
            raise _unfit(column, field)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if types.is_dictionary(kind) else kind


def _unfit(column: Column, field: pa.Field) -> Invalid:
    article = "an" if column.kind == "integer" else "a"
    return Invalid(
        f"The model takes {article} {column.kind} in the column {column.name!r}; the data has {field.type} there.",
        where=column.name, hint="Convert the column, and commit the data as a new version.",
    )  # fmt: skip


def rows_of(table: pa.Table, model: Model) -> Rows:
    """The rows of a table as the model takes them. Raises Invalid, naming the column of a value that does not fit."""
    schema = model.schema
    if schema.is_free:
        return Rows(table.num_rows, raw=table.to_pandas())
    if not schema.is_named:
        table = table.rename_columns(schema.names)
    if model.as_matrix:
        there = [c for c in schema.columns if c.name in table.column_names]
        absent = tuple(c.name for c in schema.columns if c.name not in table.column_names)
        columns = {c.name: _numbers(c, table.column(c.name)) for c in there}
        missing = np.full(table.num_rows, np.nan)
        return Rows(
            table.num_rows, matrix=np.column_stack([columns.get(c.name, missing) for c in schema.columns]), absent=absent
        )
    return from_columns(
        {c.name: _values(c, table.column(c.name)) for c in schema.columns if c.name in table.column_names}, schema, False
    )


def _numbers(column: Column, values: pa.ChunkedArray) -> Any:
    """A column as 64-bit floats; the rules are those of a live request."""
    if column.kind in ("integer", "boolean") and column.required and values.null_count:
        raise Invalid(
            f"The column {column.name!r} has {values.null_count:,} empty values; the model takes none.", where=column.name
        )
    array = values.cast(pa.float64(), safe=False).to_numpy()
    if column.kind == "integer":
        sent = array[~np.isnan(array)] if values.null_count else array
        wrong = sent[~(np.isfinite(sent) & (sent == np.floor(sent)))]
        if len(wrong):
            raise Invalid(f"The column {column.name!r} is an integer; the data has {wrong[0]:g} there.", where=column.name)
        most = (1 << 31) - 1 if column.dtype == "int32" else EXACT_INT
        if len(sent) and max(abs(float(sent.max())), abs(float(sent.min()))) > most:
            raise Invalid(f"The column {column.name!r} has a number too large to be exact.", where=column.name)
    return array


def _values(column: Column, values: pa.ChunkedArray) -> list[Any]:
    if types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if column.kind == "datetime" and not (types.is_string(values.type) or types.is_large_string(values.type)):
        return [None if v is None else v.isoformat() for v in values.to_pylist()]
    if types.is_decimal(values.type):
        values = values.cast(pa.float64())
    found: list[Any] = values.to_pylist()
    return found


def predict(model: Model, table: pa.Table) -> tuple[list[tuple[Rows, Outputs]], dict[str, pa.ChunkedArray]]:
    """The model's answers to every row, in batches; and as columns: prediction, and score and probability where there are any."""
    done: list[tuple[Rows, Outputs]] = []
    for start in range(0, table.num_rows, BATCH_ROWS):
        rows = rows_of(table.slice(start, BATCH_ROWS), model)
        outputs = model.predict(model.batch([rows]), rows.n)
        if outputs.is_whole or len(outputs.prediction) != rows.n:
            raise Unavailable(
                f"The model does not answer row by row: {len(outputs.prediction)} answers to {rows.n} rows.",
                hint="Score it request by request, at its endpoint.",
            )
        done.append((rows, outputs))
    columns: dict[str, list[pa.Array]] = {}
    for _, outputs in done:
        for name, array in _columns(outputs).items():
            columns.setdefault(name, []).append(array)
    return done, {name: pa.chunked_array(arrays) for name, arrays in columns.items()}


def _columns(outputs: Outputs) -> dict[str, pa.Array]:
    found = {"prediction": _array(outputs.prediction)}
    if outputs.score is not None and outputs.probability is not None:
        found["score"] = pa.array(np.asarray(outputs.score, dtype=np.float64))
    if outputs.probability is not None:
        found["probability"] = _array(outputs.probability)
    extra = list(outputs.extra.items())
    return found | {name: _array(values) for name, values in (extra if len(extra) > 1 else [])}


def _array(values: Any) -> pa.Array:
    """Numbers, texts and booleans as they are; rows of numbers as lists; the rest as JSON."""
    array = np.asarray(values)
    if array.ndim == 2 and array.dtype.kind in "fiu":
        flat = pa.array(np.ascontiguousarray(array).ravel())
        offsets = pa.array(np.arange(0, array.size + 1, array.shape[1], dtype=np.int64))
        return pa.LargeListArray.from_arrays(offsets, flat)
    if array.ndim == 1 and array.dtype.kind in "fiub":
        return pa.array(array)
    plain = array.tolist()
    if all(v is None or isinstance(v, str) for v in plain):
        return pa.array(plain, pa.string())
    return pa.array([None if v is None else plain_json(v).decode() for v in plain], pa.string())
