"""The rows of monitors and of the windows they judged."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.kernel.db import Read, Write, js
from noria.kernel.lineage import Station, station
from noria.kernel.naming import Noun, findable
from noria.kernel.things import things
from noria.monitoring.model import Monitor, Window

things("monitor", "select name from monitor")
station(
    Station(
        kind="monitor", action="monitor.read",
        query="""select 'monitor:' || name as ref, 'monitor:' || name as scope, name as label, state, created_at_ms as at_ms
                   from monitor where name in :ids and is_active""",
    )
)  # fmt: skip
station(
    Station(
        kind="alert", action="monitor.read",
        query="""select 'alert:' || id as ref, 'monitor:' || monitor as scope, monitor || ': ' || metric as label, state,
                        opened_at_ms as at_ms
                   from alert where id in :ids""",
    )
)  # fmt: skip
findable(
    Noun(
        kind="monitor", action="monitor.read", scopes=("scope", "endpoint_scope"),
        query="""select 'monitor:' || name as scope, 'endpoint:' || endpoint as endpoint_scope, 'monitor:' || name as ref, name as label,
                        endpoint as detail, created_at_ms as at_ms
                   from monitor where is_active""",
    )
)  # fmt: skip
findable(
    Noun(
        kind="alert", action="monitor.read", scopes=("scope", "endpoint_scope"),
        query="""select 'monitor:' || monitor as scope, 'endpoint:' || endpoint as endpoint_scope, 'alert:' || id as ref,
                        monitor || ': ' || metric || ' of ' || endpoint as label, state || ' ' || severity as detail,
                        opened_at_ms as at_ms
                   from alert""",
    )
)  # fmt: skip
_MONITOR = (
    "id, name, endpoint, spec, state, judged_until_ms, counted_from_ms, created_at_ms, actor, is_active, muted_until_ms, "
    "mute_reason, muted_by"
)
_WINDOW = (
    'monitor_id, start_ms, end_ms, verdict, value, low, high, limit_value as "limit", count, predictions, coverage, findings, '
    "why, judged_at_ms, judgements, is_stale, seq"
)


def add_monitor(tx: Write, monitor: Monitor, baseline: dict[str, Any]) -> bool:
    """Insert; False when the name is taken. One that was removed gives its name away and keeps its windows and alerts."""
    tx.run("update monitor set name = name || '~' || id where name = :name and is_active = :no", name=monitor.name, no=False)
    return bool(
        tx.run(
            f"""insert into monitor ({_MONITOR}, baseline)
                values (:id, :name, :endpoint, :spec, :state, :judged, :counted, :created, :actor, :active, null, '', '',
                        :baseline)
                on conflict (name) do nothing""",
            id=monitor.id, name=monitor.name, endpoint=monitor.endpoint, spec=js(monitor.spec), state=monitor.state,
            judged=monitor.judged_until_ms, counted=monitor.counted_from_ms, created=monitor.created_at_ms,
            actor=monitor.actor, active=monitor.is_active, baseline=js(baseline),
        )
    )  # fmt: skip


def monitors(tx: Read, *, endpoint: str = "", active: bool = False, limit: int = 1000) -> list[Monitor]:
    where = " and endpoint = :endpoint" if endpoint else ""
    where += " and is_active" if active else ""
    args = {"endpoint": endpoint} if endpoint else {}
    return tx.all(
        Monitor, f"select {_MONITOR} from monitor where 1 = 1{where} order by name limit :limit", limit=limit, **args
    )


def monitor(tx: Read, name: str) -> Monitor | None:
    return tx.one(Monitor, f"select {_MONITOR} from monitor where name = :name", name=name)


def baseline(tx: Read, monitor_id: str) -> dict[str, Any]:
    found = tx.scalar("select baseline from monitor where id = :id", id=monitor_id)
    return dict(msgspec.json.decode(found)) if found else {}


def set_baseline(tx: Write, monitor_id: str, value: dict[str, Any]) -> None:
    tx.run("update monitor set baseline = :baseline where id = :id", id=monitor_id, baseline=js(value))


def move_monitor(tx: Write, monitor: Monitor, *, state: str, judged_until_ms: int, counted_from_ms: int) -> bool:
    """Write where a monitor stands, unless another judge was faster; False then."""
    return bool(
        tx.run(
            """update monitor set state = :state, judged_until_ms = :judged, counted_from_ms = :counted
                where id = :id and judged_until_ms = :was and counted_from_ms = :counted_was and is_active""",
            id=monitor.id, state=state, judged=judged_until_ms, counted=counted_from_ms, was=monitor.judged_until_ms,
            counted_was=monitor.counted_from_ms,
        )
    )  # fmt: skip


def mute_monitor(tx: Write, monitor_id: str, *, until_ms: int | None, reason: str, by: str) -> None:
    """Silence a monitor until a time, or (None) no longer."""
    tx.run(
        "update monitor set muted_until_ms = :until, mute_reason = :reason, muted_by = :by where id = :id",
        id=monitor_id, until=until_ms, reason=reason, by=by,
    )  # fmt: skip


def end_monitor(tx: Write, monitor_id: str) -> None:
    tx.run("update monitor set is_active = :no where id = :id", id=monitor_id, no=False)


def put_window(tx: Write, window: Window) -> None:
    tx.run(
        """insert into monitor_window (monitor_id, start_ms, end_ms, verdict, value, low, high, limit_value, count, predictions,
                                       coverage, findings, why, judged_at_ms, judgements, is_stale, seq)
           values (:monitor_id, :start_ms, :end_ms, :verdict, :value, :low, :high, :limit, :count, :predictions, :coverage,
                   :findings, :why, :judged_at_ms, :judgements, :is_stale, :seq)
           on conflict (monitor_id, start_ms) do update
              set verdict = excluded.verdict, value = excluded.value, low = excluded.low, high = excluded.high,
                  count = excluded.count, predictions = excluded.predictions, coverage = excluded.coverage,
                  findings = excluded.findings, why = excluded.why, judged_at_ms = excluded.judged_at_ms,
                  judgements = excluded.judgements, is_stale = excluded.is_stale""",
        **{**msgspec.structs.asdict(window), "findings": js(window.findings)},
    )


def windows(tx: Read, monitor_id: str, *, before_ms: int | None = None, limit: int = 100) -> list[Window]:
    """Judged windows, newest first."""
    where, args = ("and start_ms < :before", {"before": before_ms}) if before_ms is not None else ("", {})
    return tx.all(
        Window,
        f"select {_WINDOW} from monitor_window where monitor_id = :id {where} order by start_ms desc limit :limit",
        id=monitor_id, limit=limit, **args,
    )  # fmt: skip


def stale_windows(tx: Read, monitor_id: str, *, limit: int = 50) -> list[Window]:
    return tx.all(
        Window,
        f"select {_WINDOW} from monitor_window where is_stale and monitor_id = :id order by start_ms limit :limit",
        id=monitor_id, limit=limit,
    )  # fmt: skip


def open_again(tx: Write, endpoint: str, from_ms: int, to_ms: int) -> int:
    """Mark the judged windows that touch [from, to]; the judge looks at them once more."""
    return tx.run(
        """update monitor_window set is_stale = :yes
            where start_ms <= :to and end_ms > :from and not is_stale
              and monitor_id in (select id from monitor where endpoint = :endpoint and is_active)""",
        endpoint=endpoint, yes=True, **{"from": from_ms, "to": to_ms},
    )  # fmt: skip


def said_since(tx: Read, monitor_id: str, from_ms: int, n: int) -> list[tuple[str, float | None]]:
    """Verdict and value of the last `n` windows that said over or within, starting no earlier than `from_ms`; oldest first."""
    found = tx.rows(
        """select verdict, value from monitor_window
            where monitor_id = :id and start_ms >= :from and verdict in ('over', 'within')
            order by start_ms desc limit :n""",
        id=monitor_id, n=n, **{"from": from_ms},
    )  # fmt: skip
    return [(r["verdict"], r["value"]) for r in reversed(found)]


def last_window_before(tx: Read, monitor_id: str, event_at_ms: int) -> Window | None:
    return tx.one(
        Window,
        f"select {_WINDOW} from monitor_window where monitor_id = :id and end_ms <= :at order by start_ms desc limit 1",
        id=monitor_id, at=event_at_ms,
    )  # fmt: skip


def window_over(tx: Read, monitor_id: str, event_at_ms: int) -> Window | None:
    """The window in which an event time lies, if it was judged."""
    return tx.one(
        Window,
        f"select {_WINDOW} from monitor_window where monitor_id = :id and start_ms <= :at and end_ms > :at limit 1",
        id=monitor_id, at=event_at_ms,
    )  # fmt: skip
