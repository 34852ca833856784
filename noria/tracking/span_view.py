"""Spans as people look at them, from the rows of a trace or from the file that older clients write."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import msgspec

from noria.kernel.errors import Invalid
from noria.tracking.otlp import plain
from noria.tracking.span_meaning import kind_of, meaning
from noria.tracking.trace_model import SpanView, Trace


def views_of_rows(trace: Trace, rows: list[dict[str, Any]]) -> list[SpanView]:
    """From the rows of `span`, the earliest first."""
    start_ns = min([row["start_ns"] for row in rows])
    views = []
    for row in rows:
        body = msgspec.json.decode(row["body"])
        attributes = _plain(body.get("attributes"))
        events = [
            {
                "name": event["name"], "offset_us": (event["time_unix_nano"] - start_ns) // 1000,
                "attributes": _plain(event.get("attributes")),
            }
            for event in body.get("events", [])
        ]  # fmt: skip
        views.append(SpanView(
            id=row["span_id"], parent_id=row["parent_id"], name=row["name"], kind=row["kind"], status=row["status"],
            message=body["status"].get("message", ""), offset_us=(row["start_ns"] - start_ns) // 1000,
            duration_us=None if row["end_ns"] is None else (row["end_ns"] - row["start_ns"]) // 1000,
            inputs=meaning(attributes, "inputs"), outputs=meaning(attributes, "outputs"), attributes=attributes, events=events,
        ))  # fmt: skip
    return views


def _plain(pairs: Any) -> dict[str, Any]:
    return {pair["key"]: plain(pair["value"]) for pair in pairs or []}


def views_of_file(trace: Trace, data: bytes) -> list[SpanView]:
    """From `traces.json` as MLflow's clients write it, of version 2 or 3. Raises Invalid when it is neither."""
    try:
        spans = msgspec.json.decode(data)["spans"]
        found = [_of_file(span) for span in spans]
    except (msgspec.DecodeError, RecursionError, KeyError, TypeError, ValueError, AttributeError) as cause:
        raise Invalid(
            "The file of this trace does not hold MLflow's spans.", hint="Download traces.json to look."
        ) from cause
    start_ns = min([f["start_ns"] for f in found], default=0)
    views = []
    for f in found:
        attributes = {key: _parsed(value) for key, value in f["attributes"].items()}
        views.append(SpanView(
            id=f["id"], parent_id=f["parent_id"], name=f["name"], kind=kind_of(attributes), status=f["status"],
            message=f["message"], offset_us=(f["start_ns"] - start_ns) // 1000,
            duration_us=None if f["end_ns"] is None else (f["end_ns"] - f["start_ns"]) // 1000,
            inputs=meaning(attributes, "inputs"), outputs=meaning(attributes, "outputs"), attributes=attributes,
            events=list(_events(f["events"], start_ns)),
        ))  # fmt: skip
    return sorted(views, key=lambda v: (v.offset_us, v.id))


def _of_file(span: dict[str, Any]) -> dict[str, Any]:
    if "context" in span:  # version 2
        ident, parent = span["context"]["span_id"], span.get("parent_id")
        start, end, status, message = (
            span["start_time"],
            span.get("end_time"),
            span.get("status_code"),
            span.get("status_message"),
        )
    else:
        ident, parent = _hex(span["span_id"]), _hex(span.get("parent_span_id"))
        start, end = span["start_time_unix_nano"], span.get("end_time_unix_nano")
        status, message = span["status"]["code"], span["status"].get("message")
    return {
        "id": str(ident), "parent_id": str(parent or ""), "name": str(span["name"]), "start_ns": int(start),
        "end_ns": None if end is None else int(end), "status": str(status or "UNSET").removeprefix("STATUS_CODE_"),
        "message": str(message or ""), "attributes": dict(span.get("attributes") or {}), "events": list(span.get("events") or []),
    }  # fmt: skip


def _hex(ident: str | None) -> str:
    return base64.b64decode(ident).hex() if ident else ""


def _parsed(value: Any) -> Any:
    """MLflow writes each attribute as the text of its JSON."""
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return value


def _events(events: list[dict[str, Any]], start_ns: int) -> Iterator[dict[str, Any]]:
    for event in events:
        at = event.get("time_unix_nano", event.get("timestamp", start_ns))
        at_ns = at if isinstance(at, int) else start_ns
        attributes = event.get("attributes")
        yield {
            "name": str(event.get("name", "")), "offset_us": (at_ns - start_ns) // 1000,
            "attributes": attributes if isinstance(attributes, dict) else {},
        }  # fmt: skip
