"""Traces through the door: what a client says, what spans say, and what people say of both; on both databases."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from noria.tracking.trace_model import SPANS_PER_REQUEST
from tests.conftest import Noria

V3 = "/api/3.0/mlflow"
T1, T2 = "a" * 32, "b" * 32
ROOT, CHILD = "1" * 16, "2" * 16


def text(value: str) -> dict[str, Any]:
    return {"stringValue": value}


def span(span_id: str = ROOT, parent: str = "", trace: str = T1, *, name: str = "ask", start: int = 1_000, end: int = 1_500,
         status: int = 1, **attributes: Any) -> dict[str, Any]:  # fmt: skip
    """A span as OTLP's JSON; times in milliseconds."""
    return {
        "traceId": trace, "spanId": span_id, "parentSpanId": parent, "name": name, "kind": 1,
        "startTimeUnixNano": str(start * 1_000_000), "endTimeUnixNano": str(end * 1_000_000), "status": {"code": status},
        "attributes": [{"key": k, "value": v if isinstance(v, dict) else text(v)} for k, v in attributes.items()],
    }  # fmt: skip


def export(*spans: dict[str, Any], **resource: str) -> dict[str, Any]:
    attributes = [{"key": k, "value": text(v)} for k, v in resource.items()]
    return {"resourceSpans": [{"resource": {"attributes": attributes}, "scopeSpans": [{"spans": list(spans)}]}]}


def send(noria: Noria, body: Any, experiment: str = "0", http: Any = None, **headers: str) -> Any:
    return (http or noria.http).post(
        "/v1/traces", content=body if isinstance(body, bytes) else json.dumps(body),
        headers={"content-type": "application/json", "x-mlflow-experiment-id": experiment, **headers},
    )  # fmt: skip


def start(noria: Noria, trace_id: str = "tr-" + T1, experiment: str = "0", **info: Any) -> Any:
    whole = {
        "trace_id": trace_id, "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}},
        "request_time": "1970-01-01T00:00:01.000Z", "execution_duration": "0.500s", "state": "OK", **info,
    }  # fmt: skip
    return noria.http.post(f"{V3}/traces", json={"trace": {"trace_info": whole}})


def info(noria: Noria, trace_id: str = "tr-" + T1) -> dict[str, Any]:
    return dict(noria.http.get(f"{V3}/traces/{trace_id}").json()["trace"]["trace_info"])


def found(noria: Noria, filter: str = "", order_by: list[str] | None = None, experiment: str = "0") -> list[str]:
    """The last letter of the ids that a search finds."""
    answer = noria.http.post(
        f"{V3}/traces/search",
        json={
            "locations": [{"mlflow_experiment": {"experiment_id": experiment}}],
            "filter": filter,
            "order_by": order_by or [],
        },
    )
    assert answer.status_code == 200, answer.text
    return [t["trace_id"][-1] for t in answer.json()["traces"]]


def judge(noria: Noria, trace_id: str = "tr-" + T1, source: str = "HUMAN", **fields: Any) -> Any:
    assessment = {"assessment_name": "correct", "source": {"source_type": source, "source_id": "ada"}, **fields}
    return noria.http.post(f"{V3}/traces/{trace_id}/assessments", json={"assessment": assessment})


def test_what_a_client_says_of_a_trace_is_kept(noria: Noria) -> None:
    said = start(noria, tags={"mlflow.traceName": "ask", "team": "a"}, trace_metadata={"k": "v"}, request_preview="q")
    assert said.status_code == 200, said.text
    got = info(noria)
    assert got == said.json()["trace"]["trace_info"]
    assert (got["request_time"], got["execution_duration"], got["state"]) == ("1970-01-01T00:00:01.000Z", "0.500s", "OK")
    assert got["tags"] == {
        "team": "a", "mlflow.traceName": "ask", "mlflow.artifactLocation": f"mlflow-artifacts:/0/traces/tr-{T1}/artifacts"
    }  # fmt: skip
    assert (got["trace_metadata"], got["request_preview"], got["assessments"]) == ({"k": "v"}, "q", [])
    assert noria.facts() == [], "what comes in by the thousand writes no fact"


def test_spans_tell_a_trace_until_its_client_does(noria: Noria) -> None:
    usage = {
        "kvlistValue": {
            "values": [{"key": k, "value": {"intValue": n}} for k, n in (("input_tokens", "3"), ("output_tokens", 4))]
        }
    }
    child = span(CHILD, ROOT, name="llm", start=1_100, end=1_300, **{"mlflow.chat.tokenUsage": usage, "session.id": "s1"})
    assert send(noria, export(child, **{"service.name": "shop"})).json() == {}
    assert (info(noria)["state"], info(noria)["execution_duration"]) == ("IN_PROGRESS", "0.200s")
    root = span(name="ask", **{"mlflow.spanInputs": "why?", "mlflow.spanOutputs": "because", "mlflow.traceTag.team": "b"})
    send(noria, export(root))
    got = info(noria)
    assert (got["state"], got["request_time"], got["execution_duration"]) == ("OK", "1970-01-01T00:00:01.000Z", "0.500s")
    assert (got["request_preview"], got["response_preview"]) == ("why?", "because")
    assert {"service.name": "shop", "team": "b", "mlflow.traceName": "ask"}.items() <= got["tags"].items()
    assert got["tags"]["mlflow.trace.spansLocation"] == "TRACKING_STORE"
    assert got["trace_metadata"]["mlflow.trace.session"] == "s1"
    assert json.loads(got["trace_metadata"]["mlflow.trace.tokenUsage"])["total_tokens"] == 7
    start(noria, execution_duration="9.000s", state="ERROR", request_preview="client")
    send(noria, export(span(CHILD, ROOT, end=20_000)))
    got = info(noria)
    assert (got["execution_duration"], got["state"], got["request_preview"]) == ("9.000s", "ERROR", "client")


def test_tokens_are_counted_once(noria: Noria) -> None:
    """A span that counts tokens counts for those below it."""
    many = [
        span(f"{i:016x}", "" if i == 1 else f"{i - 1:016x}", **{"gen_ai.usage.input_tokens": {"intValue": "5"}})
        for i in (1, 2, 3)
    ]
    send(noria, export(*many))
    assert json.loads(info(noria)["trace_metadata"]["mlflow.trace.tokenUsage"])["input_tokens"] == 5


def test_spans_are_read_back_exactly(noria: Noria) -> None:
    values = {
        "text": text("ä🙂"), "int": {"intValue": str(2**63 - 1)}, "double": {"doubleValue": 0.1}, "nan": {"doubleValue": "NaN"},
        "yes": {"boolValue": True}, "bytes": {"bytesValue": "AAE="}, "none": {},
        "list": {"arrayValue": {"values": [{"intValue": "1"}, text("a")]}},
        "map": {"kvlistValue": {"values": [{"key": "a", "value": text("b")}]}},
    }  # fmt: skip
    whole = span(**values)
    whole["events"] = [{"timeUnixNano": "1200000000", "name": "told", "attributes": [{"key": "x", "value": text("y")}]}]
    whole["links"] = [{"traceId": T2, "spanId": CHILD}]
    send(noria, export(whole))
    got = noria.http.get(f"{V3}/traces/get", params={"trace_id": "tr-" + T1}).json()["trace"]["spans"]
    pytest.importorskip("opentelemetry.proto.trace.v1.trace_pb2")
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    read = ParseDict(got[0], Span())
    assert (read.trace_id.hex(), read.span_id.hex(), read.parent_span_id) == (T1, ROOT, b"")
    kept = {a.key: a.value for a in read.attributes}
    assert kept["text"].string_value == "ä🙂" and kept["int"].int_value == 2**63 - 1 and kept["double"].double_value == 0.1
    assert (
        kept["nan"].double_value != kept["nan"].double_value
        and kept["yes"].bool_value
        and kept["bytes"].bytes_value == b"\0\1"
    )
    assert kept["none"].WhichOneof("value") is None and kept["list"].array_value.values[1].string_value == "a"
    assert kept["map"].kvlist_value.values[0].key == "a"
    assert read.events[0].name == "told" and read.links[0].trace_id.hex() == T2
    view = noria.http.get(f"/api/v1/traces/tr-{T1}/spans").json()["spans"][0]
    assert (view["offset_us"], view["duration_us"], view["attributes"]["map"]) == (0, 500_000, {"a": "b"})


def test_protobuf_and_gzip_are_the_same_spans(noria: Noria) -> None:
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    as_json = export(span(**{"mlflow.spanInputs": "x"}), span(CHILD, ROOT, end=0))
    send(noria, gzip.compress(json.dumps(as_json).encode()), **{"content-encoding": "gzip"})
    read = noria.http.get(f"{V3}/traces/batchGet", params={"trace_ids": ["tr-" + T1]}).json()["traces"][0]["spans"]
    message = ExportTraceServiceRequest()
    for plain in read:
        ParseDict({"spans": [plain]}, message.resource_spans.add().scope_spans.add())
    noria.app.traces.delete(noria.op(), "0", ids=["tr-" + T1])
    answer = send(noria, message.SerializeToString(), **{"content-type": "application/x-protobuf"})
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"", "application/x-protobuf")
    assert noria.http.get(f"{V3}/traces/batchGet", params={"trace_ids": ["tr-" + T1]}).json()["traces"][0]["spans"] == read


def test_a_trace_that_is_not_whole_says_so(noria: Noria) -> None:
    send(noria, export(span(CHILD, ROOT)))
    of = {"trace_id": "tr-" + T1}
    refused = noria.http.get(f"{V3}/traces/get", params=of)
    assert (refused.status_code, refused.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert "not fully exported" in refused.json()["message"]
    assert len(noria.http.get(f"{V3}/traces/get", params={**of, "allow_partial": True}).json()["trace"]["spans"]) == 1
    assert noria.http.get(f"{V3}/traces/batchGet", params={"trace_ids": ["tr-" + T1]}).json() == {"traces": []}
    start(noria, trace_metadata={"mlflow.trace.sizeStats": '{"num_spans": 2}'})
    assert noria.http.get(f"{V3}/traces/get", params=of).status_code == 404
    send(noria, export(span()))
    assert noria.http.get(f"{V3}/traces/get", params=of).status_code == 200


@pytest.fixture
def three(noria: Noria) -> Noria:
    """Traces a, b and c, of different kinds."""
    send(
        noria,
        export(
            span(name="ask", model="m1", n={"intValue": "3"}),
            span(CHILD, ROOT, name="llm", note="Refund 100%"),
        ),
    )
    send(noria, export(span(trace=T2, name="tool", start=2_000, end=2_100, status=2, **{"mlflow.spanType": "TOOL"})))
    start(noria, "tr-c", request_time="1970-01-01T00:00:03Z", execution_duration="2s", client_request_id="r-1",
          tags={"team": "x", "mlflow.traceName": "said"}, trace_metadata={"mlflow.modelId": "m-1"})  # fmt: skip
    return noria


FILTERS = [
        ("", "cba"), ("status = 'ERROR'", "b"), ("trace.status IN ('OK')", "ca"), ("name = 'ask'", "a"),
        ("attributes.name LIKE 'to%'", "b"), ("tags.`mlflow.traceName` = 'said'", "c"), ("timestamp_ms >= 2000", "cb"),
        ("trace.execution_time_ms > 200", "ca"), ("trace.end_time_ms > 3000", "c"), ("client_request_id = 'r-1'", "c"),
        (f"request_id = 'tr-{T1}'", "a"), (f"trace.trace_id IN ('tr-c', 'tr-{T2}')", "cb"),
        ("tags.team = 'x'", "c"), ("tag.team IS NULL", "ba"), ("metadata.`mlflow.modelId` = 'm-1'", "c"),
        ("request_metadata.`mlflow.modelId` IS NOT NULL", "c"), ("span.name = 'llm'", "a"), ("span.type = 'TOOL'", "b"),
        ("span.status = 'ERROR'", "b"), ("span.attributes.model = 'm1'", "a"), ("span.attributes.model LIKE 'm%'", "a"),
        ("span.attributes.n = '3'", "a"), ("span.attributes.n != '3'", ""), ("text LIKE '%Refund 100_%'", "a"),
        ("trace.text ILIKE '%refund%'", "a"), ("span.content LIKE '%refund%'", ""), ("span.name = 'llm' AND span.name = 'ask'", ""),
        ("run_id = 'none'", ""), ("run_id IS NULL", "cba"), ("prompt = 'p/1'", ""), ("feedback.correct IS NULL", "cba"),
]  # fmt: skip


def test_traces_are_found_by(three: Noria) -> None:
    for filter, wanted in FILTERS:
        assert "".join(found(three, filter)) == wanted, filter


def test_traces_are_sorted_and_paged(three: Noria) -> None:
    assert found(three, order_by=["timestamp_ms ASC"]) == ["a", "b", "c"]
    assert found(three, order_by=["execution_time_ms DESC"]) == ["c", "a", "b"]
    assert found(three, order_by=["tags.team", "name"]) == ["c", "a", "b"]
    pages, token = [], None
    while token or not pages:
        body = {"locations": [{"mlflow_experiment": {"experiment_id": "0"}}], "max_results": 2, "page_token": token}
        pages.append(three.http.post(f"{V3}/traces/search", json=body).json())
        token = pages[-1].get("next_page_token")
    assert [[t["trace_id"][-1] for t in p["traces"]] for p in pages] == [["c", "b"], ["a"]]
    listed = three.http.get("/api/v1/traces", params={"experiment": "0", "filter": "status = 'OK'", "limit": 1}).json()
    assert (listed["items"][0]["id"], bool(listed["next"])) == ("tr-c", True)


MEANINGLESS = ["loss < 1", "metrics.loss < 1", "span.start = 'x'", "span.attributes. = 'x'", "span.name > 'a'", "text = 'a'", "status > 3",
     "timestamp_ms = 'a'", "feedback.x > 'word'", "issue.id = 'a'", "prompt like 'a'", "name RLIKE 'a'", "span.name IS NULL",
     "name = 'a' or name = 'b'", "tags.a = 'x\x00'", "(", "timestamp_ms > 99999999999999999999"]  # fmt: skip


def test_a_filter_that_means_nothing_is_refused(noria: Noria) -> None:
    for filter in MEANINGLESS:
        body = {"locations": [{"mlflow_experiment": {"experiment_id": "0"}}], "filter": filter}
        answer = noria.http.post(f"{V3}/traces/search", json=body)
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), answer.text


def test_assessments_have_a_history(noria: Noria) -> None:
    start(noria)
    first = judge(noria, feedback={"value": True}, rationale="fits").json()["assessment"]
    one = f"{V3}/traces/tr-{T1}/assessments/{first['assessment_id']}"
    assert (first["feedback"], first["valid"], first["source"]) == (
        {"value": True},
        True,
        {"source_type": "HUMAN", "source_id": "ada"},
    )
    assert found(noria, "feedback.correct = 'true'") == ["a"]
    noria.clock.advance(5)
    second = judge(noria, feedback={"value": False}, overrides=first["assessment_id"]).json()["assessment"]
    assert noria.http.get(one).json()["assessment"]["valid"] is False
    assert (found(noria, "feedback.correct = 'true'"), found(noria, "feedback.correct = 'false'")) == ([], ["a"])
    assert [a["valid"] for a in info(noria)["assessments"]] == [False, True]
    other = f"{V3}/traces/tr-{T1}/assessments/{second['assessment_id']}"
    noria.clock.advance(5)
    changed = noria.http.patch(other, json={
        "assessment": {"feedback": {"value": "partly"}, "metadata": {"a": "b"}, "rationale": "see"},
        "update_mask": "feedback,metadata,rationale",
    }).json()["assessment"]  # fmt: skip
    assert (changed["feedback"]["value"], changed["metadata"], changed["rationale"]) == ("partly", {"a": "b"}, "see")
    assert changed["last_update_time"] > changed["create_time"] and changed["overrides"] == first["assessment_id"]
    assert found(noria, "feedback.correct = 'partly'") == ["a"]
    for _ in range(2):
        assert noria.http.delete(other).status_code == 200
    assert noria.http.get(one).json()["assessment"]["valid"] is True
    assert [e.kind for e in noria.facts()] == ["assessment.created"] * 2 + ["assessment.updated", "assessment.deleted"]


def test_numbers_and_expectations(noria: Noria) -> None:
    start(noria)
    judge(noria, "tr-" + T1, "LLM_JUDGE", assessment_name="score", feedback={"value": 0.75})
    judge(noria, assessment_name="failed", feedback={"value": None, "error": {"error_code": "E", "error_message": "m"}})
    packed = {"serialization_format": "JSON_FORMAT", "value": '{"a":[1]}'}
    made = judge(noria, assessment_name="wanted", expectation={"serialized_value": packed}).json()["assessment"]
    assert made["expectation"] == {"serialized_value": packed}
    for filter, wanted in (
        ("feedback.score > 0.5", 1), ("feedback.score > 0.8", 0), ("feedback.score >= '0.75'", 1), ("expectation.score > 0.5", 0),
        ("feedback.failed IS NOT NULL", 1), ("expectation.wanted LIKE '%a%'", 1),
    ):  # fmt: skip
        assert len(found(noria, filter)) == wanted, filter
    assert len(noria.facts("assessment.created")) == 2, "those of programs write none"


def test_assessments_that_cannot_be_are_refused(noria: Noria) -> None:
    start(noria)
    start(noria, "tr-other")
    made = judge(noria, feedback={"value": 1}).json()["assessment"]["assessment_id"]
    for fields, status in (
        ({}, 400), ({"feedback": {"value": 1}, "expectation": {"value": 1}}, 400), ({"issue": {"issue_name": "x"}}, 400),
        ({"feedback": {"value": 1}, "overrides": "a-none"}, 404), ({"feedback": {"value": 1}, "assessment_id": made}, 400),
        ({"feedback": {"value": 1}, "assessment_name": "x" * 251}, 400),
        ({"feedback": {"value": 1}, "source": {"source_type": "GOD"}}, 400),
        ({"feedback": {"value": 1}, "create_time": "soon"}, 400), ({"feedback": {"value": 1}, "create_time": "2026-01-01T00:00:00"}, 400),
        ({"feedback": {"value": 1}, "rationale": "a\x00"}, 400),
        ({"feedback": {"value": 1}, "metadata": {f"k{i}": "" for i in range(1001)}}, 400),
    ):  # fmt: skip
        answer = judge(noria, **fields)
        assert answer.status_code == status, (fields, answer.text)
    assert judge(noria, "tr-nothing", feedback={"value": 1}).status_code == 404
    assert noria.http.get(f"{V3}/traces/tr-other/assessments/{made}").status_code == 404
    one = f"{V3}/traces/tr-{T1}/assessments/{made}"
    for body in ({"assessment": {}}, {"assessment": {}, "update_mask": ""}, {"assessment": {}, "update_mask": "source"},
                 {"assessment": {"expectation": {"value": 1}}, "update_mask": "expectation"}):  # fmt: skip
        assert noria.http.patch(one, json=body).status_code == 400, body
    again = start(noria, "tr-other", assessments=[{"assessment_id": made, "assessment_name": "x", "feedback": {"value": 2}}])
    assert again.status_code == 400 and len(info(noria)["assessments"]) == 1


def test_tags_change_and_some_do_not(noria: Noria) -> None:
    start(noria)
    for version, key, value, status in (
        ("3.0", "a", "1", 200), ("2.0", "b", "2", 200), ("3.0", "mlflow.traceName", "new", 200),
        ("3.0", "mlflow.trace.spansLocation", "x", 400), ("3.0", "a;b", "1", 400), ("3.0", "a", "x" * 65_537, 400),
    ):  # fmt: skip
        answer = noria.http.patch(f"/api/{version}/mlflow/traces/tr-{T1}/tags", json={"key": key, "value": value})
        assert answer.status_code == status, (key, answer.text)
    assert {"a": "1", "b": "2", "mlflow.traceName": "new"}.items() <= info(noria)["tags"].items()
    for status in (200, 404):
        answer = noria.http.request("DELETE", f"{V3}/traces/tr-{T1}/tags", json={"key": "a"})
        assert answer.status_code == status
    assert "a" not in info(noria)["tags"]


def test_traces_belong_to_runs_and_prompts(noria: Noria) -> None:
    run = noria.app.tracking.create_run(noria.op(), "0").id
    send(noria, export(span()), **{"x-mlflow-run-id": run})
    start(noria, "tr-b", trace_metadata={"mlflow.sourceRun": run})
    start(noria, "tr-c")
    assert sorted(found(noria, f"run_id = '{run}'")) == ["a", "b"]
    answer = noria.http.post("/api/2.0/mlflow/traces/link-to-run", json={"trace_ids": ["tr-c", "tr-b"], "run_id": run})
    assert answer.status_code == 200 and sorted(found(noria, f"run_id = '{run}'")) == ["a", "b", "c"]
    for ids, run_id, status in ((["tr-none"], run, 404), (["tr-c"], "none", 404), (["tr-c"] * 101, run, 400)):
        body = {"trace_ids": ids, "run_id": run_id}
        assert noria.http.post("/api/2.0/mlflow/traces/link-to-run", json=body).status_code == status
    body = {"trace_id": "tr-c", "prompt_versions": [{"name": "greet", "version": "2"}]}
    assert noria.http.post("/api/2.0/mlflow/traces/link-prompts", json=body).status_code == 200
    assert found(noria, "prompt = 'greet/2'") == ["c"]
    assert send(noria, export(span(trace=T2)), **{"x-mlflow-run-id": "none"}).status_code == 404
    assert noria.http.get(f"{V3}/traces/tr-{T2}").status_code == 404, "all or nothing"


def test_the_files_of_a_deleted_trace_are_freed(noria: Noria) -> None:
    for i, content in enumerate((b"only", b"shared", b"shared")):
        start(noria, f"tr-{i}")
        answer = noria.http.put(f"/api/2.0/mlflow-artifacts/artifacts/0/traces/tr-{i}/artifacts/a", content=content)
        assert answer.status_code == 200, answer.text
    body = {"experiment_id": "0", "request_ids": ["tr-0", "tr-1"]}
    assert noria.http.post(f"{V3}/traces/delete-traces", json=body).json() == {"traces_deleted": 2}
    noria.clock.advance(25 * 3600)
    noria.app.collector.reconcile()
    assert [noria.app.blobs.get(info.digest) for info in noria.app.blobs.list()] == [b"shared"]


def test_deleting_removes_everything_and_is_a_fact(noria: Noria) -> None:
    for i in range(4):
        start(noria, f"tr-{i}", request_time=f"1970-01-01T00:00:0{i}Z")
    send(noria, export(span()))
    judge(noria, "tr-0", feedback={"value": 1})
    noria.http.put("/api/2.0/mlflow-artifacts/artifacts/0/traces/tr-0/artifacts/traces.json", content=b"{}")
    delete = f"{V3}/traces/delete-traces"
    for body in ({"experiment_id": "0"}, {"experiment_id": "0", "request_ids": ["tr-0"], "max_timestamp_millis": 9},
                 {"experiment_id": "0", "max_timestamp_millis": 9, "max_traces": 0}, {"request_ids": ["tr-0"]}):  # fmt: skip
        assert noria.http.post(delete, json=body).status_code == 400, body
    answer = noria.http.post(delete, json={"experiment_id": "0", "max_timestamp_millis": "1500", "max_traces": 1})
    assert answer.json() == {"traces_deleted": 1}
    answer = noria.http.post(
        "/api/2.0/mlflow/traces/delete-traces", json={"experiment_id": "0", "request_ids": ["tr-3", "tr-" + T1]}
    )
    assert answer.json() == {"traces_deleted": 2} and sorted(found(noria)) == ["1", "2"]
    facts = noria.facts("trace.deleted")
    assert [f.data["count"] for f in facts] == [1, 2] and facts[0].data["trace_ids"] == ["tr-0"]
    with noria.app.db.read() as tx:
        for table, owner in (("span", "trace_id"), ("assessment", "trace_id"), ("artifact", "owner")):
            assert tx.scalar(f"select count(*) from {table} where {owner} is not null") == 0, table


def test_older_clients_begin_and_end(noria: Noria) -> None:
    pairs = [{"key": "k", "value": "v"}]
    body = {
        "experiment_id": "0",
        "timestamp_ms": "1000",
        "request_metadata": pairs,
        "tags": [{"key": "mlflow.traceName", "value": "old"}],
    }
    made = noria.http.post("/api/2.0/mlflow/traces", json=body).json()["trace_info"]
    assert (made["status"], made["request_metadata"], made["timestamp_ms"]) == ("IN_PROGRESS", pairs, 1000)
    one = f"/api/2.0/mlflow/traces/{made['request_id']}"
    ended = noria.http.patch(one, json={"timestamp_ms": 1250, "status": "OK", "tags": [{"key": "a", "value": "b"}]}).json()[
        "trace_info"
    ]
    assert (ended["status"], ended["execution_time_ms"], ended["request_metadata"]) == ("OK", 250, pairs)
    assert noria.http.get(f"{one}/info").json()["trace_info"] == ended
    listed = noria.http.get("/api/2.0/mlflow/traces", params={"experiment_ids": ["0"], "filter": "name = 'old'"}).json()[
        "traces"
    ]
    assert listed == [ended]
    spans = {"spans": [{
        "name": "root", "context": {"span_id": "0x1", "trace_id": "0x2"}, "parent_id": None, "start_time": 10, "end_time": 5_010,
        "status_code": "OK", "status_message": "", "attributes": {"mlflow.spanInputs": '{"q": 1}', "mlflow.spanType": '"LLM"'},
        "events": [],
    }]}  # fmt: skip
    place = next(t["value"] for t in ended["tags"] if t["key"] == "mlflow.artifactLocation").removeprefix(
        "mlflow-artifacts:/"
    )
    file = f"/api/2.0/mlflow-artifacts/artifacts/{place}/traces.json"
    assert noria.http.put(file, content=json.dumps(spans)).status_code == 200 and noria.http.get(file).json() == spans
    view = noria.http.get(f"/api/v1/traces/{made['request_id']}/spans").json()["spans"][0]
    assert (view["name"], view["kind"], view["inputs"], view["duration_us"]) == ("root", "LLM", {"q": 1}, 5)
    noria.http.put(file, content=b"[1]")
    assert noria.http.get(f"/api/v1/traces/{made['request_id']}/spans").status_code == 400


def test_who_may_do_what(noria: Noria) -> None:
    start(noria)
    send(noria, export(span()))
    reader, auditor, writer = (
        noria.as_(name, role) for name, role in (("r", "viewer"), ("a", "auditor"), ("w", "contributor"))
    )
    whole, search = f"{V3}/traces/get?trace_id=tr-{T1}", {"locations": [{"mlflow_experiment": {"experiment_id": "0"}}]}
    assert [c.get(whole).status_code for c in (reader, auditor, writer)] == [200, 403, 200]
    assert len(auditor.post(f"{V3}/traces/search", json=search).json()["traces"]) == 1
    assert auditor.post(f"{V3}/traces/search", json={**search, "filter": "text LIKE '%a%'"}).status_code == 403
    for http, status in ((reader, 403), (writer, 200)):
        assert send(noria, export(span(CHILD, ROOT)), http=http).status_code == status
        assert http.patch(f"{V3}/traces/tr-{T1}/tags", json={"key": "a", "value": "b"}).status_code == status
    assert (
        writer.post(f"{V3}/traces/delete-traces", json={"experiment_id": "0", "request_ids": ["tr-" + T1]}).status_code
        == 403
    )
    nobody = noria.client("nrk_wrong")
    assert nobody.get(whole).status_code == 401


def test_a_trace_of_another_experiment_is_not_touched(noria: Noria) -> None:
    """Trace ids come from clients: knowing one gives no right on it."""
    secret = noria.app.tracking.create_experiment(noria.op(), "secret").id
    mine = noria.app.tracking.create_experiment(noria.op(), "mine").id
    start(noria, experiment=secret, tags={"a": "b"})
    eve = noria.as_("eve")
    noria.http.post("/api/v1/grants", json={"principal": "eve", "role": "contributor", "scope": f"experiment:{mine}"})
    assert send(noria, export(span(trace=T2)), mine, http=eve).status_code == 200
    before = info(noria)
    assert send(noria, export(span()), mine, http=eve).status_code == 404
    assert eve.get(f"{V3}/traces/tr-{T1}").status_code == 404
    place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": mine}}
    body = {"trace": {"trace_info": {"trace_id": "tr-" + T1, "trace_location": place, "state": "OK"}}}
    assert eve.post(f"{V3}/traces", json=body).status_code == 404
    file = f"/api/2.0/mlflow-artifacts/artifacts/{secret}/traces/tr-{T1}/artifacts/traces.json"
    assert eve.put(file, content=b"{}").status_code == 404
    both = [{"mlflow_experiment": {"experiment_id": e}} for e in (mine, secret)]
    seen = eve.post(f"{V3}/traces/search", json={"locations": both}).json()["traces"]
    assert [t["trace_id"] for t in seen] == ["tr-" + T2] and info(noria) == before


def test_lists_take_few_queries(three: Noria) -> None:
    """However many traces: one for the traces, one for each kind of what hangs on them."""
    import sqlalchemy as sa

    seen: list[str] = []

    def note(_c: Any, _k: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    op = three.op()
    three.app.traces.search(op, ["0"])
    sa.event.listen(three.app.db.engine, "before_cursor_execute", note)
    try:
        assert len(three.app.traces.search(op, ["0"]).items) == 3
    finally:
        sa.event.remove(three.app.db.engine, "before_cursor_execute", note)
    assert len([s for s in seen if "from trace" in s or "assessment" in s]) == 5


# --- what cannot be kept ------------------------------------------------------------------------------------------------


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = text("x")
    for _ in range(levels):
        value = {"arrayValue": {"values": [value]}}
    return value


NO_SPANS = [
        {}, [], "x", {"resourceSpans": 1}, {"resourceSpans": [1]}, {"resourceSpans": [{"scopeSpans": [{"spans": [1]}]}]},
        export(span("")), export(span("zz")), export(span(trace="")), export(span(trace="1" * 30)), export(span(parent="12")),
        export(span(a="\x00")), export(span(name="\x00")), export(span(a="\ud800")), export(span(a={"intValue": "x"})),
        export(span(a={"intValue": str(2**63)})), export(span(a={"doubleValue": "1e400"})), export(span(a={"boolValue": "yes"})),
        export(span(a={"bytesValue": "?"})), export(span(a=deep(150))), export(span(start=2**63)), export(span(start=-1)),
        export(span(name="x" * 5000)), export(span(status=9)), export(span(**{f"k{i}": "" for i in range(10_001)})),
        export(**{"service.name": "a"}), b"\xff\xfe", b'{"resourceSpans": NaN}', b"[" * 100_000, export(span(), a="\x00"),
    ]  # fmt: skip


def test_spans_that_cannot_be_kept_are_refused(noria: Noria) -> None:
    for i, body in enumerate(NO_SPANS):
        answer = send(noria, body)
        assert answer.status_code == 400, (i, str(body)[:300], answer.text)
        assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE" and answer.json()["message"]
    assert found(noria) == []


def test_what_is_nested_as_deep_as_allowed_is_found(noria: Noria) -> None:
    """Both databases read JSON that deep."""
    assert send(noria, export(span(a=deep(95), b="x"))).status_code == 200
    assert found(noria, "span.attributes.b = 'x'") == ["a"]
    assert noria.http.get(f"/api/v1/traces/tr-{T1}/spans").status_code == 200


def test_bodies_that_are_no_export(noria: Noria) -> None:
    good = json.dumps(export(span())).encode()
    for body, headers, status in (
        (b"\x0a\xff\xff", {"content-type": "application/x-protobuf"}, 400), (b"", {"content-type": "application/x-protobuf"}, 400),
        (good, {"content-type": "application/x-protobuf"}, 400), (good, {"content-type": "text/plain"}, 400),
        (good, {"content-encoding": "gzip"}, 400), (good, {"content-encoding": "br"}, 400),
        (gzip.compress(good)[:-9], {"content-encoding": "gzip"}, 400), (good, {"x-mlflow-experiment-id": "none"}, 404),
        (good, {"x-mlflow-experiment-id": ""}, 400), (gzip.compress(b" " * (70 << 20)), {"content-encoding": "gzip"}, 413),
        (b" " * (20 << 20), {}, 413), (export(*[span(f"{i:016x}") for i in range(1, SPANS_PER_REQUEST + 2)]), {}, 413),
    ):  # fmt: skip
        answer = send(noria, body, **headers)
        assert answer.status_code == status, (body[:40] if isinstance(body, bytes) else "many", headers, answer.text)
        assert set(answer.json()) == {"error_code", "message"}
    assert found(noria) == []


NO_TRACES: list[dict[str, Any]] = [
        {"trace_id": ""}, {"trace_id": "a/b"}, {"trace_id": "x" * 65}, {"trace_id": "ä"}, {"request_time": "now"}, {"request_time": 5},
        {"request_time": "9999-12-31T23:59:59.999999-23:00"}, {"request_time": "1969-12-31T23:59:59Z"}, {"execution_duration": "-1s"},
        {"execution_duration": "5"}, {"state": "FINE"}, {"state": 9}, {"tags": {f"k{i}": "v" for i in range(1001)}},
        {"tags": {"a": "x" * 65_537}}, {"tags": {"a": "\x00"}}, {"trace_metadata": {"a\x00": "b"}}, {"trace_metadata": {"a": 1}},
        {"tags": {"mlflow.traceName": "x" * 251}}, {"request_preview": "x" * 65_537}, {"request_preview": "\x00"},
        {"client_request_id": "\x00"}, {"trace_location": None}, {"trace_location": {"type": "INFERENCE_TABLE"}}, {"assessments": [{}]},
    ]  # fmt: skip


def test_traces_that_cannot_be_kept_are_refused(noria: Noria) -> None:
    for info in NO_TRACES:
        answer = start(noria, **{"trace_id": "tr-x", **info})
        assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), (
            str(info)[:300],
            answer.text,
        )
    assert found(noria) == []


def test_a_million_tags_are_refused(noria: Noria) -> None:
    if noria.app.db.dialect != "sqlite":
        pytest.skip("refused before the database is asked")
    start(noria)
    tags = b",".join(b'"%d":"x"' % i for i in range(1_000_000))
    place = b'{"mlflow_experiment":{"experiment_id":"0"}}'
    body = b'{"trace":{"trace_info":{"trace_id":"tr-m","trace_location":' + place + b',"tags":{' + tags + b"}}}}"
    answer = noria.http.post(f"{V3}/traces", content=body)
    assert answer.status_code in (400, 413) and set(answer.json()) == {"error_code", "message"}
    assert found(noria) == ["a"]


def test_a_deleted_experiment_takes_no_traces(noria: Noria) -> None:
    gone = noria.app.tracking.create_experiment(noria.op(), "gone").id
    noria.app.tracking.delete_experiment(noria.op(), gone)
    assert send(noria, export(span()), gone).status_code == 400
    assert start(noria, experiment=gone).status_code == 400
