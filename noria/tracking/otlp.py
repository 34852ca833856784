"""OpenTelemetry's protocol for spans (OTLP/HTTP, protobuf and JSON) into the spans that are kept.

`opentelemetry-proto` holds the messages; it is imported when the first protobuf arrives. Both encodings become the JSON of the
protobuf message with its own field names, which is what MLflow's clients read back and what the filters look into. Nothing is
dropped: what cannot be kept exactly is refused, and with it the request, as MLflow's server does.
Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from typing import Any

import msgspec

from noria.kernel.errors import Invalid, TooLarge, Unavailable
from noria.tracking.span_meaning import kind_of
from noria.tracking.trace_model import SPANS_PER_REQUEST, VALUE_DEPTH_MAX, Span

PROTOBUF, JSON = "application/x-protobuf", "application/json"
BODY_BYTES_MAX = 64 << 20  # unpacked
_INT64, _NAME_MAX, _ATTRIBUTES_MAX = 1 << 63, 4_096, 10_000
_STATUS = ("UNSET", "OK", "ERROR")
_STATUS_NAMES = {"STATUS_CODE_UNSET": 0, "STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}
_KIND_NAMES = {f"SPAN_KIND_{name}": i for i, name in enumerate(
    ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"))}  # fmt: skip
_ATTRIBUTE = "attributes"


def unpack(body: bytes, encoding: str) -> bytes:
    """The body as it was before Content-Encoding. Raises Invalid, TooLarge (a small body can hold a very large one)."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "deflate"):
        raise Invalid(f"Unsupported Content-Encoding: {encoding[:40]!r}.", hint="Use gzip, deflate or none.")
    windows = (16 + zlib.MAX_WBITS,) if encoding == "gzip" else (zlib.MAX_WBITS, -zlib.MAX_WBITS)
    for window in windows:
        reader = zlib.decompressobj(window)
        try:
            data = reader.decompress(body, BODY_BYTES_MAX + 1)
        except zlib.error:
            continue
        if len(data) > BODY_BYTES_MAX:
            raise TooLarge(f"The body is larger than {BODY_BYTES_MAX >> 20} MiB when unpacked.", hint="Send less at once.")
        if reader.eof:
            return data
    raise Invalid(f"The body is not whole {encoding}.")


def read(body: bytes, media_type: str) -> list[Span]:
    """The spans of an export request. Raises Invalid."""
    kind = media_type.partition(";")[0].strip().lower()
    if kind == PROTOBUF:
        found = _protobuf(body)
    elif kind == JSON:
        found = _json(body)
    else:
        raise Invalid(f"Invalid Content-Type: {media_type[:80]!r}.", hint=f"Expected: {PROTOBUF} or {JSON}.")
    if not found:
        raise Invalid("Invalid OpenTelemetry format - no spans found.")
    return found


# --- protobuf -----------------------------------------------------------------------------------------------------------


def _protobuf(body: bytes) -> list[Span]:
    try:
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    except ImportError as missing:
        raise Unavailable("This server cannot read protobuf.", hint="pip install 'noria[otlp]', or send JSON.") from missing
    message = ExportTraceServiceRequest()
    try:
        message.ParseFromString(body)
    except (DecodeError, ValueError) as cause:
        raise Invalid("Invalid OpenTelemetry format: the body is not an ExportTraceServiceRequest.") from cause
    spans = list[Span]()
    for group in message.resource_spans:
        resource = {a.key: plain(_of_message(a.value)) for a in group.resource.attributes}
        for scope in group.scope_spans:
            _room(len(spans) + len(scope.spans))
            spans += [_span(_span_of_message(s), resource) for s in scope.spans]
    return spans


def _span_of_message(span: Any) -> dict[str, Any]:
    return {
        "trace_id": span.trace_id.hex(), "span_id": span.span_id.hex(), "parent_id": span.parent_span_id.hex(),
        "name": span.name, "trace_state": span.trace_state, "flags": span.flags, "kind": int(span.kind),
        "start": span.start_time_unix_nano, "end": span.end_time_unix_nano, "attributes": _pairs_of(span.attributes),
        "dropped_attributes_count": span.dropped_attributes_count,
        "events": [
            {"time_unix_nano": e.time_unix_nano, "name": e.name, "attributes": _pairs_of(e.attributes)} for e in span.events
        ],
        "dropped_events_count": span.dropped_events_count,
        "links": [
            {
                "trace_id": base64.b64encode(k.trace_id).decode(), "span_id": base64.b64encode(k.span_id).decode(),
                "trace_state": k.trace_state, "attributes": _pairs_of(k.attributes),
            }
            for k in span.links
        ],
        "dropped_links_count": span.dropped_links_count, "status": int(span.status.code), "message": span.status.message,
    }  # fmt: skip


def _pairs_of(attributes: Any) -> list[dict[str, Any]]:
    return [{"key": a.key, "value": _of_message(a.value)} for a in attributes]


def _of_message(value: Any) -> dict[str, Any]:
    """An AnyValue. Protobuf itself refuses messages nested deeper than 100."""
    which = value.WhichOneof("value")
    if which is None:
        return {}
    found = getattr(value, which)
    if which == "array_value":
        return {which: {"values": [_of_message(v) for v in found.values]}}
    if which == "kvlist_value":
        return {which: {"values": _pairs_of(found.values)}}
    if which == "bytes_value":
        return {which: base64.b64encode(found).decode()}
    return {which: _float(found) if which == "double_value" else found}


# --- JSON ---------------------------------------------------------------------------------------------------------------


def _json(body: bytes) -> list[Span]:
    """From OTLP's JSON: camel case, ids in hex, 64-bit integers as text. Fields it does not know are ignored, as it asks for."""
    spans = list[Span]()
    for group in _list(_dict(msgspec.json.decode(body), "the body"), "resourceSpans"):
        resource = {
            pair["key"]: plain(pair["value"])
            for pair in _pairs(_dict(_dict(group, "resourceSpans").get("resource") or {}, "resource"))
        }
        for scope in _list(group, "scopeSpans"):
            found = _list(_dict(scope, "scopeSpans"), "spans")
            _room(len(spans) + len(found))
            spans += [_span(_span_of_json(_dict(s, "spans")), resource) for s in found]
    return spans


def _span_of_json(span: dict[str, Any]) -> dict[str, Any]:
    status = _dict(span.get("status") or {}, "status")
    return {
        "trace_id": _hex(span, "traceId"), "span_id": _hex(span, "spanId"), "parent_id": _hex(span, "parentSpanId"),
        "name": _text(span, "name"), "trace_state": _text(span, "traceState"), "flags": _whole(span, "flags"),
        "kind": _enum(span.get("kind"), _KIND_NAMES, "kind"), "start": _whole(span, "startTimeUnixNano"),
        "end": _whole(span, "endTimeUnixNano"), "attributes": _pairs(span),
        "dropped_attributes_count": _whole(span, "droppedAttributesCount"),
        "events": [
            {"time_unix_nano": _whole(e, "timeUnixNano"), "name": _text(e, "name"), "attributes": _pairs(e)}
            for e in (_dict(e, "events") for e in _list(span, "events"))
        ],
        "dropped_events_count": _whole(span, "droppedEventsCount"),
        "links": [
            {
                "trace_id": base64.b64encode(bytes.fromhex(_hex(k, "traceId"))).decode(),
                "span_id": base64.b64encode(bytes.fromhex(_hex(k, "spanId"))).decode(),
                "trace_state": _text(k, "traceState"), "attributes": _pairs(k),
            }
            for k in (_dict(k, "links") for k in _list(span, "links"))
        ],
        "dropped_links_count": _whole(span, "droppedLinksCount"), "status": _enum(status.get("code"), _STATUS_NAMES, "status.code"),
        "message": _text(status, "message"),
    }  # fmt: skip


def _pairs(owner: dict[str, Any], name: str = _ATTRIBUTE) -> list[dict[str, Any]]:
    return [
        {"key": _text(pair, "key"), "value": _of_json(pair.get("value"))}
        for pair in (_dict(p, name) for p in _list(owner, name))
    ]


def _of_json(value: Any) -> dict[str, Any]:
    fields = _dict({} if value is None else value, "an attribute's value")
    for name, kept in _VALUES.items():
        found = fields.get(name)
        if found is None:
            continue
        if name == "arrayValue":
            return {kept: {"values": [_of_json(v) for v in _list(_dict(found, name), "values")]}}
        if name == "kvlistValue":
            return {kept: {"values": _pairs(_dict(found, name), "values")}}
        if name == "intValue":
            return {kept: _whole(fields, name, signed=True)}
        if name == "doubleValue":
            return {kept: _double(found)}
        if name == "boolValue" and isinstance(found, bool):
            return {kept: found}
        if name in ("stringValue", "bytesValue") and isinstance(found, str):
            return {kept: found if name == "stringValue" else _bytes(found)}
        raise Invalid(f"Invalid OpenTelemetry format: {name} holds something else.", where=name)
    return {}


_VALUES = {
    "stringValue": "string_value", "intValue": "int_value", "boolValue": "bool_value", "doubleValue": "double_value",
    "arrayValue": "array_value", "kvlistValue": "kvlist_value", "bytesValue": "bytes_value",
}  # fmt: skip


def _dict(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Invalid(f"Invalid OpenTelemetry format: {where} must be an object.", where=where)
    return value


def _list(owner: dict[str, Any], name: str) -> list[Any]:
    found = owner.get(name)
    if found is None:
        return []
    if not isinstance(found, list):
        raise Invalid(f"Invalid OpenTelemetry format: {name} must be a list.", where=name)
    return found


def _text(owner: dict[str, Any], name: str) -> str:
    found = owner.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise Invalid(f"Invalid OpenTelemetry format: {name} must be text.", where=name)
    return found


def _hex(owner: dict[str, Any], name: str) -> str:
    found = _text(owner, name)
    try:
        return bytes.fromhex(found).hex()
    except ValueError as cause:
        raise Invalid(f"Invalid OpenTelemetry format: {name} must be hex digits.", where=name) from cause


def _whole(owner: dict[str, Any], name: str, *, signed: bool = False) -> int:
    found = owner.get(name)
    if isinstance(found, str) and len(found) <= 20:
        try:
            found = int(found)
        except ValueError:
            found = -1 if not signed else None
    if found is None and not signed:
        return 0
    if not isinstance(found, int) or isinstance(found, bool) or not (-_INT64 if signed else 0) <= found < _INT64:
        raise Invalid(f"Invalid OpenTelemetry format: {name} must be an integer of 64 bits.", where=name)
    return found


def _double(found: Any) -> Any:
    if isinstance(found, str) and found in ("NaN", "Infinity", "-Infinity"):
        return found
    if not isinstance(found, int | float) or isinstance(found, bool):
        raise Invalid("Invalid OpenTelemetry format: doubleValue must be a number.", where="doubleValue")
    try:
        return _float(float(found))
    except OverflowError as cause:
        raise Invalid("doubleValue is beyond the range of 64-bit numbers.", where="doubleValue") from cause


def _bytes(found: str) -> str:
    try:
        return base64.b64encode(base64.b64decode(found, validate=True)).decode()
    except (binascii.Error, ValueError) as cause:
        raise Invalid("Invalid OpenTelemetry format: bytesValue must be base64.", where="bytesValue") from cause


def _enum(found: Any, names: dict[str, int], where: str) -> int:
    number = 0 if found is None else names.get(found) if isinstance(found, str) else found
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(names):
        raise Invalid(f"Invalid OpenTelemetry format: {str(found)[:40]!r} is not a {where}.", where=where)
    return number


# --- what both become ---------------------------------------------------------------------------------------------------


def _room(count: int) -> None:
    if count > SPANS_PER_REQUEST:
        raise TooLarge(f"These are more than {SPANS_PER_REQUEST} spans.", hint="Send fewer at once.")


def _span(raw: dict[str, Any], resource: dict[str, Any]) -> Span:
    """One span with its checks. Raises Invalid, naming it."""
    if len(raw["trace_id"]) != 32 or len(raw["span_id"]) != 16 or len(raw["parent_id"]) not in (0, 16):
        raise Invalid(
            "Invalid OpenTelemetry format: a span needs a trace id of 16 bytes, a span id of 8, and a parent of 8 or none.",
            where="span_id",
        )  # fmt: skip
    name, start, end, status = raw["name"], raw["start"], raw["end"], raw["status"]
    if len(name) > _NAME_MAX:
        raise Invalid(f"The name of a span has at most {_NAME_MAX} characters.", where="name")
    if not (0 <= start < _INT64 and 0 <= end < _INT64):
        raise Invalid(f"The times of the span {name[:80]!r} do not fit 64 bits.", where="start_time_unix_nano")
    if len(raw["attributes"]) > _ATTRIBUTES_MAX:
        raise Invalid(f"A span has at most {_ATTRIBUTES_MAX} attributes.", where="attributes")
    _check(resource, raw["attributes"], raw["events"], raw["links"], name, raw["message"], raw["trace_state"])
    body: dict[str, Any] = {"name": name, "start_time_unix_nano": start}
    if end:
        body["end_time_unix_nano"] = end
    body |= {
        key: raw[key]
        for key in (
            "trace_state", "flags", "kind", "attributes", "dropped_attributes_count", "events", "dropped_events_count", "links",
            "dropped_links_count",
        )
        if raw[key]
    }  # fmt: skip
    known = _STATUS[status] if 0 <= status < len(_STATUS) else "UNSET"
    body["status"] = {"code": f"STATUS_CODE_{known}", **({"message": raw["message"]} if raw["message"] else {})}
    attributes = {pair["key"]: plain(pair["value"]) for pair in raw["attributes"]}
    return Span(
        trace_id="tr-" + raw["trace_id"], span_id=raw["span_id"], parent_id=raw["parent_id"].replace("0" * 16, ""), name=name,
        kind=kind_of(attributes), status=known, start_ns=start, end_ns=end or None,  # type: ignore[arg-type]
        body=msgspec.json.encode(body).decode(), attributes=attributes, resource=resource,
    )  # fmt: skip


def _check(*found: Any) -> None:
    """Every text in `found` fits both databases, and nothing is nested too deeply. Without recursion: the input decides."""
    waiting = [(item, 0) for item in found]
    while waiting:
        item, depth = waiting.pop()
        if depth > VALUE_DEPTH_MAX * 4:
            raise Invalid(f"A value is nested more than {VALUE_DEPTH_MAX} levels deep.", where="attributes")
        if isinstance(item, str):
            if "\x00" in item:
                raise Invalid("A text in the spans contains a NUL character.", where="attributes", hint="Remove it.")
            if not item.isascii():
                try:
                    item.encode()
                except UnicodeEncodeError as cause:
                    raise Invalid("A text in the spans is not valid Unicode.", where="attributes") from cause
        elif isinstance(item, dict):
            waiting += [(value, depth + 1) for value in item.values()]
        elif isinstance(item, list):
            waiting += [(value, depth + 1) for value in item]


def _float(value: float) -> Any:
    """As JSON can hold it: NaN and the infinities become protobuf's words for them."""
    return value if math.isfinite(value) else "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def plain(value: dict[str, Any]) -> Any:
    """The plain value of an AnyValue."""
    for name, found in value.items():
        if name == "array_value":
            return [plain(v) for v in found["values"]]
        if name == "kvlist_value":
            return {pair["key"]: plain(pair["value"]) for pair in found["values"]}
        return found
    return None
