"""Blocks of records as Arrow tables: the columns that docs/internals/serving.md promises to monitoring.

The same blocks give the same bytes, so sealing a journal twice (after a crash) gives a segment with the same digest.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Struct

from noria.serving.frames import Block

_ARROW = {"number": pa.float64(), "integer": pa.int64(), "boolean": pa.bool_(), "text": pa.string(), "any": pa.string()}

_PER_ROW = ("ids", "at_ms", "event_at_ms", "keys", "roles", "latency_ms", "status", "predictions")

TRUTH_SCHEMA = pa.schema([
    ("prediction_id", pa.string()), ("key", pa.string()), ("value", pa.float64()), ("label", pa.string()),
    ("at_ms", pa.int64()), ("received_at_ms", pa.int64()),
])  # fmt: skip


class TruthItem(Struct, frozen=True, kw_only=True):
    """One truth: of one answer, or of every answer with a key."""

    value: float | int | bool | str
    prediction_id: str | None = None
    key: str | None = None
    at_ms: int | None = None


class TruthBody(Struct, frozen=True):
    """The body of POST /endpoints/{endpoint}/truth."""

    items: list[TruthItem]


def inference_table(blocks: Sequence[tuple[Block, bytes]]) -> pa.Table:
    """Blocks of one revision and one form as a table."""
    first = blocks[0][0]
    metadata = {
        "endpoint": first.endpoint, "revision_id": first.revision_id, "model": first.model,
        "classes": json.dumps(first.classes),
    }  # fmt: skip
    tables = [_inference(block, arrays) for block, arrays in _merged(blocks)]
    return pa.concat_tables(tables).combine_chunks().replace_schema_metadata(metadata)


def form_of(block: Block) -> tuple[Any, ...]:
    """Blocks with the same form have the same columns."""
    return block.kind, block.endpoint, block.revision_id, tuple(map(tuple, block.features)), bool(block.predictions)


def _merged(blocks: Sequence[tuple[Block, bytes]]) -> Iterator[tuple[Block, dict[str, Any]]]:
    """Neighbours with the same arrays as one block: a worker sends one per batch, often of one row."""
    for _, group in itertools.groupby(blocks, key=_layout):
        members = list(group)
        parts = [_arrays(block, body) for block, body in members]
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        first = members[0][0]
        joined = {name: [v for block, _ in members for v in getattr(block, name)] for name in _PER_ROW}
        values = [[v for block, _ in members for v in block.values[i]] for i in range(len(first.values))]
        rows = sum(block.rows for block, _ in members)
        yield msgspec.structs.replace(first, rows=rows, values=values, **joined), arrays


def _layout(member: tuple[Block, bytes]) -> tuple[Any, ...]:
    block = member[0]
    return [(name, width) for name, _, width in block.layout], bool(block.values)


def _inference(block: Block, arrays: dict[str, Any]) -> pa.Table:
    n = block.rows
    columns: dict[str, Any] = {
        "prediction_id": pa.array(block.ids, pa.string()),
        "revision_id": pa.array([block.revision_id] * n, pa.string()),
        "model_version": pa.array(np.full(n, block.model_version, dtype=np.int64)),
        "role": pa.array(block.roles, pa.string()),
        "at_ms": pa.array(block.at_ms, pa.int64()),
        "event_at_ms": pa.array(block.event_at_ms, pa.int64()),
        "key": pa.array(block.keys, pa.string()),
        "latency_ms": pa.array(block.latency_ms, pa.float64()),
        "status": pa.array(block.status, pa.int64()),
        "prediction": _prediction(block, arrays, n),
        "score": pa.array(arrays["score"]) if "score" in arrays else pa.nulls(n, pa.float64()),
        "probability": _lists(arrays.get("probability"), n),
    }
    matrix = arrays.get("features")
    for i, (name, kind) in enumerate(block.features):
        if matrix is not None:
            columns["in_" + name] = _feature(np.ascontiguousarray(matrix[:, i]), kind)
        elif block.values:
            columns["in_" + name] = _plain_feature(block.values[i], kind)
        else:
            columns["in_" + name] = pa.nulls(n, _ARROW[kind])
    return pa.table(columns)


def _arrays(block: Block, body: bytes) -> dict[str, Any]:
    found, at = {}, 0
    for name, rows, width in block.layout:
        array = np.frombuffer(body, dtype=np.float64, count=rows * width, offset=at)
        at += array.nbytes
        found[name] = array.reshape(rows, width) if name in ("features", "probability") else array
    return found


def _prediction(block: Block, arrays: dict[str, Any], n: int) -> pa.Array:
    if "prediction" in arrays:
        return pa.array(arrays["prediction"])
    if block.predictions:
        return pa.array(block.predictions, pa.string())
    return pa.nulls(n, pa.float64())


def _lists(matrix: Any, n: int) -> pa.Array:
    if matrix is None:
        return pa.nulls(n, pa.list_(pa.float64()))
    width = matrix.shape[1]
    offsets = pa.array(np.arange(0, n * width + 1, width, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(matrix).ravel()))


def _feature(values: Any, kind: str) -> pa.Array:
    missing = np.isnan(values)
    if kind == "number":
        return pa.array(values, pa.float64(), mask=missing) if missing.any() else pa.array(values)
    safe = np.where(missing, 0.0, values)
    typed = safe != 0 if kind == "boolean" else safe.astype(np.int64)
    return pa.array(typed, _ARROW[kind], mask=missing)


def _plain_feature(values: list[Any], kind: str) -> pa.Array:
    if kind in ("text", "any"):
        return pa.array([None if v is None else v if isinstance(v, str) else _json(v) for v in values], pa.string())
    if kind == "number":
        return pa.array([None if v is None else float(v) for v in values], pa.float64())
    convert = bool if kind == "boolean" else int
    return pa.array([None if v is None else convert(v) for v in values], _ARROW[kind])


def _json(value: Any) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()


def truth_table(blocks: Sequence[tuple[Block, bytes]]) -> pa.Table:
    """Truth blocks (a JSON body each) of one endpoint as a table."""
    rows: list[tuple[Any, ...]] = []
    for block, body in blocks:
        received = block.at_ms[0]
        for item in msgspec.json.decode(body, type=TruthBody).items:
            is_text = isinstance(item.value, str)
            rows.append((
                item.prediction_id, item.key, None if is_text else float(item.value), item.value if is_text else None,
                received if item.at_ms is None else item.at_ms, received,
            ))  # fmt: skip
    columns = list(zip(*rows, strict=True))
    arrays = [pa.array(column, field.type) for column, field in zip(columns, TRUTH_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=TRUTH_SCHEMA).replace_schema_metadata({"endpoint": blocks[0][0].endpoint})


def to_bytes(table: pa.Table) -> bytes:
    """The table as an Arrow IPC file with zstd buffers."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
