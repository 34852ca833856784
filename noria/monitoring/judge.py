"""The judge of monitors: closes windows as the watermark passes, looks again at those that late truth opened, moves alerts.

Invariant: a window, its fact, the monitor's place and the alert are one transaction, which fails when another judge was faster.
"""

from __future__ import annotations

import logging

import msgspec

from noria.kernel.blobs import BlobStore
from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import Conflict, NoriaError
from noria.kernel.ids import Ref, new_id
from noria.kernel.op import Op, Ops
from noria.monitoring import alerts_store, answers_store, monitors_store, segments_store
from noria.monitoring.alerts import stands
from noria.monitoring.baselines import Reference, parse_traffic, reference_of
from noria.monitoring.estimates import LABELS_MIN
from noria.monitoring.metrics import metric_of
from noria.monitoring.model import Alert, Monitor, Window
from noria.monitoring.references import traffic
from noria.monitoring.segments_store import Watermark
from noria.monitoring.windows import look, next_due

log = logging.getLogger("noria.monitoring")

WINDOWS_PER_TURN = 500  # of one monitor; the rest wait for the next turn, so that one monitor does not hold up the others


class Judge:
    """Reconciler: judges every monitor's due and stale windows."""

    name = "monitoring.judge"
    wake_on: frozenset[str] = frozenset({"segment.written", "truth.written", "monitor.created"})

    def __init__(self, db: Database, ops: Ops, blobs: BlobStore, *, every_s: float = 1.0) -> None:
        self._db, self._ops, self._blobs, self.every_s = db, ops, blobs, every_s

    def reconcile(self) -> None:
        with self._db.read() as tx:
            monitors = monitors_store.monitors(tx, active=True)
        for monitor in monitors:
            try:
                self.judge(monitor.name)
            except Conflict as moved:
                log.info("%s", moved.message)
            except NoriaError as error:
                log.warning("monitor %s could not be judged: %s", monitor.name, error.message, exc_info=error)
            except Exception:  # a fault of ours in one monitor must not stop those after it
                log.exception("monitor %s could not be judged", monitor.name)

    def judge(self, name: str) -> int:
        """Judge what is due of one monitor, in order; returns how many windows were judged."""
        for judged in range(WINDOWS_PER_TURN):
            with self._db.read() as tx:
                monitor = monitors_store.monitor(tx, name)
                mark = segments_store.watermark(tx, monitor.endpoint) if monitor else None
                if monitor is None or mark is None or not monitor.is_active:
                    return judged
                streams = [s.id for s in answers_store.streams(tx, monitor.endpoint)]
                reference = reference_of(monitors_store.baseline(tx, monitor.id))
                is_waiting = metric_of(monitor.spec.metric).needs_reference and not reference.names()
                if is_waiting:
                    reference = self._earlier_traffic(tx, monitor, streams, mark)
                    if not reference.names():
                        return judged
                was = next(iter(monitors_store.stale_windows(tx, monitor.id, limit=1)), None)
                start_ms = was.start_ms if was else next_due(tx, monitor, streams, mark.event_at_ms)
                window = None
                if start_ms is not None:
                    window = look(tx, self._blobs, monitor, streams, reference, start_ms, at_ms=0, seq=mark.seq)
            if is_waiting:
                with self._db.write(self._ops.system(self.name, cause=mark.seq or None)) as write:
                    monitors_store.set_baseline(write, monitor.id, reference.as_dict())
            if window is None:
                return judged
            self._conclude(monitor, window, was, mark)
        return WINDOWS_PER_TURN

    def _earlier_traffic(self, tx: Read, monitor: Monitor, streams: list[int], mark: Watermark) -> Reference:
        """The endpoint's own earlier traffic as the reference, once the watermark has passed it; empty before.

        What is learnt from labels waits for late ones, and for enough of them.
        """
        spec = monitor.spec
        from_ms, to_ms = parse_traffic(spec.reference)
        learns = metric_of(spec.metric).kind == "estimate"
        is_early = mark.event_at_ms < to_ms + (spec.lateness_s * 1000 if learns else 0)
        if is_early or (learns and answers_store.labels_between(tx, streams, from_ms, to_ms) < LABELS_MIN):
            return Reference()
        points = spec.columns if metric_of(spec.metric).kind == "embedding" else ()
        return traffic(tx, self._blobs, streams, spec.reference, learns=learns, points=points)

    def _conclude(self, monitor: Monitor, window: Window, was: Window | None, mark: Watermark) -> None:
        """Write the window and what follows from it. Raises Conflict when another judge was faster."""
        op = self._ops.system(self.name, cause=mark.seq or None)
        window = msgspec.structs.replace(
            window,
            judged_at_ms=op.at_ms,
            judgements=was.judgements + 1 if was else 1,
            seq=was.seq if was else mark.seq or None,
        )
        is_news = was is None or (was.value, was.verdict) != (window.value, window.verdict)
        if was is not None and not is_news:  # nothing came of the late rows; that is no fact
            window = msgspec.structs.replace(window, judgements=was.judgements)
        with self._db.write(op) as tx:
            now = segments_store.watermark(tx, monitor.endpoint)
            if now is None or now.seq != mark.seq:  # rows came since we looked; look again next time round
                window = msgspec.structs.replace(window, is_stale=True)
            monitors_store.put_window(tx, window)
            said = monitors_store.said_since(tx, monitor.id, monitor.counted_from_ms, monitor.spec.n)
            is_muted = monitor.muted_until_ms is not None and op.at_ms < monitor.muted_until_ms
            state = stands(monitor.spec, monitor.state, said, is_muted=is_muted)
            upto = max(monitor.judged_until_ms, window.end_ms)
            if not monitors_store.move_monitor(
                tx, monitor, state=state, judged_until_ms=upto, counted_from_ms=monitor.counted_from_ms
            ):
                raise Conflict(f"Monitor {monitor.name} was judged by somebody else.", ref=monitor_ref(monitor.name))
            if is_news:
                tx.emit(
                    "window.evaluated", monitor_ref(monitor.name), monitor=monitor.name, start_ms=window.start_ms,
                    end_ms=window.end_ms, verdict=window.verdict, value=window.value, limit=window.limit, count=window.count,
                    coverage=window.coverage, judgements=window.judgements,
                )  # fmt: skip
            self._move_alert(tx, op, monitor, state, window)

    def _move_alert(self, tx: Write, op: Op, monitor: Monitor, state: str, window: Window) -> None:
        if state == "open" and monitor.state != "open":
            over = window if window.verdict == "over" else None
            alert = Alert(
                id=new_id(op.at_ms), monitor_id=monitor.id, monitor=monitor.name, endpoint=monitor.endpoint,
                metric=monitor.spec.metric, severity=monitor.spec.severity, state="open",
                value=over.value if over and over.value is not None else monitor.spec.limit, limit=monitor.spec.limit,
                why=f"{monitor.spec.k} of the last {monitor.spec.n} windows are over the limit. {window.why}",
                event_at_ms=window.end_ms, opened_at_ms=op.at_ms, owner=monitor.spec.owner,
            )  # fmt: skip
            alerts_store.add_alert(tx, alert)
            tx.link(Ref("alert", alert.id), "raised_by", monitor_ref(monitor.name))
            tx.link(Ref("alert", alert.id), "about", Ref("endpoint", monitor.endpoint))
            tx.emit(
                "alert.opened", monitor_ref(monitor.name), alert=alert.id, monitor=alert.monitor, metric=alert.metric,
                value=alert.value, limit=alert.limit, endpoint=alert.endpoint, severity=alert.severity,
                event_at_ms=alert.event_at_ms, owner=alert.owner, why=alert.why,
            )  # fmt: skip
        elif state != "open" and monitor.state == "open":
            found = alerts_store.open_alert(tx, monitor.id)
            back = "over the limit" if monitor.spec.clear_limit is None else f"beyond {monitor.spec.clear_limit:g}"
            reason = f"Fewer than {monitor.spec.k} of the last {monitor.spec.n} windows are {back}. {window.why}"
            if found and alerts_store.resolve_alert(
                tx, found.id, at_ms=op.at_ms, event_at_ms=window.end_ms, by=op.actor.label, why=reason
            ):
                tx.emit(
                    "alert.resolved", monitor_ref(monitor.name), alert=found.id, monitor=found.monitor,
                    endpoint=found.endpoint, reason=reason, severity=found.severity,
                )  # fmt: skip


def monitor_ref(name: str) -> Ref:
    return Ref("monitor", name)
