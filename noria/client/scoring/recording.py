"""Predictions of a batch in an endpoint's record, in the form of those it gave to callers.

Ids and times follow from the run, the model and the chunk: a step that is tried again writes the same bytes, which are recorded once.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from blake3 import blake3

from noria.client.api import Api


def record(
    api: Api, chunk: dict[str, Any], how: dict[str, Any], where: dict[str, Any], model: Any, table: Any,
    done: list[tuple[Any, Any]],
) -> None:  # fmt: skip
    """Store the answers to one chunk as a segment of the endpoint's record."""
    from noria.serving.segments import inference_table, to_bytes

    run = os.environ.get("NORIA_PIPELINE_RUN", "")
    at_ms = int(run[:12], 16)  # a run's id begins with its time
    first = blake3(f"{run} {how['model']} {chunk['path']} {chunk['digest']} {chunk['start']}".encode()).hexdigest()[:32]
    keys = _keys(table, where["key"])
    blocks, at = [], 0
    for rows, outputs in done:
        blocks.append(_block(rows, outputs, model, how, where, at_ms, first, at, keys[at : at + rows.n]))
        at += rows.n
    body = to_bytes(inference_table(blocks))
    digest = blake3(body).hexdigest()
    api.put_bytes(f"/blobs/{digest}", body)
    api.post("/scoring/segments", {
        "endpoint": where["endpoint"], "revision_id": how["record"], "digest": digest, "rows": at, "size_bytes": len(body),
        "at_ms": at_ms,
    })  # fmt: skip


def _keys(table: Any, key: list[str]) -> list[str | None]:
    """What names each row, as a caller would send it: the table's key, when it is one column."""
    if len(key) != 1 or key[0] not in table.column_names:
        return [None] * table.num_rows
    return [None if v is None else str(v) for v in table.column(key[0]).to_pylist()]


def _block(
    rows: Any, outputs: Any, model: Any, how: dict[str, Any], where: dict[str, Any], at_ms: int, first: str, at: int,
    keys: list[str | None],
) -> tuple[Any, bytes]:  # fmt: skip
    from noria.serving.frames import Block
    from noria.serving.loader import feature_kinds
    from noria.serving.rows import output_arrays

    n = rows.n
    arrays: list[tuple[str, Any]] = [] if rows.matrix is None else [("features", rows.matrix)]
    predictions: list[object] = []
    output_arrays([outputs], arrays, predictions)
    parts = [np.ascontiguousarray(a, dtype=np.float64) for _, a in arrays]
    block = Block(
        kind="inference", source=first, seq=at, endpoint=where["endpoint"], revision_id=how["record"], model=where["model"],
        model_version=where["number"], classes=model.classes, rows=n, ids=[f"{first}.{at + i}" if at + i else first for i in range(n)],
        at_ms=[at_ms] * n, event_at_ms=[at_ms] * n, keys=keys, roles=["champion"] * n, latency_ms=[0.0] * n, status=[200] * n,
        features=feature_kinds(model.schema.columns), values=rows.columns or [], predictions=predictions,
        layout=[(name, len(a), 1 if a.ndim == 1 else a.shape[1]) for (name, _), a in zip(arrays, parts, strict=True)],
    )  # fmt: skip
    return block, b"".join(p.tobytes() for p in parts)
