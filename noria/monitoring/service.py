"""Is it still true: monitors over event time, alerts, performance with late truth, the evidence of a canary, one answer's story."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from noria.datasets.service import Datasets
from noria.kernel import edges
from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import AlreadyExists, Conflict, Forbidden, Invalid, NotFound
from noria.kernel.events import Event, cause_chain
from noria.kernel.ids import Ref, check_name, new_id
from noria.kernel.op import Op, Ops
from noria.kernel.paging import Page, check_limit, decode_token, encode_token
from noria.kernel.ticks import Ticks
from noria.monitoring import alerts_store, answers_store, canaries_store, facts_store, monitors_store, segments_store
from noria.monitoring.archive import Archive, row_of, whole
from noria.monitoring.backtest import Backtest, BacktestRequest, backtest
from noria.monitoring.baselines import check_baseline, parse_traffic
from noria.monitoring.canary import CanaryJudge
from noria.monitoring.ingest import Ingest, sketch_again
from noria.monitoring.judge import Judge, monitor_ref
from noria.monitoring.log_keeper import LogKeeper
from noria.monitoring.metrics import Metric, metric_of
from noria.monitoring.model import (
    BUCKET_MS,
    COLUMNS_MAX,
    MINUTE_MS,
    PREDICTION,
    SCORE,
    WINDOW_S_MAX,
    WINDOW_S_MIN,
    Alert,
    AlertStory,
    Inference,
    Judgement,
    Monitor,
    MonitorSpec,
    Mute,
    Performance,
    PerformanceWindow,
    Window,
)
from noria.monitoring.passport import (
    Passport,
    approvals_of,
    as_document,
    deployer,
    facts_of,
    monitors_then,
    without_contents,
)
from noria.monitoring.query import Queries
from noria.monitoring.references import References
from noria.monitoring.reports import Reports
from noria.monitoring.segments_store import SegmentRow
from noria.monitoring.shadows import Shadows
from noria.monitoring.slices import check_slice
from noria.monitoring.windows import Answers, performance, read_answers, window_start
from noria.registry.service import Registry
from noria.serving.service import Serving

STORY_FACTS_MAX = 500
STORY_HOPS = 8
PERFORMANCE_WINDOWS_MAX = 1_000
MUTE_DAYS_MAX = 366
OWNER_LENGTH_MAX = 200


class Monitoring:
    """The monitoring slice's service."""

    def __init__(
        self,
        db: Database,
        ops: Ops,
        blobs: BlobStore,
        ticks: Ticks,
        datasets: Datasets,
        registry: Registry,
        serving: Serving,
    ) -> None:
        self._db, self._ops, self._blobs = db, ops, blobs
        self._registry, self._serving = registry, serving
        self.references = References(db, datasets, registry, blobs)
        self.reports = Reports(db, blobs, self.references)
        self.shadows = Shadows(db)
        self.ingest = Ingest(db, ops, blobs, ticks)
        self.judge = Judge(db, ops, blobs)
        self.canary_judge = CanaryJudge(db, ops, blobs, serving.canaries)
        self.log_keeper = LogKeeper(db, ops, blobs, serving)
        self.queries = Queries(db, blobs)

    # --- monitors ---------------------------------------------------------------------------------------------------

    def create_monitor(self, op: Op, spec: MonitorSpec) -> Monitor:
        """Watch an endpoint from now on; history that is already there is judged too, but only its last `n` windows can raise an
        alert. Raises Invalid, NotFound (the reference), AlreadyExists.
        """
        op.require("monitor.write", on=Ref("endpoint", spec.endpoint))
        _check_spec(spec)
        reference = self.references.of_monitor(op, spec)
        with self._db.read() as tx:
            mark = segments_store.watermark(tx, spec.endpoint)
        bucket_ms = math.gcd(mark.bucket_ms if mark else BUCKET_MS, spec.window_s * 1000, spec.origin_ms)
        if mark and bucket_ms != mark.bucket_ms and metric_of(spec.metric).kind != "performance":
            self._make_finer(op, spec.endpoint, bucket_ms)
        made = Monitor(
            id=new_id(op.at_ms), name=spec.name, endpoint=spec.endpoint, spec=spec, state="ok", judged_until_ms=0,
            counted_from_ms=_counted_from(spec, mark), created_at_ms=op.at_ms, actor=op.actor.label,
        )  # fmt: skip
        with self._db.write(op) as tx:
            if not monitors_store.add_monitor(tx, made, reference.as_dict()):
                raise AlreadyExists(f"There is a monitor {spec.name!r}.", where="name", hint="Pick another name.")
            if mark is None and bucket_ms != BUCKET_MS:
                fresh = segments_store.lock_watermark(tx, spec.endpoint, bucket_ms=bucket_ms, event_at_ms=0)
                segments_store.move_watermark(
                    tx, msgspec.structs.replace(fresh, bucket_ms=math.gcd(bucket_ms, fresh.bucket_ms))
                )
            tx.link(monitor_ref(spec.name), "watches", Ref("endpoint", spec.endpoint))
            tx.emit("monitor.created", monitor_ref(spec.name), endpoint=spec.endpoint, metric=spec.metric)
        return made

    def remove_monitor(self, op: Op, name: str) -> None:
        """Stop watching; windows and alerts stay to be read, an open alert is resolved. Raises NotFound."""
        found = self.monitor(op, name)
        op.require("monitor.write", on=Ref("endpoint", found.endpoint))
        with self._db.write(op) as tx:
            monitors_store.end_monitor(tx, found.id)
            alert = alerts_store.open_alert(tx, found.id)
            if alert:
                self._resolve(tx, op, found, alert, "the monitor was removed")
            tx.unlink(monitor_ref(name), "watches", Ref("endpoint", found.endpoint))
            tx.emit("monitor.removed", monitor_ref(name), endpoint=found.endpoint)

    def monitors(self, op: Op, *, endpoint: str = "") -> list[Monitor]:
        """The monitors that the caller may see, by name."""
        visible = op.visible("monitor.read")
        with self._db.read() as tx:
            found = monitors_store.monitors(tx, endpoint=endpoint)
        return [m for m in found if visible is None or {str(monitor_ref(m.name)), f"endpoint:{m.endpoint}"} & set(visible)]

    def monitor(self, op: Op, name: str) -> Monitor:
        """One monitor. Raises NotFound."""
        with self._db.read() as tx:
            found = monitors_store.monitor(tx, name)
        if found is None or not _may_see(op, found):
            raise NotFound(f"There is no monitor {name!r}.", hint="noria monitor list shows those there are.")
        return found

    def windows(self, op: Op, name: str, *, limit: int | None = None, page: str = "") -> Page[Window]:
        """The judged windows of a monitor, newest first."""
        found, size = self.monitor(op, name), check_limit(limit)
        before = int(decode_token(page, size=1)[0]) if page else None
        with self._db.read() as tx:
            rows = monitors_store.windows(tx, found.id, before_ms=before, limit=size)
        return Page(rows, encode_token(rows[-1].start_ms) if len(rows) == size else None)

    def mute(self, op: Op, name: str, mute: Mute) -> Monitor:
        """Open no alert until a time; one that is open stays open. Raises NotFound, Invalid."""
        found = self.monitor(op, name)
        op.require("monitor.write", on=Ref("endpoint", found.endpoint))
        if (mute.until_ms is None) == (mute.for_s is None):
            raise Invalid("Give until_ms or for_s.", where="until_ms")
        until_ms = mute.until_ms if mute.until_ms is not None else op.at_ms + round(min(mute.for_s or 0.0, 1e9) * 1000)
        if not op.at_ms < until_ms <= op.at_ms + MUTE_DAYS_MAX * 86_400_000:
            raise Invalid(f"A mute ends in the future, within {MUTE_DAYS_MAX} days.", where="until_ms")
        if not mute.reason.strip():
            raise Invalid("Say why nobody is to be told.", where="reason")
        with self._db.write(op) as tx:
            monitors_store.mute_monitor(tx, found.id, until_ms=until_ms, reason=mute.reason.strip(), by=op.actor.label)
            tx.emit(
                "monitor.muted", monitor_ref(name), endpoint=found.endpoint, until_ms=until_ms, reason=mute.reason.strip()
            )
        return self.monitor(op, name)

    def unmute(self, op: Op, name: str) -> Monitor:
        """Let a monitor open alerts again. Raises NotFound, Conflict when it is not muted."""
        found = self.monitor(op, name)
        op.require("monitor.write", on=Ref("endpoint", found.endpoint))
        if found.muted_until_ms is None or found.muted_until_ms <= op.at_ms:
            raise Conflict(f"The monitor {name} is not muted.", ref=monitor_ref(name))
        with self._db.write(op) as tx:
            monitors_store.mute_monitor(tx, found.id, until_ms=None, reason="", by="")
            tx.emit("monitor.unmuted", monitor_ref(name), endpoint=found.endpoint)
        return self.monitor(op, name)

    def backtest(self, op: Op, request: BacktestRequest) -> Backtest:
        """What a monitor would have said of the past; nothing is written. Raises Invalid, NotFound (the reference)."""
        op.require("monitor.read", on=Ref("endpoint", request.spec.endpoint))
        op.require("endpoint.read", on=Ref("endpoint", request.spec.endpoint))
        _check_spec(request.spec)
        return backtest(self._db, self._blobs, op, request, self.references.of_monitor(op, request.spec))

    def _make_finer(self, op: Op, endpoint: str, bucket_ms: int) -> None:
        """Sketch an endpoint's answers again in finer buckets, from their segments."""
        with self._db.read() as tx:
            segments = segments_store.inference_segments(tx, endpoint, 0, limit=100_000)
        with self._db.write(op) as tx:
            mark = segments_store.lock_watermark(tx, endpoint, bucket_ms=bucket_ms, event_at_ms=0)
            segments_store.move_watermark(tx, msgspec.structs.replace(mark, bucket_ms=bucket_ms))
            sketch_again(tx, endpoint, bucket_ms, whole(Archive(self._blobs), segments))

    # --- alerts -----------------------------------------------------------------------------------------------------

    def alerts(
        self, op: Op, *, monitor: str = "", endpoint: str = "", state: str = "", limit: int | None = None, page: str = ""
    ) -> Page[Alert]:
        """Alerts, newest first."""
        op.require("monitor.read")
        size = check_limit(limit)
        if state not in ("", "open", "resolved"):
            raise Invalid(f"An alert is never {state!r}.", where="state", hint="Use open or resolved.")
        before = decode_token(page, size=2) if page else None
        with self._db.read() as tx:
            found = alerts_store.alerts(
                tx, monitor=monitor, endpoint=endpoint, state=state, limit=size,
                before=(int(before[0]), str(before[1])) if before else None,
            )  # fmt: skip
        return Page(found, encode_token(found[-1].opened_at_ms, found[-1].id) if len(found) == size else None)

    def alert(self, op: Op, alert_id: str) -> AlertStory:
        """An alert with the facts that led to it and what it led to. Raises NotFound."""
        op.require("monitor.read")
        with self._db.read() as tx:
            found = alerts_store.alert(tx, alert_id)
            if found is None:
                raise NotFound(f"There is no alert {alert_id!r}.")
            opened = [
                e for e in facts_store.facts_about(tx, ["alert.opened"], [str(monitor_ref(found.monitor))])
                if e.data.get("alert") == alert_id
            ]  # fmt: skip
            before = cause_chain(tx, opened[0].seq) if opened else []
            after = _led_to(tx, opened[0]) if opened else []
            around = _edges_of(tx, _subjects(after))
        return AlertStory(alert=found, before=before, after=after, edges=around)

    def resolve(self, op: Op, alert_id: str, reason: str) -> Alert:
        """Close an open alert by hand; only windows after this one count towards the next. Raises NotFound, Conflict."""
        with self._db.read() as tx:
            found = alerts_store.alert(tx, alert_id)
        op.require("monitor.write", on=Ref("endpoint", found.endpoint) if found else None)
        if found is None:
            raise NotFound(f"There is no alert {alert_id!r}.")
        if not reason.strip():
            raise Invalid("Say why the alert is closed.", where="reason")
        with self._db.write(op) as tx:
            monitor = monitors_store.monitor(tx, found.monitor)
            assert monitor is not None
            self._resolve(tx, op, monitor, found, reason.strip())
            if not monitors_store.move_monitor(
                tx, monitor, state="ok", judged_until_ms=monitor.judged_until_ms, counted_from_ms=monitor.judged_until_ms
            ):
                raise Conflict("The monitor was removed.")
        with self._db.read() as tx:
            after = alerts_store.alert(tx, alert_id)
        assert after is not None
        return after

    def _resolve(self, tx: Write, op: Op, monitor: Monitor, alert: Alert, reason: str) -> None:
        mark = segments_store.watermark(tx, alert.endpoint)
        event_at_ms = mark.event_at_ms if mark else alert.event_at_ms
        if not alerts_store.resolve_alert(
            tx, alert.id, at_ms=op.at_ms, event_at_ms=event_at_ms, by=op.actor.label, why=reason
        ):
            raise Conflict("The alert is already resolved.", ref=Ref("alert", alert.id))
        tx.emit(
            "alert.resolved", monitor_ref(monitor.name), alert=alert.id, monitor=alert.monitor, endpoint=alert.endpoint,
            reason=reason, severity=alert.severity,
        )  # fmt: skip

    # --- how good it is ---------------------------------------------------------------------------------------------

    def performance(
        self, op: Op, endpoint: str, metric: str = "", by: str = "", window_s: int = 86_400, *, from_ms: int | None = None,
        to_ms: int | None = None, origin_ms: int = 0,
    ) -> Performance:  # fmt: skip
        """A performance metric per window of event time, for the endpoint as its callers saw it or, with by="revision", for each
        revision (shadows too). Windows without any answer are left out. Raises Invalid.
        """
        op.require("endpoint.read", on=Ref("endpoint", endpoint))
        chosen = metric_of(metric or "brier")
        if chosen.kind != "performance":
            raise Invalid(f"{chosen.name} needs a reference, not truth; watch it with a monitor.", where="metric")
        if by not in ("", "revision"):
            raise Invalid(f"Performance cannot be split by {by!r}.", where="by", hint="Use by=revision or leave it out.")
        if not WINDOW_S_MIN <= window_s <= WINDOW_S_MAX:
            raise Invalid(f"window_s must be between {WINDOW_S_MIN} and {WINDOW_S_MAX}.", where="window_s")
        with self._db.read() as tx:
            mark = segments_store.watermark(tx, endpoint)
            streams = answers_store.streams(tx, endpoint, shadows=by == "revision")
            first = answers_store.first_event_at(tx, [s.id for s in streams], from_ms if from_ms is not None else -(1 << 62))
            if mark is None:
                return Performance(items=[])
            if first is None:
                return _measured(mark, [])
            last = min(to_ms, mark.event_at_ms + 1) if to_ms is not None else mark.event_at_ms + 1
            spec = MonitorSpec(name="", endpoint="", metric="", limit=0, window_s=window_s, origin_ms=origin_ms)
            start, width = window_start(spec, first), window_s * 1000
            if (last - start) / width > PERFORMANCE_WINDOWS_MAX:
                start = window_start(spec, last) - (PERFORMANCE_WINDOWS_MAX - 1) * width
            answers = read_answers(tx, [s.id for s in streams], start, last, with_requests="request" in chosen.takes)
        groups = [(s.revision_id + ("/shadow" if s.is_shadow else ""), s.model_version, {s.id}) for s in streams]
        if not by:
            groups = [("", "", {s.id for s in streams})]
        windows = [
            window
            for name, version, ids in groups
            for window in _performance(chosen, answers, name, version, ids, start, width)
        ]
        return _measured(mark, windows)

    def canary_evidence(self, op: Op, endpoint: str, *, canary_id: str = "", limit: int | None = None) -> list[Judgement]:
        """What the judge saw of an endpoint's latest canary (or of `canary_id`), oldest first."""
        op.require("endpoint.read", on=Ref("endpoint", endpoint))
        with self._db.read() as tx:
            texts = canaries_store.judgements(
                tx, endpoint=endpoint, canary_id=canary_id, limit=check_limit(limit, default=1000)
            )
        found = [msgspec.json.decode(text, type=Judgement) for text in texts]
        wanted = canary_id or (found[0].canary_id if found else "")
        return [j for j in reversed(found) if j.canary_id == wanted and j.endpoint == endpoint]

    def inference(self, op: Op, prediction_id: str) -> Inference:
        """One answer with its inputs, read from its segment. Raises NotFound."""
        op.require("inference.read")
        return self._inference(prediction_id)

    def _inference(self, prediction_id: str) -> Inference:
        with self._db.read() as tx:
            row = answers_store.inference(tx, prediction_id)
            if row is None:
                raise NotFound(
                    f"There is no prediction {prediction_id!r}.", hint="It is known a few seconds after it was answered."
                )
            stream, segment = answers_store.stream_at(tx, row.stream_id), segments_store.segment_at(tx, row.segment_id)
        assert stream is not None
        assert segment is not None
        sent = self._sent(segment, row.row_index)
        return Inference(
            prediction_id=row.prediction_id, endpoint=stream.endpoint, revision_id=stream.revision_id,
            model_version=stream.model_version, key=row.key, event_at_ms=row.event_at_ms, at_ms=row.at_ms, score=row.score,
            prediction=row.prediction, inputs=_inputs(sent), output=_output(sent), latency_ms=(sent or {}).get("latency_ms"),
            truth=row.truth, truth_at_ms=row.truth_at_ms, segment=segment.file or segment.digest,
            row=segment.offset + row.row_index,
        )  # fmt: skip

    def passport(self, op: Op, prediction_id: str) -> Passport:
        """Where one prediction comes from, who let its model answer, and what was known of it then. Raises NotFound.

        Whoever may read every fact but not single answers (an auditor) is told all but what was asked and answered.
        """
        sees_contents = op.can("inference.read")
        if not sees_contents:
            op.require("event.read")
        found = self._inference(prediction_id)
        op.require("endpoint.read", on=Ref("endpoint", found.endpoint))
        found = found if sees_contents else without_contents(found)
        revision = self._serving.revision(op, found.revision_id)
        version_id = revision.model_version_id
        endpoint = _document(lambda: self._serving.endpoint(op, found.endpoint))
        version = _document(lambda: self._registry.passport_of_version(op, Ref("model_version", version_id)))
        with self._db.read() as tx:
            facts = facts_of(tx, version_id, revision.id, found.at_ms)
            return Passport(
                prediction=found, endpoint=endpoint, revision=as_document(revision),
                deployed_by=deployer(facts, revision.actor), model_version_id=version_id, model_version=version, facts=facts,
                approvals=approvals_of(tx, version_id, found.at_ms),
                alerts_then=alerts_store.alerts_in_force(tx, found.endpoint, found.event_at_ms),
                monitors_then=monitors_then(tx, found.endpoint, found.event_at_ms),
            )  # fmt: skip

    def _sent(self, segment: SegmentRow, row: int) -> dict[str, Any] | None:
        """A row of a segment; None when the segment was deleted by retention, which is allowed."""
        try:
            return row_of(self._blobs, segment, row)
        except NotFound:
            return None


def _check_spec(spec: MonitorSpec) -> None:
    """Raises Invalid naming the field."""
    check_name(spec.name, what="monitor")
    metric = metric_of(spec.metric)
    if not spec.endpoint:
        raise Invalid("A monitor watches an endpoint.", where="endpoint")
    if not math.isfinite(spec.limit):
        raise Invalid("The limit must be a number.", where="limit")
    if spec.clear_limit is not None and (
        not math.isfinite(spec.clear_limit) or metric.is_over(spec.clear_limit, spec.limit)
    ):
        raise Invalid("clear_limit lies on the good side of the limit.", where="clear_limit")
    if len(spec.owner) > OWNER_LENGTH_MAX:
        raise Invalid(f"An owner has at most {OWNER_LENGTH_MAX} characters.", where="owner")
    if not WINDOW_S_MIN <= spec.window_s <= WINDOW_S_MAX or spec.window_s * 1000 % MINUTE_MS:
        raise Invalid("window_s must be whole minutes, from one minute to a year.", where="window_s")
    if spec.origin_ms % MINUTE_MS:
        raise Invalid("origin_ms must be a whole minute.", where="origin_ms")
    if not 0 <= spec.lateness_s <= WINDOW_S_MAX:
        raise Invalid("lateness_s must be between 0 and a year.", where="lateness_s")
    if not 1 <= spec.k <= spec.n <= 100:
        raise Invalid("An alert opens when k of n windows are over; 1 ≤ k ≤ n ≤ 100.", where="k")
    if spec.min_count < 1:
        raise Invalid("min_count must be at least 1.", where="min_count")
    if len(spec.columns) > COLUMNS_MAX:
        raise Invalid(f"A monitor watches at most {COLUMNS_MAX} columns.", where="columns")
    check_baseline(spec.baseline)
    if not 0 < spec.alpha <= 1:
        raise Invalid("alpha must be above 0 and at most 1; 1 leaves chance out of it.", where="alpha")
    if spec.slices and metric.kind != "performance":
        raise Invalid(f"{metric.name} is not judged by slices.", where="slices", hint="Use a performance metric.")
    if spec.slices and "request" in metric.takes:
        raise Invalid(f"{metric.name} judges whole requests, not slices of them.", where="slices")
    if len(spec.slices) > COLUMNS_MAX:
        raise Invalid(f"A monitor watches at most {COLUMNS_MAX} slices.", where="slices")
    for i, part in enumerate(spec.slices):
        check_slice(part, f"slices[{i}]")
    if (metric.kind == "fairness") != bool(spec.group):
        raise Invalid(
            "A fairness metric needs the input that names the groups; no other metric takes it.", where="group",
            hint="Give group, such as carrier.",
        )  # fmt: skip
    if spec.min_group < 2:
        raise Invalid("min_group must be at least 2.", where="min_group")
    if metric.needs_reference:
        _check_reference(spec, metric)


def _check_reference(spec: MonitorSpec, metric: Metric) -> None:
    if not spec.baseline and not spec.reference:
        raise Invalid(
            f"{metric.name} compares with a reference.", where="reference",
            hint="Give dataset:NAME@VERSION, model:NAME@VERSION, traffic:<from_ms>-<to_ms>, or a baseline.",
        )  # fmt: skip
    if spec.reference.startswith("traffic:"):
        parse_traffic(spec.reference)
    elif spec.reference and not spec.reference.startswith(("dataset:", "model:")):
        raise Invalid(
            f"{spec.reference!r} is no reference.", where="reference",
            hint="Give dataset:NAME@VERSION, model:NAME@VERSION or traffic:<from_ms>-<to_ms>.",
        )  # fmt: skip
    output = {"score": SCORE, "prediction": PREDICTION}.get(metric.of)
    if output and output not in spec.baseline and not spec.reference.startswith("traffic:"):
        raise Invalid(
            f"A dataset has no {metric.of}s of this model.", where="reference",
            hint=f"Use traffic:<from_ms>-<to_ms>, or a baseline for the column {output!r}.",
        )  # fmt: skip
    if spec.baseline and metric.kind != "drift":
        raise Invalid(
            f"{metric.name} needs rows or sketches; a baseline has neither.", where="baseline", hint="Give a reference."
        )
    if metric.kind == "estimate" and not spec.reference.startswith("traffic:"):
        raise Invalid(
            "An estimate learns from labelled answers of this endpoint.",
            where="reference",
            hint="Use traffic:<from_ms>-<to_ms>.",
        )
    if metric.kind == "embedding" and (not spec.columns or not spec.reference.startswith("traffic:")):
        raise Invalid(
            "Points of earlier traffic are compared: name the input that holds them, or the inputs that make them.",
            where="columns" if not spec.columns else "reference", hint="Use traffic:<from_ms>-<to_ms> and columns.",
        )  # fmt: skip
    missing = [c for c in spec.columns if spec.baseline and c not in spec.baseline]
    if missing:
        raise Invalid(f"The baseline says nothing of {missing[0]!r}.", where="columns")


def _counted_from(spec: MonitorSpec, mark: segments_store.Watermark | None) -> int:
    """From which window on a new monitor may raise an alert: the last `n` of history, not all of it."""
    if mark is None:
        return 0
    return max(0, window_start(spec, mark.event_at_ms) - (spec.n * spec.window_s + spec.lateness_s) * 1000)


def _may_see(op: Op, monitor: Monitor) -> bool:
    return op.can("monitor.read", on=monitor_ref(monitor.name)) or op.can(
        "monitor.read", on=Ref("endpoint", monitor.endpoint)
    )


def _document(read: Callable[[], Any]) -> dict[str, Any] | None:
    """What another slice says of a part, as JSON; None when the part was deleted since or is not the caller's to see."""
    try:
        return as_document(read())
    except (NotFound, Forbidden):
        return None


def _measured(mark: segments_store.Watermark, windows: list[PerformanceWindow]) -> Performance:
    return Performance(items=windows, watermark_ms=mark.event_at_ms, predictions=mark.predictions, labels=mark.labels)


def _performance(
    metric: Metric, answers: Answers, name: str, version: str, ids: set[int], start: int, width: int
) -> list[PerformanceWindow]:
    mine = answers.take(np.isin(answers.stream, sorted(ids)))
    numbers = (mine.event_at_ms - start) // width
    found = []
    for i in np.unique(numbers).tolist():
        part = mine.take(numbers == i)
        finding = performance(metric, part, 0.0)
        found.append(
            PerformanceWindow(
                group=name, model_version=version, start_ms=start + i * width, end_ms=start + (i + 1) * width,
                value=finding.value, low=finding.low, high=finding.high, count=finding.count, predictions=len(part.score),
                coverage=part.labels / len(part.score),
            )
        )  # fmt: skip
    return found


def _led_to(tx: Read, opened: Event) -> list[Event]:
    """The facts that followed from a fact, by cause, and those about what they made, oldest first; bounded."""
    found: dict[int, Event] = {}
    frontier = [opened.seq]
    for _ in range(STORY_HOPS):
        if not frontier or len(found) >= STORY_FACTS_MAX:
            break
        fresh = [e for e in facts_store.caused_by(tx, frontier, limit=STORY_FACTS_MAX) if e.seq not in found]
        found |= {e.seq: e for e in fresh}
        frontier = [e.seq for e in fresh]
    return sorted(found.values(), key=lambda e: e.seq)[:STORY_FACTS_MAX]


def _subjects(events: list[Event]) -> list[Ref]:
    return [Ref.parse(s) for s in dict.fromkeys(e.subject for e in events)][:100]


def _edges_of(tx: Read, refs: list[Ref]) -> list[dict[str, str]]:
    """The edges within two hops of what the facts speak of: pipeline run → run → version → revision."""
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for ref in refs:
        if ref.kind not in ("pipeline_run", "run", "model_version", "revision"):
            continue
        for edge in edges.walk(tx, ref, depth=2):
            found[edge.src, edge.kind, edge.dst] = {"src": edge.src, "kind": edge.kind, "dst": edge.dst}
    return list(found.values())[:STORY_FACTS_MAX]


def _inputs(sent: dict[str, Any] | None) -> dict[str, Any] | None:
    if sent is None:
        return None
    return {k.removeprefix("in_"): v for k, v in sent.items() if k.startswith("in_")}


def _output(sent: dict[str, Any] | None) -> Any:
    if sent is None:
        return None
    return {k: sent[k] for k in ("prediction", "score", "probability", "status") if k in sent}
