"""Given: segments as the recorder seals them, registered as serving registers them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

import noria.serving.model  # declares the facts of segments
from noria.kernel.ids import Ref, new_id
from noria.monitoring.model import MonitorSpec
from tests.conftest import Noria

assert noria.serving.model
HOUR = 3_600_000
DAY = 24 * HOUR


def arrow(columns: dict[str, Any], types: dict[str, Any], metadata: dict[str, str] | None = None) -> bytes:
    """An Arrow file."""
    table = pa.table({n: pa.array(v, type=types.get(n)) for n, v in columns.items()}).replace_schema_metadata(metadata or {})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def inference_bytes(
    rows: list[dict[str, Any]], *, revision: str = "r1", version: int = 1, model: str = "flights", classes: str = "[0, 1]"
) -> bytes:
    """The bytes of an inference segment; a row needs `event_at_ms`, the rest has defaults."""
    names = sorted({n for row in rows for n in row if n.startswith("in_")})
    columns: dict[str, Any] = {
        "prediction_id": [r.get("id") or new_id() for r in rows],
        "revision_id": [revision] * len(rows),
        "model_version": [version] * len(rows),
        "role": [r.get("role", "champion") for r in rows],
        "at_ms": [r.get("at_ms", r["event_at_ms"]) for r in rows],
        "event_at_ms": [r["event_at_ms"] for r in rows],
        "key": [r.get("key") for r in rows],
        "latency_ms": [1.5] * len(rows),
        "status": [200] * len(rows),
        "prediction": [r.get("prediction") for r in rows],
        "score": [r.get("score") for r in rows],
        "probability": [r.get("probability") for r in rows],
        **{n: [r.get(n) for r in rows] for n in names},
    }
    types = {"key": pa.string(), "prediction": pa.float64(), "score": pa.float64(), "probability": pa.list_(pa.float64())}
    return arrow(columns, types, {"endpoint": "flights", "revision_id": revision, "model": model, "classes": classes})


def truth_bytes(rows: list[dict[str, Any]]) -> bytes:
    """The bytes of a truth segment."""
    columns = {
        "prediction_id": [r.get("id") for r in rows],
        "key": [r.get("key") for r in rows],
        "value": [r.get("value") for r in rows],
        "label": [r.get("label") for r in rows],
        "at_ms": [r["at_ms"] for r in rows],
        "received_at_ms": [r["at_ms"] for r in rows],
    }
    return arrow(columns, {"prediction_id": pa.string(), "key": pa.string(), "value": pa.float64(), "label": pa.string()})


def written(noria: Noria, kind: str, data: bytes, *, endpoint: str = "flights", rows: int = 1) -> int:
    """Store a segment and tell of it, as serving does; returns the seq of the fact."""
    digest = noria.app.blobs.put(data).digest
    more = {"revision": "r1"} if kind == "segment.written" else {}
    with noria.app.db.write(noria.system()) as tx:
        tx.emit(
            kind, Ref("segment", digest), endpoint=endpoint, rows=rows, digest=digest, segment=1, event_from_ms=0, event_to_ms=0,
            **more,
        )  # fmt: skip
    return int(noria.facts(kind)[-1].seq)


def answers(noria: Noria, rows: list[dict[str, Any]], *, settle: bool = True, **segment: Any) -> None:
    written(noria, "segment.written", inference_bytes(rows, **segment), rows=len(rows))
    if settle:
        noria.settle()


def truths(noria: Noria, rows: list[dict[str, Any]], *, settle: bool = True) -> None:
    written(noria, "truth.written", truth_bytes(rows), rows=len(rows))
    if settle:
        noria.settle()


def spec(name: str = "calibration", metric: str = "calibration_gap", **fields: Any) -> MonitorSpec:
    defaults: dict[str, Any] = {"limit": 0.1, "window_s": 86_400, "lateness_s": 0, "min_count": 10}
    return MonitorSpec(name=name, endpoint="flights", metric=metric, **{**defaults, **fields})


def rows_of(noria: Noria, sql: str, **params: Any) -> list[dict[str, Any]]:
    with noria.app.db.read() as tx:
        return tx.rows(sql, **params)
