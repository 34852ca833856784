"""Requests, errors and latency of every revision over time; and the guard-rails that need nothing else."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.kernel.db import Database, Write
from noria.kernel.errors import Invalid
from noria.kernel.op import Op
from noria.kernel.ticks import Ticks
from noria.serving import store
from noria.serving.canaries import Canaries
from noria.serving.model import (
    ERROR_REQUESTS_MIN,
    LATENCY_REQUESTS_MIN,
    TRAFFIC_STEP_MS,
    Guard,
    Traffic,
    TrafficReport,
    TrafficSeries,
)
from noria.serving.revisions import endpoint_ref
from noria.serving.routes import quantile_ms
from noria.serving.store import Answered

STEPS_MAX = 2_000  # points of a traffic series
TRAFFIC_ROWS_MAX = 200_000
TRAFFIC_KEPT_MS = 31 * 86_400_000


class TrafficCounts:
    """See the module."""

    def __init__(self, db: Database, ticks: Ticks, canaries: Canaries) -> None:
        self._db, self._ticks, self._canaries = db, ticks, canaries

    def report(self, op: Op, report: TrafficReport) -> None:
        """Take what a node counted; a running canary that fails more than its guard allows is rolled back here and now."""
        op.require("endpoint.serve")
        with self._db.write(op) as tx:
            for sample in report.samples:
                store.add_traffic(
                    tx, msgspec.structs.replace(sample, at_ms=sample.at_ms // TRAFFIC_STEP_MS * TRAFFIC_STEP_MS)
                )
            for name in sorted({s.endpoint for s in report.samples}):
                self._guard(tx, op, name)
        for name in {s.endpoint for s in report.samples}:
            requests = sum(s.requests for s in report.samples if s.endpoint == name)
            errors = sum(s.errors for s in report.samples if s.endpoint == name)
            self._ticks.tick(endpoint_ref(name), {"requests": requests, "errors": errors})

    def _guard(self, tx: Write, op: Op, name: str) -> None:
        """The operational guard-rails; the quality of answers is monitoring's to judge."""
        canary = store.open_canary(tx, name)
        if canary is None or canary.state != "running":
            return
        since = canary.started_at_ms // TRAFFIC_STEP_MS * TRAFFIC_STEP_MS
        mine = store.answered_since(tx, canary.revision_id, since)
        champion = store.answered_since(tx, canary.champion_revision_id, since)
        found = too_many_errors(canary.guard, mine, champion) or too_slow(canary.guard, mine, champion)
        if found is not None:
            self._canaries.back(tx, op, name, *found)

    def series(self, op: Op, name: str, *, from_ms: int, to_ms: int, step_s: int) -> Traffic:
        """Requests, errors and latency per revision and step. Raises NotFound, Invalid, Forbidden."""
        op.require("endpoint.read", endpoint_ref(name))
        step_ms = max(TRAFFIC_STEP_MS, step_s * 1000)
        if to_ms <= from_ms or (to_ms - from_ms) / step_ms > STEPS_MAX:
            raise Invalid(
                f"from, to and step_s give no series: there may be 1 to {STEPS_MAX} steps.",
                where="step_s",
                hint="Ask for longer steps.",
            )
        first = from_ms // step_ms * step_ms
        with self._db.read() as tx:
            store.endpoint(tx, name)
            rows = store.traffic(tx, name, first, to_ms, limit=TRAFFIC_ROWS_MAX)
        return _series(rows, first, to_ms, step_ms)


def too_many_errors(guard: Guard, canary: Answered, champion: Answered) -> tuple[str, dict[str, Any]] | None:
    """Why the canary fails too often, and the evidence; None while it does not."""
    if canary.requests < ERROR_REQUESTS_MIN:
        return None
    share, champion_share = canary.error_share, champion.error_share
    if share <= champion_share + guard.max_error_share:
        return None
    evidence = {
        "requests": canary.requests, "errors": canary.errors, "champion_requests": champion.requests,
        "champion_errors": champion.errors, "max_error_share": guard.max_error_share,
    }  # fmt: skip
    return f"{share:.1%} of its {canary.requests} requests failed, {champion_share:.1%} of the champion's", evidence


def too_slow(guard: Guard, canary: Answered, champion: Answered) -> tuple[str, dict[str, Any]] | None:
    """Why the canary is too slow, and the evidence; None while it is not, or nobody asked."""
    if guard.max_latency_ratio is None or min(canary.requests, champion.requests) < LATENCY_REQUESTS_MIN:
        return None
    mine, theirs = quantile_ms(canary.latency, 0.95), quantile_ms(champion.latency, 0.95)
    if mine is None or theirs is None or mine <= theirs * guard.max_latency_ratio:
        return None
    evidence = {
        "p95_ms": mine, "champion_p95_ms": theirs, "requests": canary.requests, "champion_requests": champion.requests,
        "max_latency_ratio": guard.max_latency_ratio,
    }  # fmt: skip
    return f"its p95 is {mine:.3g} ms, the champion's {theirs:.3g}: more than {guard.max_latency_ratio:g} times", evidence


class Upkeep:
    """A reconciler: forgets traffic counts that are older than a month."""

    name = "serving.upkeep"
    every_s = 3600.0
    wake_on: frozenset[str] = frozenset()

    def __init__(self, db: Database) -> None:
        self._db = db

    def reconcile(self) -> None:
        with self._db.system_write() as tx:
            store.forget_traffic(tx, self._db.clock.now_ms() - TRAFFIC_KEPT_MS)


def _series(rows: list[dict[str, Any]], first: int, to_ms: int, step_ms: int) -> Traffic:
    times = list(range(first, to_ms, step_ms))
    n = len(times)
    counts: dict[str, tuple[list[int], list[int], list[dict[int, int]]]] = {}
    for row in rows:
        count, errors, latency = counts.setdefault(row["revision_id"], ([0] * n, [0] * n, [{} for _ in range(n)]))
        i = (row["step_at_ms"] - first) // step_ms
        count[i] += row["requests"]
        errors[i] += row["errors"]
        store.add_counts(latency[i], row["latency"])
    return Traffic(
        t=times,
        by_revision={
            key: TrafficSeries(
                count=count, errors=errors, p50_ms=[quantile_ms(c, 0.5) for c in latency],
                p99_ms=[quantile_ms(c, 0.99) for c in latency],
            )
            for key, (count, errors, latency) in counts.items()
        },
    )  # fmt: skip
