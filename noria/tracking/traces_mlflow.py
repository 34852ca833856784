"""MLflow's protocol of traces and assessments, versions 3 and 2: a translation with no rules of its own.

Times are RFC 3339 and durations seconds with an s, as protobuf's JSON writes them. Source of the shapes: mlflow/protos/service.proto
and assessments.proto of MLflow 3.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from litestar.handlers import HTTPRouteHandler
from msgspec import UNSET, Struct, UnsetType

from noria.http.route import Routes, delete, get, patch, post
from noria.kernel.errors import Invalid, NotFound
from noria.kernel.ids import ExperimentId, new_id
from noria.kernel.op import Op
from noria.tracking.mlflow import BODIES, Pair, Whole, Word, limit, needed, paged, pairs, rpc, whole, word
from noria.tracking.trace_model import (
    ARTIFACTS_TAG,
    NAME_TAG,
    SOURCE_TYPES,
    SPANS_TAG,
    STATES,
    Assessment,
    AssessmentChange,
    Trace,
)
from noria.tracking.traces import Traces
from noria.tracking.unserved import refuse

V3 = ("/api/3.0/mlflow", "/ajax-api/3.0/mlflow")
BOTH = (*BODIES, *V3)
TRACES_PER_PAGE, TRACES_PER_PAGE_MAX = 100, 500  # MLflow's
Time = str | None


# --- what is asked ------------------------------------------------------------------------------------------------------


class Source(Struct):
    source_type: Word = None
    source_id: str | None = None


class Serialized(Struct):
    serialization_format: str | None = None
    value: str | None = None


class ValueIn(Struct):
    value: Any = None
    serialized_value: Serialized | None = None
    error: dict[str, Any] | None = None


class AssessmentIn(Struct):
    assessment_id: str | None = None
    assessment_name: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    source: Source | None = None
    create_time: Time = None
    last_update_time: Time = None
    feedback: ValueIn | None = None
    expectation: ValueIn | None = None
    issue: dict[str, Any] | None = None
    rationale: str | None = None
    error: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    overrides: str | None = None
    valid: bool | None = None


class InExperiment(Struct):
    experiment_id: str | None = None


class Location(Struct):
    type: Word = None
    mlflow_experiment: InExperiment | None = None


class InfoIn(Struct):
    trace_id: str | None = None
    client_request_id: str | None = None
    trace_location: Location | None = None
    request_preview: str | None = None
    response_preview: str | None = None
    request_time: Time = None
    execution_duration: Time = None
    state: Word = None
    trace_metadata: dict[str, str] | None = None
    tags: dict[str, str] | None = None
    assessments: list[AssessmentIn] | None = None


class TraceIn(Struct):
    trace_info: InfoIn | None = None


class StartTrace(Struct):
    trace: TraceIn | None = None


class OfTrace(Struct):
    trace_id: str | None = None
    assessment_id: str | None = None
    allow_partial: bool | None = None


class OfTraces(Struct):
    trace_ids: list[str] | None = None
    experiment_ids: list[str] | None = None


class SearchTraces(Struct):
    locations: list[Location] | None = None
    experiment_ids: list[str] | None = None
    filter: str | None = None
    max_results: Whole = None
    order_by: list[str] | None = None
    page_token: str | None = None


class TracePair(Pair):
    trace_id: str | None = None


class DeleteTraces(Struct):
    experiment_id: str | None = None
    max_timestamp_millis: Whole = None
    max_traces: Whole = None
    request_ids: list[str] | None = None


class LinkToRun(Struct):
    trace_ids: list[str] | None = None
    run_id: str | None = None


class PromptRef(Struct):
    name: str | None = None
    version: Word = None


class LinkPrompts(Struct):
    trace_id: str | None = None
    prompt_versions: list[PromptRef] | None = None


class CreateAssessment(Struct):
    trace_id: str | None = None
    assessment: AssessmentIn | None = None


class UpdateAssessment(Struct):
    trace_id: str | None = None
    assessment_id: str | None = None
    assessment: AssessmentIn | None = None
    update_mask: str | dict[str, list[str]] | UnsetType = UNSET


class BeginTrace(Struct):
    experiment_id: str | None = None
    timestamp_ms: Whole = None
    request_metadata: list[Pair] | None = None
    tags: list[Pair] | None = None


class EndTrace(Struct):
    trace_id: str | None = None
    timestamp_ms: Whole = None
    status: Word = None
    request_metadata: list[Pair] | None = None
    tags: list[Pair] | None = None


# --- the routes ---------------------------------------------------------------------------------------------------------


def routes(traces: Traces) -> Routes:
    return [*_traces(traces), *_assessments(traces), *_version_2(traces), *_not_served()]


def _traces(traces: Traces) -> list[HTTPRouteHandler]:
    def start(op: Op, body: StartTrace) -> Any:
        info = needed(needed(body.trace, "trace").trace_info, "trace.trace_info")
        return {"trace": {"trace_info": info_out(traces.start(op, info_in(op, info)))}}

    def read(op: Op, body: OfTrace) -> Any:
        return {"trace": {"trace_info": info_out(traces.trace(op, needed(body.trace_id, "trace_id")))}}

    def read_whole(op: Op, body: OfTrace) -> Any:
        trace = traces.trace(op, needed(body.trace_id, "trace_id"))
        spans = traces.spans(op, [trace]).get(trace.id, [])
        if not body.allow_partial and not traces.is_whole(trace, spans):
            raise NotFound(f"Trace with ID {trace.id} is not fully exported yet, please try again later.", ref=trace.ref)
        return {"trace": trace_out(trace, spans)}

    def read_many(op: Op, body: OfTraces) -> Any:
        found = _scoped(traces.traces(op, needed(body.trace_ids, "trace_ids"), "artifact.read"), body.experiment_ids)
        spans = traces.spans(op, found)
        whole_ones = [t for t in found if t.id in spans and traces.is_whole(t, spans[t.id])]
        return {"traces": [trace_out(t, spans[t.id]) for t in whole_ones]}

    def read_infos(op: Op, body: OfTraces) -> Any:
        found = _scoped(traces.traces(op, needed(body.trace_ids, "trace_ids")), body.experiment_ids)
        return {"trace_infos": [info_out(t) for t in found]}

    def search(op: Op, body: SearchTraces) -> Any:
        inside = [
            place.mlflow_experiment.experiment_id for place in needed(body.locations, "locations") if place.mlflow_experiment
        ]
        found = traces.search(
            op, [i for i in inside if i], filter=body.filter or "", order_by=body.order_by, page=body.page_token or None,
            limit=limit(body.max_results, TRACES_PER_PAGE, most=TRACES_PER_PAGE_MAX),
        )  # fmt: skip
        return paged("traces", found, info_out)

    def remove(op: Op, body: DeleteTraces) -> Any:
        removed = traces.delete(
            op, needed(body.experiment_id, "experiment_id"), ids=body.request_ids or None,
            upto_ms=None if body.max_timestamp_millis is None else whole(body.max_timestamp_millis, "max_timestamp_millis"),
            most=None if body.max_traces is None else whole(body.max_traces, "max_traces"),
        )  # fmt: skip
        return {"traces_deleted": removed}

    def set_tag(op: Op, body: TracePair) -> Any:
        traces.set_tag(op, needed(body.trace_id, "trace_id"), needed(body.key, "key"), body.value or "")
        return {}

    def delete_tag(op: Op, body: TracePair) -> Any:
        traces.delete_tag(op, needed(body.trace_id, "trace_id"), needed(body.key, "key"))
        return {}

    def link_to_run(op: Op, body: LinkToRun) -> Any:
        traces.link_to_run(op, needed(body.trace_ids, "trace_ids"), needed(body.run_id, "run_id"))
        return {}

    def link_prompts(op: Op, body: LinkPrompts) -> Any:
        prompts = [(p.name or "", str(p.version or "")) for p in needed(body.prompt_versions, "prompt_versions")]
        traces.link_prompts(op, needed(body.trace_id, "trace_id"), prompts)
        return {}

    return [
        rpc(post, "/traces", "run.log", StartTrace, start, prefixes=V3),
        rpc(post, "/traces/search", "run.read", SearchTraces, search, prefixes=V3),
        rpc(get, "/traces/get", "artifact.read", OfTrace, read_whole, prefixes=V3),
        rpc(get, "/traces/batchGet", "artifact.read", OfTraces, read_many, prefixes=V3),
        rpc(post, "/traces/batchGetInfos", "run.read", OfTraces, read_infos, prefixes=V3),
        rpc(get, "/traces/{trace_id:str}", "run.read", OfTrace, read, prefixes=V3),
        rpc(post, "/traces/delete-traces", "run.delete", DeleteTraces, remove, prefixes=BOTH),
        rpc(patch, "/traces/{trace_id:str}/tags", "run.log", TracePair, set_tag, prefixes=BOTH),
        rpc(delete, "/traces/{trace_id:str}/tags", "run.log", TracePair, delete_tag, prefixes=BOTH),
        rpc(post, "/traces/link-to-run", "run.log", LinkToRun, link_to_run, prefixes=BOTH),
        rpc(post, "/traces/link-prompts", "run.log", LinkPrompts, link_prompts, prefixes=BOTH),
    ]


def _assessments(traces: Traces) -> list[HTTPRouteHandler]:
    def create(op: Op, body: CreateAssessment) -> Any:
        found = assessment_in(op, needed(body.assessment, "assessment"), needed(body.trace_id, "trace_id"))
        return {"assessment": assessment_out(traces.assessments.create(op, found))}

    def read(op: Op, body: OfTrace) -> Any:
        return {"assessment": assessment_out(traces.assessments.get(op, str(body.trace_id), str(body.assessment_id)))}

    def update(op: Op, body: UpdateAssessment) -> Any:
        change = change_in(needed(body.assessment, "assessment"), mask(body.update_mask))
        return {
            "assessment": assessment_out(traces.assessments.update(op, str(body.trace_id), str(body.assessment_id), change))
        }

    def remove(op: Op, body: OfTrace) -> Any:
        traces.assessments.delete(op, str(body.trace_id), str(body.assessment_id))
        return {}

    one = "/traces/{trace_id:str}/assessments/{assessment_id:str}"
    return [
        rpc(post, "/traces/{trace_id:str}/assessments", "run.log", CreateAssessment, create, prefixes=V3),
        rpc(get, one, "run.read", OfTrace, read, prefixes=V3),
        rpc(patch, one, "run.log", UpdateAssessment, update, prefixes=V3),
        rpc(delete, one, "run.log", OfTrace, remove, prefixes=V3),
    ]


def _version_2(traces: Traces) -> list[HTTPRouteHandler]:
    """What clients before MLflow 3 call."""

    def begin(op: Op, body: BeginTrace) -> Any:
        found = traces.begin(
            op, needed(body.experiment_id, "experiment_id"), whole(needed(body.timestamp_ms, "timestamp_ms"), "timestamp_ms"),
            pairs(body.request_metadata), pairs(body.tags),
        )  # fmt: skip
        return {"trace_info": info_2_out(found)}

    def end(op: Op, body: EndTrace) -> Any:
        found = traces.end(
            op, needed(body.trace_id, "request_id"), whole(needed(body.timestamp_ms, "timestamp_ms"), "timestamp_ms"),
            word(body.status or "OK", STATES, "status"), pairs(body.request_metadata), pairs(body.tags),
        )  # fmt: skip
        return {"trace_info": info_2_out(found)}

    def read(op: Op, body: OfTrace) -> Any:
        return {"trace_info": info_2_out(traces.trace(op, needed(body.trace_id, "request_id")))}

    def search(op: Op, body: SearchTraces) -> Any:
        found = traces.search(
            op, needed(body.experiment_ids, "experiment_ids"), filter=body.filter or "", order_by=body.order_by,
            limit=limit(body.max_results, TRACES_PER_PAGE, most=TRACES_PER_PAGE_MAX), page=body.page_token or None,
        )  # fmt: skip
        return paged("traces", found, info_2_out)

    return [
        rpc(post, "/traces", "run.log", BeginTrace, begin),
        rpc(get, "/traces", "run.read", SearchTraces, search),
        rpc(patch, "/traces/{trace_id:str}", "run.log", EndTrace, end),
        rpc(get, "/traces/{trace_id:str}/info", "run.read", OfTrace, read),
    ]


def _not_served() -> list[HTTPRouteHandler]:
    """Said by name: the catch-all of MLflow's API is not asked where a trace could be meant."""
    paths = [f"{prefix}/traces/{what}" for prefix in V3 for what in ("metrics", "calculate-filter-correlation")]
    return refuse(paths, "traces", verbs=(post,))


def _scoped(found: list[Trace], experiment_ids: list[str] | None) -> list[Trace]:
    return found if experiment_ids is None else [t for t in found if t.experiment_id in set(experiment_ids)]


# --- what is read -------------------------------------------------------------------------------------------------------

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def time_in(text: str, where: str) -> int:
    """Milliseconds since 1970 of an RFC 3339 time. Raises Invalid."""
    try:
        found = datetime.fromisoformat(text) if len(text) <= 40 else None
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise Invalid(f"{where} must be a time such as 2026-01-31T12:00:00.000Z.", where=where)
    return (found - _EPOCH) // _MS


def duration_in(text: str, where: str) -> int:
    """Milliseconds of a duration such as '1.234s'. Raises Invalid."""
    found = re.fullmatch(r"(\d{1,12})(?:\.(\d{1,9}))?s", text, re.ASCII)
    if not found:
        raise Invalid(f"{where} must be seconds such as 1.234s.", where=where)
    return int(found[1]) * 1000 + int((found[2] or "0").ljust(3, "0")[:3])


def mask(found: str | dict[str, list[str]] | UnsetType) -> set[str]:
    """The fields that a FieldMask names: protobuf writes it as text in camel case. Raises Invalid."""
    if isinstance(found, UnsetType):
        raise Invalid("Missing value for required parameter 'update_mask'.", where="update_mask")
    names = found.split(",") if isinstance(found, str) else found.get("paths", [])
    return {re.sub(r"[A-Z]", lambda m: "_" + m[0].lower(), name.strip()) for name in names if name.strip()}


def info_in(op: Op, info: InfoIn) -> Trace:
    trace_id, place = needed(info.trace_id, "trace_id"), needed(info.trace_location, "trace_location")
    if place.mlflow_experiment is None:
        raise Invalid("Noria keeps traces in experiments only.", where="trace_location", hint="Give mlflow_experiment.")
    return Trace(
        id=trace_id, experiment_id=ExperimentId(needed(place.mlflow_experiment.experiment_id, "experiment_id")),
        state=word(info.state or "STATE_UNSPECIFIED", STATES, "state") if info.state else "STATE_UNSPECIFIED",  # type: ignore[arg-type]
        at_ms=op.at_ms if info.request_time is None else time_in(info.request_time, "request_time"),
        duration_ms=None if info.execution_duration is None else duration_in(info.execution_duration, "execution_duration"),
        client_request_id=info.client_request_id, request_preview=info.request_preview, response_preview=info.response_preview,
        tags=info.tags or {}, metadata=info.trace_metadata or {},
        assessments=[assessment_in(op, a, trace_id) for a in info.assessments or []],
    )  # fmt: skip


def assessment_in(op: Op, found: AssessmentIn, trace_id: str) -> Assessment:
    if found.issue is not None:
        raise Invalid("Noria keeps feedback and expectations, no issues.", where="assessment.issue")
    if (found.feedback is None) == (found.expectation is None):
        raise Invalid("Exactly one of `feedback` and `expectation` should be specified.", where="assessment")
    value, error, packed = value_in(found)
    source = found.source or Source()
    at_ms = op.at_ms if found.create_time is None else time_in(found.create_time, "create_time")
    return Assessment(
        id=found.assessment_id or "a-" + new_id(op.at_ms), trace_id=trace_id,
        name=needed(found.assessment_name, "assessment_name"), kind="feedback" if found.feedback else "expectation",
        source_type=word(source.source_type, SOURCE_TYPES, "source type") if source.source_type else SOURCE_TYPES[0],
        source_id=source.source_id or "", value=value, format=packed, error=error, rationale=found.rationale,
        metadata=found.metadata or {}, span_id=found.span_id or "", overrides=found.overrides or "",
        is_valid=found.valid is not False, created_at_ms=at_ms,
        updated_at_ms=at_ms if found.last_update_time is None else time_in(found.last_update_time, "last_update_time"),
    )  # fmt: skip


def value_in(found: AssessmentIn) -> tuple[Any, dict[str, Any] | None, str]:
    """The value, the error, and how the value was packed. Raises Invalid."""
    said = found.feedback or found.expectation or ValueIn()
    if said.serialized_value is None:
        return said.value, said.error or found.error, ""
    packed = said.serialized_value.serialization_format or "JSON_FORMAT"
    if packed != "JSON_FORMAT":
        raise Invalid(f"{packed[:40]!r} is no way to write a value.", where="serialization_format", hint="Use JSON_FORMAT.")
    return msgspec.json.decode(said.serialized_value.value or "null"), said.error, packed


def change_in(found: AssessmentIn, names: set[str]) -> AssessmentChange:
    """What the mask names of an assessment. Raises Invalid."""
    unknown = names - {"assessment_name", "feedback", "expectation", "rationale", "metadata", "valid"}
    if unknown or not names:
        raise Invalid(f"update_mask names {', '.join(sorted(unknown))[:80] or 'nothing'}.", where="update_mask")
    if {"feedback", "expectation"} <= names:
        raise Invalid("Cannot specify both `expectation` and `feedback` parameters.", where="update_mask")
    has_value = bool(names & {"feedback", "expectation"})
    value, error, packed = value_in(found) if has_value else (None, None, "")
    return AssessmentChange(
        kind=None if not has_value else "feedback" if "feedback" in names else "expectation",
        name=needed(found.assessment_name, "assessment_name") if "assessment_name" in names else None,
        has_value=has_value, value=value, error=error, format=packed,
        rationale=(found.rationale or "") if "rationale" in names else None,
        metadata=(found.metadata or {}) if "metadata" in names else None,
    )  # fmt: skip


# --- what is answered ---------------------------------------------------------------------------------------------------


def time_out(at_ms: int) -> str:
    return (_EPOCH + at_ms * _MS).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_ms % 1000:03d}Z"


def duration_out(duration_ms: int) -> str:
    return f"{duration_ms // 1000}.{duration_ms % 1000:03d}s"


def tags_out(trace: Trace) -> dict[str, str]:
    """Its tags, and those that follow from it: its name, where its files lie, that its spans are here."""
    tags = {**trace.tags, ARTIFACTS_TAG: trace.artifact_uri}
    if trace.name:
        tags[NAME_TAG] = trace.name
    if trace.spans_count:
        tags[SPANS_TAG] = "TRACKING_STORE"
    return tags


def info_out(trace: Trace) -> dict[str, Any]:
    info = {
        "trace_id": trace.id, "client_request_id": trace.client_request_id,
        "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": trace.experiment_id}},
        "request_preview": trace.request_preview, "response_preview": trace.response_preview,
        "request_time": time_out(trace.at_ms),
        "execution_duration": None if trace.duration_ms is None else duration_out(trace.duration_ms), "state": trace.state,
        "trace_metadata": trace.metadata, "tags": tags_out(trace), "assessments": [assessment_out(a) for a in trace.assessments],
    }  # fmt: skip
    return {key: value for key, value in info.items() if value is not None}


def trace_out(trace: Trace, spans: list[dict[str, Any]]) -> dict[str, Any]:
    return {"trace_info": info_out(trace), "spans": [span_out(span) for span in spans]}


def span_out(row: dict[str, Any]) -> msgspec.Raw:
    """What is kept of a span is the answer, but for its ids."""
    ids = {"trace_id": _base64(row["trace_id"].removeprefix("tr-")), "span_id": _base64(row["span_id"])}
    if row["parent_id"]:
        ids["parent_span_id"] = _base64(row["parent_id"])
    return msgspec.Raw(msgspec.json.encode(ids)[:-1] + b"," + row["body"].encode()[1:])


def _base64(digits: str) -> str:
    return base64.b64encode(bytes.fromhex(digits)).decode()


def assessment_out(found: Assessment) -> dict[str, Any]:
    packed: dict[str, Any] = {"value": found.value}
    if found.format:
        text = msgspec.json.encode(found.value).decode()
        packed = {"serialized_value": {"serialization_format": found.format, "value": text}}
    out = {
        "assessment_id": found.id, "assessment_name": found.name, "trace_id": found.trace_id, "span_id": found.span_id or None,
        "source": {"source_type": found.source_type, "source_id": found.source_id},
        "create_time": time_out(found.created_at_ms), "last_update_time": time_out(found.updated_at_ms),
        found.kind: packed if found.error is None else {**packed, "error": found.error}, "rationale": found.rationale,
        "metadata": found.metadata or None, "overrides": found.overrides or None, "valid": found.is_valid,
    }  # fmt: skip
    return {key: value for key, value in out.items() if value is not None}


def info_2_out(trace: Trace) -> dict[str, Any]:
    info = {
        "request_id": trace.id, "experiment_id": trace.experiment_id, "timestamp_ms": trace.at_ms, "status": trace.state,
        "request_metadata": [{"key": k, "value": v} for k, v in trace.metadata.items()],
        "tags": [{"key": k, "value": v} for k, v in tags_out(trace).items()],
    }  # fmt: skip
    return info if trace.duration_ms is None else {**info, "execution_time_ms": trace.duration_ms}
