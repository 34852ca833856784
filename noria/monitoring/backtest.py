"""What a monitor would have said: its windows over the past, judged from what is stored, and the alerts they would have opened.

Nothing is written. Truth is taken as it is known today, which a monitor at the time may not have had.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database
from noria.kernel.errors import Invalid
from noria.kernel.op import Op
from noria.monitoring import answers_store, segments_store
from noria.monitoring.alerts import Said, stands
from noria.monitoring.baselines import Reference
from noria.monitoring.metrics import metric_of
from noria.monitoring.model import MINUTE_MS, Monitor, MonitorSpec, MonitorState, Window
from noria.monitoring.references import traffic
from noria.monitoring.windows import look, next_due

WINDOWS_MAX, ROW_WINDOWS_MAX = 400, 60  # of sketches and rows of the database; of rows read from segments
DAYS_MAX = 3_660
DAY_MS = 86_400_000


class BacktestRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A monitor that may not exist, and the span of event time: up to `to_ms` or the latest answer, from `from_ms` or `days` before."""

    spec: MonitorSpec
    days: float = 30
    from_ms: int | None = None
    to_ms: int | None = None


class WouldAlert(Struct, frozen=True, kw_only=True):
    """An alert that would have been opened; not resolved when it would still be open."""

    opened_event_at_ms: int
    resolved_event_at_ms: int | None
    value: float | None
    why: str


class Backtest(Struct, frozen=True, kw_only=True):
    """What would have been."""

    from_ms: int
    to_ms: int
    windows: list[Window]
    alerts: list[WouldAlert]
    over: int
    words: str = ""
    note: str = ""


def backtest(db: Database, blobs: BlobStore, op: Op, request: BacktestRequest, reference: Reference) -> Backtest:
    """Judge the past as the monitor would. `reference`: empty when it is the endpoint's traffic."""
    spec = request.spec
    if not 0 < request.days <= DAYS_MAX:
        raise Invalid(f"days is above 0 and at most {DAYS_MAX}.", where="days")
    with db.read() as tx:
        mark = segments_store.watermark(tx, spec.endpoint)
        streams = [s.id for s in answers_store.streams(tx, spec.endpoint)]
        if mark is None:
            return Backtest(from_ms=0, to_ms=0, windows=[], alerts=[], over=0, note="The endpoint has not answered yet.")
        to_ms = request.to_ms if request.to_ms is not None else mark.event_at_ms + 1
        from_ms = request.from_ms if request.from_ms is not None else to_ms - round(request.days * DAY_MS)
        if from_ms >= to_ms:
            raise Invalid("The span is empty.", where="from_ms")
        _check_bucket(spec, mark.bucket_ms)
        if spec.reference.startswith("traffic:"):
            kind = metric_of(spec.metric).kind
            points = spec.columns if kind == "embedding" else ()
            reference = traffic(tx, blobs, streams, spec.reference, learns=kind == "estimate", points=points)
        if metric_of(spec.metric).needs_reference and not reference.names():
            raise Invalid("There are no answers in the span of the reference.", where="reference")
        windows, note = list[Window](), ""
        monitor = Monitor(
            id="", name=spec.name, endpoint=spec.endpoint, spec=spec, state="ok", judged_until_ms=from_ms, counted_from_ms=0,
            created_at_ms=op.at_ms, actor="",
        )  # fmt: skip
        limit = ROW_WINDOWS_MAX if _reads_rows(spec) else WINDOWS_MAX
        while (start_ms := next_due(tx, monitor, streams, min(mark.event_at_ms, to_ms))) is not None:
            if len(windows) == limit:
                note = f"Only the first {limit} windows; ask for a shorter span."
                break
            window = look(tx, blobs, monitor, streams, reference, start_ms, at_ms=op.at_ms, seq=0)
            windows.append(msgspec.structs.replace(window, seq=None))
            monitor = msgspec.structs.replace(monitor, judged_until_ms=window.end_ms)
    return Backtest(
        from_ms=from_ms, to_ms=to_ms, windows=windows[::-1], alerts=would_alert(spec, windows),
        over=sum(w.verdict == "over" for w in windows), words=in_words(spec, windows, to_ms - from_ms), note=note,
    )  # fmt: skip


def in_words(spec: MonitorSpec, windows: list[Window], span_ms: int) -> str:
    """How often it would have fired, and for how long, as one says it to a colleague."""
    alerts, days = would_alert(spec, windows), _days(span_ms)
    judged = sum(w.verdict in ("over", "within") for w in windows)
    if not judged:
        return f"It would have judged nothing in {days}: no window had the {spec.min_count:,} rows that it asks for."
    over = f"{sum(w.verdict == 'over' for w in windows)} of {judged} windows were over {spec.limit:g}."
    if not alerts:
        return f"It would not have fired in {days}: {over}"
    end_ms = max(w.end_ms for w in windows)
    open_ms = sum((a.resolved_event_at_ms or end_ms) - a.opened_event_at_ms for a in alerts)
    times = {1: "once", 2: "twice"}.get(len(alerts), f"{len(alerts)} times")
    still = " and would be open now" if alerts[-1].resolved_event_at_ms is None else ""
    lasted = f", for {_days(open_ms)} in all" if open_ms else ""
    return f"It would have fired {times} in {days}{lasted}{still}: {over}"


def _days(span_ms: int) -> str:
    count = f"{span_ms / DAY_MS:.3g}"
    return f"{count} day{'' if count == '1' else 's'}"


def would_alert(spec: MonitorSpec, windows: list[Window]) -> list[WouldAlert]:
    """The alerts that windows, oldest first, open and resolve."""
    state: MonitorState = "ok"
    said, found = list[Said](), list[WouldAlert]()
    for window in windows:
        if window.verdict not in ("over", "within"):
            continue
        said = [*said, (window.verdict, window.value)][-spec.n :]
        was, state = state, stands(spec, state, said)
        if state == "open" and was != "open":
            found.append(
                WouldAlert(opened_event_at_ms=window.end_ms, resolved_event_at_ms=None, value=window.value, why=window.why)
            )
        elif was == "open" and state != "open":
            found[-1] = msgspec.structs.replace(found[-1], resolved_event_at_ms=window.end_ms)
    return found


def _reads_rows(spec: MonitorSpec) -> bool:
    return bool(spec.slices) or metric_of(spec.metric).kind in ("together", "estimate", "fairness", "stream", "embedding")


def _check_bucket(spec: MonitorSpec, bucket_ms: int) -> None:
    is_sketched = metric_of(spec.metric).kind in ("drift", "quality")
    if is_sketched and (spec.window_s * 1000 % bucket_ms or spec.origin_ms % bucket_ms):
        raise Invalid(
            f"This endpoint's sketches are kept per {bucket_ms // MINUTE_MS} minutes.", where="window_s",
            hint="Try whole multiples of that; a monitor that is created keeps finer ones.",
        )  # fmt: skip
