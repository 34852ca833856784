"""The routes of monitoring."""

from __future__ import annotations

from typing import Annotated

from litestar.params import QueryParameter

from noria.http.route import Routes, delete, get, post
from noria.kernel.op import Op
from noria.kernel.paging import Page
from noria.monitoring.backtest import Backtest, BacktestRequest
from noria.monitoring.drift import PSI_MIN, Drift
from noria.monitoring.labels import Labels
from noria.monitoring.model import (
    Alert,
    AlertStory,
    Inference,
    Judgement,
    LogFile,
    Monitor,
    MonitorSpec,
    Mute,
    Performance,
    Resolution,
    Window,
)
from noria.monitoring.passport import Passport
from noria.monitoring.query import QueryAnswer, QueryRequest
from noria.monitoring.reports import Estimates, Fairness, Slices, Span
from noria.monitoring.service import Monitoring
from noria.monitoring.shadows import Disagreements
from noria.monitoring.shapes import ColumnShape
from noria.monitoring.skew import Skew


def routes(service: Monitoring) -> Routes:
    @get("/api/v1/monitors", action="monitor.read")
    def list_monitors(op: Op, endpoint: str = "") -> Page[Monitor]:
        """What is watched."""
        return Page(service.monitors(op, endpoint=endpoint))

    @post("/api/v1/monitors", action="monitor.write", status_code=201)
    def create_monitor(op: Op, data: MonitorSpec) -> Monitor:
        """Watch an endpoint."""
        return service.create_monitor(op, data)

    @get("/api/v1/monitors/{name:str}", action="monitor.read")
    def read_monitor(op: Op, name: str) -> Monitor:
        """One monitor and where it stands."""
        return service.monitor(op, name)

    @delete("/api/v1/monitors/{name:str}", action="monitor.write")
    def remove_monitor(op: Op, name: str) -> None:
        """Stop watching; windows and alerts stay."""
        service.remove_monitor(op, name)

    @post("/api/v1/monitors/{name:str}/mute", action="monitor.write")
    def mute_monitor(op: Op, name: str, data: Mute) -> Monitor:
        """Open no alert until a time; windows are judged all the same."""
        return service.mute(op, name, data)

    @post("/api/v1/monitors/{name:str}/unmute", action="monitor.write")
    def unmute_monitor(op: Op, name: str) -> Monitor:
        """Open alerts again."""
        return service.unmute(op, name)

    @post("/api/v1/monitors/backtest", action="monitor.read")
    def backtest_monitor(op: Op, data: BacktestRequest) -> Backtest:
        """What a monitor would have said of the past, from what is stored; nothing is written."""
        return service.backtest(op, data)

    @get("/api/v1/monitors/{name:str}/windows", action="monitor.read")
    def list_windows(op: Op, name: str, limit: int | None = None, page: str = "") -> Page[Window]:
        """The judged windows of a monitor, newest first."""
        return service.windows(op, name, limit=limit, page=page)

    @get("/api/v1/alerts", action="monitor.read")
    def list_alerts(
        op: Op,
        monitor: str = "",
        endpoint: str = "",
        wanted: Annotated[str, QueryParameter(name="state")] = "",
        limit: int | None = None,
        page: str = "",
    ) -> Page[Alert]:
        """Alerts, newest first; those that are `open` or `resolved`."""
        return service.alerts(op, monitor=monitor, endpoint=endpoint, state=wanted, limit=limit, page=page)

    @get("/api/v1/alerts/{alert_id:str}", action="monitor.read")
    def read_alert(op: Op, alert_id: str) -> AlertStory:
        """An alert, the facts that led to it, and what it led to."""
        return service.alert(op, alert_id)

    @post("/api/v1/alerts/{alert_id:str}/resolve", action="monitor.write")
    def resolve_alert(op: Op, alert_id: str, data: Resolution) -> Alert:
        """Close an open alert by hand."""
        return service.resolve(op, alert_id, data.reason)

    @get("/api/v1/endpoints/{name:str}/performance", action="endpoint.read")
    def read_performance(
        op: Op, name: str, metric: str = "brier", by: str = "", window_s: int = 86_400, from_ms: int | None = None,
        to_ms: int | None = None, origin_ms: int = 0,
    ) -> Performance:  # fmt: skip
        """A performance metric per window of event time, with late truth as far as it has come."""
        return service.performance(op, name, metric, by, window_s, from_ms=from_ms, to_ms=to_ms, origin_ms=origin_ms)

    @get("/api/v1/endpoints/{name:str}/drift", action="endpoint.read")
    def read_drift(
        op: Op, name: str, reference: str = "", by: str = "", window_s: int = 86_400, windows: int = 1, to_ms: int | None = None,
        origin_ms: int = 0, alpha: float = 0.01, psi_min: float = PSI_MIN,
    ) -> Drift:  # fmt: skip
        """Every column's drift and quality in the latest windows, against what the model was trained on or `reference`."""
        span = Span(window_s=window_s, to_ms=to_ms, count=windows, origin_ms=origin_ms)
        return service.reports.drift(op, name, span=span, reference=reference, by=by, alpha=alpha, psi_min=psi_min)

    @get("/api/v1/endpoints/{name:str}/disagreements", action="endpoint.read")
    def read_disagreements(
        op: Op, name: str, revision: str = "", tolerance: float = 0.0, from_ms: int = 0, limit: int = 50
    ) -> Disagreements:
        """Where the shadow said something else than what callers got, newest first, and who was right.

        `items` is empty for those who may not read single answers (`inference.read`)."""
        return service.shadows.compare(op, name, revision=revision, tolerance=tolerance, from_ms=from_ms, limit=limit)

    @get("/api/v1/endpoints/{name:str}/drift/{column:str}", action="endpoint.read")
    def read_column(
        op: Op, name: str, column: str, reference: str = "", version: str = "", window_s: int = 86_400, to_ms: int | None = None,
        origin_ms: int = 0,
    ) -> ColumnShape:  # fmt: skip
        """One column of a window beside the reference, as counts that can be drawn over each other."""
        span = Span(window_s=window_s, to_ms=to_ms, origin_ms=origin_ms)
        return service.reports.column(op, name, column, span=span, reference=reference, version=version)

    @get("/api/v1/endpoints/{name:str}/skew", action="inference.read")
    def read_skew(
        op: Op, name: str, key: str, reference: str = "", window_s: int = 86_400, to_ms: int | None = None
    ) -> Skew:
        """What the model was asked beside what it was trained on, of the same entities, row by row."""
        return service.reports.skew(op, name, key, span=Span(window_s=window_s, to_ms=to_ms), reference=reference)

    @get("/api/v1/endpoints/{name:str}/labels", action="endpoint.read")
    def read_labels(
        op: Op, name: str, by: str = "", window_s: int = 86_400, windows: int = 30, to_ms: int | None = None
    ) -> Labels:
        """How many answers of each window have their truth, and how late it came."""
        return service.reports.labels(op, name, span=Span(window_s=window_s, to_ms=to_ms, count=windows), by=by)

    @get("/api/v1/endpoints/{name:str}/estimates", action="endpoint.read")
    def read_estimates(
        op: Op, name: str, metric: str = "accuracy", reference: str = "", by: str = "", window_s: int = 86_400, windows: int = 7,
        to_ms: int | None = None,
    ) -> Estimates:  # fmt: skip
        """How good the answers are before their labels arrive, beside what the labels say by now."""
        span = Span(window_s=window_s, to_ms=to_ms, count=windows)
        return service.reports.estimates(op, name, metric, span=span, by=by, reference=reference)

    @get("/api/v1/endpoints/{name:str}/slices", action="endpoint.read")
    def read_slices(
        op: Op, name: str, column: str, metric: str = "accuracy", by: str = "", window_s: int = 86_400, windows: int = 1,
        to_ms: int | None = None,
    ) -> Slices:  # fmt: skip
        """A performance metric of each part of the traffic: per frequent value of an input, or per range of it."""
        span = Span(window_s=window_s, to_ms=to_ms, count=windows)
        return service.reports.slices(op, name, metric, column, span=span, by=by)

    @get("/api/v1/endpoints/{name:str}/fairness", action="endpoint.read")
    def read_fairness(
        op: Op, name: str, column: str, by: str = "", window_s: int = 86_400, windows: int = 7, to_ms: int | None = None,
        min_group: int = 30,
    ) -> Fairness:  # fmt: skip
        """How the groups that an input names are treated: positive answers, opportunity, and what lies between."""
        span = Span(window_s=window_s, to_ms=to_ms, count=windows)
        return service.reports.fairness(op, name, column, span=span, by=by, min_group=min_group)

    @get("/api/v1/endpoints/{name:str}/canary/evidence", action="endpoint.read")
    def read_evidence(op: Op, name: str, canary: str = "", limit: int | None = None) -> Page[Judgement]:
        """What the judge saw of the latest canary, or of `canary`, oldest first."""
        return Page(service.canary_evidence(op, name, canary_id=canary, limit=limit))

    @post("/api/v1/endpoints/{name:str}/query", action="inference.read")
    def query_predictions(op: Op, name: str, data: QueryRequest) -> QueryAnswer:
        """One select over `predictions`: what an endpoint answered, with the truth that is known of it."""
        return service.queries.query(op, name, data)

    @get("/api/v1/endpoints/{name:str}/log", action="inference.read")
    def list_log(op: Op, name: str, limit: int | None = None, page: str = "") -> Page[LogFile]:
        """The Parquet files of an endpoint's answers and truth, those that arrived longest ago first."""
        return service.queries.files(op, name, limit=limit, page=page)

    @get("/api/v1/inferences/{prediction_id:str}", action="inference.read")
    def read_inference(op: Op, prediction_id: str) -> Inference:
        """One answer: inputs, output, and the truth once it is known."""
        return service.inference(op, prediction_id)

    @get("/api/v1/passports/{prediction_id:str}", action="endpoint.read")
    def read_passport(op: Op, prediction_id: str) -> Passport:
        """Where one prediction comes from, who let its model answer, and what was known of it then. What was asked and answered
        is for those who may read single answers (`inference.read`)."""
        return service.passport(op, prediction_id)

    return [
        list_monitors, create_monitor, read_monitor, remove_monitor, mute_monitor, unmute_monitor, backtest_monitor,
        list_windows, list_alerts, read_alert, resolve_alert, read_performance, read_drift, read_column, read_skew,
        read_disagreements, read_labels,
        read_estimates,
        read_slices, read_fairness, read_evidence, query_predictions, list_log, read_inference, read_passport,
    ]  # fmt: skip
