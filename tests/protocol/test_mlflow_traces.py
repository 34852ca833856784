"""MLflow's tracing client and OpenTelemetry's exporter, both unmodified, against a real server on loopback."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.protocol.test_mlflow_tracking import Server, client, server  # noqa: F401

mlflow = pytest.importorskip("mlflow")
pytestmark = [pytest.mark.protocol, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_TRACE_LOGGING", "false")


def ask(question: str) -> str:
    """A program with three spans; returns the id of its trace."""
    with mlflow.start_span("ask", span_type="CHAIN") as root:
        root.set_inputs({"question": question})
        with mlflow.start_span("retrieve", span_type="RETRIEVER") as span:
            span.set_inputs({"k": 3})
            span.set_outputs([{"doc": "ä"}])
        with mlflow.start_span("llm", span_type="LLM") as span:
            span.set_attributes(
                {"model": "m-1", "mlflow.chat.tokenUsage": {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}}
            )
        mlflow.update_current_trace(tags={"team": "a"}, metadata={"mlflow.trace.session": "s-1"})
        root.set_outputs("because")
    return str(root.trace_id)


def here() -> str:
    return str(mlflow.tracking.fluent._get_experiment_id())


def find(filter: str, **more: Any) -> list[str]:
    return [
        t.info.trace_id for t in mlflow.search_traces(locations=[here()], filter_string=filter, return_type="list", **more)
    ]


def test_a_trace_from_beginning_to_end(client: Any) -> None:  # noqa: F811
    with mlflow.start_run() as run:
        trace_id = ask("why?")
    found = mlflow.get_trace(trace_id)
    assert (found.info.state, found.info.tags["team"], found.info.tags["mlflow.traceName"]) == ("OK", "a", "ask")
    assert found.info.tags["mlflow.trace.spansLocation"] == "TRACKING_STORE", "spans came through OTLP, not as a file"
    assert '"why?"' in found.info.request_preview and found.info.response_preview == '"because"'
    assert found.info.token_usage == {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
    root, retrieve, llm = found.data.spans
    assert (root.inputs, root.outputs, root.parent_id) == ({"question": "why?"}, "because", None)
    assert (retrieve.span_type, retrieve.inputs, retrieve.outputs) == ("RETRIEVER", {"k": 3}, [{"doc": "ä"}])
    assert llm.parent_id == root.span_id and llm.get_attribute("model") == "m-1"
    other = ask("how?")
    for filter, wanted in (
        (f"run_id = '{run.info.run_id}'", [trace_id]), ("tags.team = 'a'", [other, trace_id]), ("trace.text LIKE '%how?%'", [other]),
        ("span.attributes.model = 'm-1' AND span.type = 'LLM'", [other, trace_id]), ("status = 'ERROR'", []),
        ("metadata.`mlflow.trace.session` = 's-1'", [other, trace_id]), (f"request_id = '{other}'", [other]),
    ):  # fmt: skip
        assert find(filter) == wanted, filter
    assert find("", order_by=["timestamp_ms ASC"], max_results=1) == [trace_id]
    assert find("", run_id=run.info.run_id) == [trace_id]


def test_an_error_is_an_error(client: Any) -> None:  # noqa: F811
    @mlflow.trace
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    found = mlflow.get_trace(mlflow.get_last_active_trace_id())
    assert found.info.state == "ERROR" and found.data.spans[0].status.status_code == "ERROR"
    assert found.data.spans[0].events[0].attributes["exception.message"] == "no"
    assert find("status = 'ERROR'") == [found.info.trace_id]


def test_assessments(client: Any) -> None:  # noqa: F811
    from mlflow.entities import AssessmentSource, Expectation, Feedback

    trace_id, ada = ask("why?"), AssessmentSource("HUMAN", "ada")
    first = mlflow.log_feedback(trace_id=trace_id, name="correct", value=True, rationale="fits", source=ada)
    mlflow.log_feedback(trace_id=trace_id, name="score", value=0.75, metadata={"judge": "j"})
    mlflow.log_feedback(trace_id=trace_id, name="broken", error=ValueError("no"))
    wanted = mlflow.log_expectation(trace_id=trace_id, name="wanted", value={"a": [1, None]}, source=ada)
    second = mlflow.override_feedback(trace_id=trace_id, assessment_id=first.assessment_id, value=False, source=ada)
    assert not mlflow.get_assessment(trace_id, first.assessment_id).valid
    assert (second.overrides, second.valid, second.value) == (first.assessment_id, True, False)
    assert find("feedback.correct = 'false' AND feedback.score > 0.5") == [trace_id]
    assert find("feedback.correct = 'true'") == []
    changed = mlflow.update_assessment(
        trace_id, wanted.assessment_id, Expectation(name="wanted", value="b", metadata={"k": "v"})
    )
    assert (changed.value, changed.metadata) == ("b", {"k": "v"})
    with pytest.raises(mlflow.MlflowException, match="Cannot update"):
        mlflow.update_assessment(trace_id, wanted.assessment_id, Feedback(name="wanted", value=1))
    mlflow.delete_assessment(trace_id, second.assessment_id)
    assert mlflow.get_assessment(trace_id, first.assessment_id).valid
    kept = mlflow.get_trace(trace_id).info.assessments
    assert sorted(a.name for a in kept) == ["broken", "correct", "score", "wanted"]
    assert next(a for a in kept if a.name == "broken").error.error_code == "ValueError"


def test_tags_links_and_deletes(client: Any) -> None:  # noqa: F811
    ids = [ask(f"{i}") for i in range(3)]
    mlflow.set_trace_tag(ids[0], "b", "2")
    mlflow.delete_trace_tag(ids[0], "team")
    tags = mlflow.get_trace(ids[0]).info.tags
    assert tags["b"] == "2" and "team" not in tags
    with mlflow.start_run() as run:
        pass
    client.link_traces_to_run(ids[:2], run.info.run_id)
    assert sorted(find(f"run_id = '{run.info.run_id}'")) == sorted(ids[:2])
    assert client.delete_traces(here(), trace_ids=[ids[0]]) == 1
    assert client.delete_traces(here(), max_timestamp_millis=2**41, max_traces=1) == 1
    assert find("") == [ids[2]]


def test_a_client_without_spans_over_the_wire_writes_files(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """What MLflow did before 3.4: the spans as a file of the trace."""
    from mlflow.store.tracking.rest_store import RestStore

    monkeypatch.setattr(RestStore, "log_spans", lambda *_, **__: (_ for _ in ()).throw(NotImplementedError))
    mlflow.tracing.reset()
    trace_id = ask("why?")
    found = mlflow.get_trace(trace_id)
    assert "mlflow.trace.spansLocation" not in found.info.tags
    assert [s.name for s in found.data.spans] == ["ask", "retrieve", "llm"]
    mlflow.tracing.reset()


def test_opentelemetry_exports(client: Any, server: Server) -> None:  # noqa: F811
    """The SDK's own exporter over HTTP, compressed; a program that knows nothing of MLflow."""
    exporter = pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    to = OTLPSpanExporter(
        f"{server.url}/v1/traces", headers={"x-mlflow-experiment-id": here()}, compression=exporter.Compression.Gzip
    )
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_span_processor(BatchSpanProcessor(to))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("order", attributes={"input.value": "two books", "user.id": "u-1"}) as root:
        with tracer.start_as_current_span("pay", attributes={"amount": 12.5, "tags": ["a", "b"]}) as child:
            child.add_event("retried", {"times": 2})
        root.set_attribute("output.value", "done")
    assert provider.force_flush(20_000)
    provider.shutdown()
    trace_id = f"tr-{root.get_span_context().trace_id:032x}"
    until = time.monotonic() + 20
    while not find("name = 'order'"):
        assert time.monotonic() < until, "the spans do not arrive"
        time.sleep(0.05)
    found = mlflow.get_trace(trace_id)
    assert (found.info.state, found.info.tags["service.name"], found.info.request_preview) == ("OK", "shop", "two books")
    assert found.info.trace_metadata["mlflow.trace.user"] == "u-1"
    pay = next(s for s in found.data.spans if s.name == "pay")
    assert pay.get_attribute("amount") == 12.5 and pay.get_attribute("tags") == ["a", "b"]
    assert pay.events[0].name == "retried" and dict(pay.events[0].attributes) == {"times": 2}
    assert find("span.attributes.amount = '12.5'") == [trace_id]


def test_evaluation_datasets(client: Any) -> None:  # noqa: F811
    from mlflow.genai.datasets import create_dataset, delete_dataset, get_dataset, search_datasets

    made = create_dataset(name="faq", experiment_id=here(), tags={"team": "a"})
    trace_id = ask("why?")
    made.merge_records([
        {"inputs": {"question": "why?"}, "expectations": {"answer": "because"}, "tags": {"k": "v"}},
        {"inputs": {"question": "how?"}, "outputs": "so", "source": {"source_type": "TRACE", "source_data": {"trace_id": trace_id}}},
    ])  # fmt: skip
    made.merge_records([{"inputs": {"question": "why?"}, "expectations": {"also": 1}}])
    found = get_dataset(dataset_id=made.dataset_id)
    kept = {row["inputs"]["question"]: row for row in found.to_df().to_dict("records")}
    assert kept["why?"]["expectations"] == {"answer": "because", "also": 1} and kept["why?"]["tags"]["k"] == "v"
    assert (kept["how?"]["outputs"], kept["how?"]["source_id"]) == ("so", trace_id)
    assert (found.name, found.tags["team"], found.experiment_ids) == ("faq", "a", [here()])
    assert [d.dataset_id for d in search_datasets(experiment_ids=[here()], filter_string="name = 'faq'")] == [
        made.dataset_id
    ]
    delete_dataset(dataset_id=made.dataset_id)
    assert list(search_datasets(experiment_ids=[here()])) == []
