"""The routes of traces: Noria's own read API, OpenTelemetry's export, and MLflow's protocol beside them."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from litestar import Request, Response
from msgspec import Struct

from noria.http.route import Routes, get, post
from noria.kernel.errors import Invalid
from noria.kernel.op import Op
from noria.kernel.paging import Page, check_limit
from noria.tracking import evaluation_mlflow, traces_mlflow
from noria.tracking.evaluations import Evaluations
from noria.tracking.files import knock
from noria.tracking.trace_model import SpanView, Trace
from noria.tracking.traces import Traces

EXPERIMENT_HEADER, RUN_HEADER = "x-mlflow-experiment-id", "x-mlflow-run-id"


class Spans(Struct, frozen=True):
    """The spans of a trace, the earliest first."""

    spans: list[SpanView]


def routes(traces: Traces, evaluations: Evaluations) -> Routes:
    @get("/api/v1/traces", action="run.read")
    def list_traces(
        op: Op, experiment: str, filter: str = "", order_by: str = "", limit: int | None = None, page: str | None = None
    ) -> Page[Trace]:
        """Traces of experiments (ids, comma-separated), latest first unless told otherwise."""
        knock(op, "run.read")
        return traces.search(
            op, _commas(experiment), filter=filter, order_by=_commas(order_by), limit=check_limit(limit, most=500), page=page
        )

    @get("/api/v1/traces/{trace_id:str}", action="run.read")
    def read_trace(op: Op, trace_id: str) -> Trace:
        """One trace: what came in and out, how long it took, what was said of it."""
        return traces.trace(op, trace_id)

    @get("/api/v1/traces/{trace_id:str}/spans", action="artifact.read")
    def read_spans(op: Op, trace_id: str) -> Spans:
        """The spans of a trace with their inputs, outputs and attributes."""
        knock(op, "artifact.read")
        return Spans(traces.views(op, trace_id))

    @post("/v1/traces", action="run.log", include_in_schema=False)
    async def export_spans(op: Op, request: Request[Any, Any, Any]) -> Response[bytes]:
        """OTLP over HTTP: spans into the experiment that a header names. All of them, or none and a reason."""
        from noria.tracking import otlp

        body, headers = await request.body(), request.headers
        media_type = headers.get("content-type", "")

        def work() -> None:
            knock(op, "run.log")
            experiment_id = headers.get(EXPERIMENT_HEADER, "")
            if not experiment_id:
                raise Invalid(f"The header {EXPERIMENT_HEADER} is missing.", where=EXPERIMENT_HEADER,
                              hint="It says which experiment the spans belong to.")  # fmt: skip
            found = otlp.read(otlp.unpack(body, headers.get("content-encoding", "")), media_type)
            traces.log_spans(op, experiment_id, found, headers.get(RUN_HEADER, ""))

        await anyio.to_thread.run_sync(work)
        is_json = media_type.startswith(otlp.JSON)
        return Response(b"{}" if is_json else b"", media_type=otlp.JSON if is_json else otlp.PROTOBUF, status_code=200)

    return [
        list_traces, read_trace, read_spans, export_spans, *traces_mlflow.routes(traces),
        *evaluation_mlflow.routes(evaluations),
    ]  # fmt: skip


def _commas(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
