"""The rows of alerts."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.kernel.db import Read, Write
from noria.monitoring.model import Alert

_ALERT = (
    'id, monitor_id, monitor, endpoint, metric, severity, state, value, limit_value as "limit", why, event_at_ms, '
    "opened_at_ms, resolved_at_ms, resolved_event_at_ms, resolved_by, resolution, owner"
)


def add_alert(tx: Write, alert: Alert) -> None:
    tx.run(
        """insert into alert (id, monitor_id, monitor, endpoint, metric, severity, state, value, limit_value, why, event_at_ms,
                              opened_at_ms, resolved_at_ms, resolved_event_at_ms, resolved_by, resolution, owner)
           values (:id, :monitor_id, :monitor, :endpoint, :metric, :severity, :state, :value, :limit, :why, :event_at_ms,
                   :opened_at_ms, :resolved_at_ms, :resolved_event_at_ms, :resolved_by, :resolution, :owner)""",
        **msgspec.structs.asdict(alert),
    )


def resolve_alert(tx: Write, alert_id: str, *, at_ms: int, event_at_ms: int, by: str, why: str) -> bool:
    """End an open alert; False when it has ended."""
    return bool(
        tx.run(
            """update alert set state = 'resolved', resolved_at_ms = :at_ms, resolved_event_at_ms = :event_at_ms,
                      resolved_by = :by, resolution = :why
                where id = :id and state = 'open'""",
            id=alert_id, at_ms=at_ms, event_at_ms=event_at_ms, by=by, why=why,
        )
    )  # fmt: skip


def alert(tx: Read, alert_id: str) -> Alert | None:
    return tx.one(Alert, f"select {_ALERT} from alert where id = :id", id=alert_id)


def open_alert(tx: Read, monitor_id: str) -> Alert | None:
    return tx.one(
        Alert,
        f"select {_ALERT} from alert where monitor_id = :id and state = 'open' order by opened_at_ms desc limit 1",
        id=monitor_id,
    )


def alerts(
    tx: Read,
    *,
    monitor: str = "",
    endpoint: str = "",
    state: str = "",
    before: tuple[int, str] | None = None,
    limit: int = 100,
) -> list[Alert]:
    """Alerts, newest first."""
    where, args = ["1 = 1"], dict[str, Any]()
    for column, value in (("monitor", monitor), ("endpoint", endpoint), ("state", state)):
        if value:
            where.append(f"{column} = :{column}")
            args[column] = value
    if before:
        where.append("(opened_at_ms < :at or (opened_at_ms = :at and id < :id))")
        args |= {"at": before[0], "id": before[1]}
    return tx.all(
        Alert,
        f"select {_ALERT} from alert where {' and '.join(where)} order by opened_at_ms desc, id desc limit :limit",
        limit=limit, **args,
    )  # fmt: skip


def alerts_in_force(tx: Read, endpoint: str, event_at_ms: int) -> list[Alert]:
    """The alerts of an endpoint that were open at an event time."""
    return tx.all(
        Alert,
        f"""select {_ALERT} from alert
             where endpoint = :endpoint and event_at_ms <= :at
               and (resolved_event_at_ms is null or resolved_event_at_ms > :at)
             order by event_at_ms limit 100""",
        endpoint=endpoint, at=event_at_ms,
    )  # fmt: skip
