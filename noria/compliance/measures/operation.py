"""MON and LOG: is it watched, and is what it answers on record?"""

from __future__ import annotations

import msgspec

from noria.compliance.look import Look
from noria.compliance.measures.base import Measured, each, measure
from noria.compliance.measures.deployment import NO_ENDPOINT
from noria.compliance.model import DAY_MS, Item
from noria.kernel.edges import protectors
from noria.kernel.ids import Ref

WATCHES = {"drift": ("drift", "together"), "performance": ("performance", "estimate", "fairness")}
HOUR_MS = 3_600_000
TRAFFIC_DAYS = 30  # counts of traffic are kept for a month


def _live_endpoints(look: Look) -> list[str]:
    return sorted({r.endpoint for r in look.live})


@measure("MON-1")
def watched(look: Look) -> Measured:
    names = _live_endpoints(look)
    rows = look.tx.rows(
        """select m.name, m.endpoint, m.spec, m.judged_until_ms, m.created_at_ms, w.event_at_ms
             from monitor m left join watermark w on w.endpoint = m.endpoint
            where m.is_active and m.endpoint in :names order by m.name limit 5000""",
        names=names,
    )
    items = []
    for endpoint in names:
        for what, kinds in WATCHES.items():
            mine = []
            for row in (r for r in rows if r["endpoint"] == endpoint):
                spec = msgspec.json.decode(row["spec"])
                if look.proofs.metric_kind(str(spec["metric"])) in kinds:
                    mine.append((row, int(spec.get("window_s", 86_400)) * 1000, int(spec.get("lateness_s", 0)) * 1000))
            if not mine:
                says = f"{endpoint} has no active monitor of {what}"
                items.append(Item(subject=f"endpoint:{endpoint}", ok=False, says=says))
            for row, window_ms, late_ms in mine:
                since = int(row["judged_until_ms"] or row["created_at_ms"])  # one that never judged is behind too
                behind = max(0, int(row["event_at_ms"] or 0) - late_ms - since)
                is_behind = behind > look.limit("periods") * window_ms
                says = f"{row['name']} watches the {what} of {endpoint}" + (
                    f", and is {behind / window_ms:.1f} periods behind" if is_behind else ", on schedule"
                )
                values = {
                    "judged_until_ms": row["judged_until_ms"],
                    "event_at_ms": row["event_at_ms"],
                    "window_ms": window_ms,
                }
                items.append(Item(subject=f"monitor:{row['name']}", ok=not is_behind, says=says, values=values))
    return each(items, none=NO_ENDPOINT, good="every endpoint is watched for drift and for performance, on schedule")


@measure("MON-2")
def answered(look: Look) -> Measured:
    rows = look.tx.rows(
        """select id, monitor, endpoint, metric, opened_at_ms from alert
            where state = 'open' and endpoint in :names order by opened_at_ms limit 1000""",
        names=[e.name for e in look.endpoints],
    )
    if not look.endpoints:
        return Measured(state="not_applicable", reason=NO_ENDPOINT)
    items = [
        Item(
            subject=f"alert:{r['id']}", ok=r["opened_at_ms"] >= look.days_ago_ms(),
            says=f"the alert of {r['monitor']} is open for {(look.now_ms - r['opened_at_ms']) // DAY_MS} days",
            values={"opened_at_ms": r["opened_at_ms"], "metric": r["metric"]},
        )
        for r in rows
    ]  # fmt: skip
    if not items:
        return Measured(state="pass", reason="no alert is open")
    return each(items, none="", good=f"{len(items)} open alerts, none for too long")


@measure("MON-3")
def incidents(look: Look) -> Measured:
    """Reported late counts for a year, so that one overdue report is not forgotten the day after."""
    assert look.system is not None
    rows = look.tx.rows(
        """select id, title, severity, aware_at_ms, due_at_ms, reported_at_ms from incident
            where system = :system and severity <> 'other' and (reported_at_ms is null or aware_at_ms >= :since)
            order by due_at_ms, id limit 5000""",
        system=look.system.name, since=look.now_ms - 365 * DAY_MS,
    )  # fmt: skip
    items = []
    for row in rows:
        told = row["reported_at_ms"]
        is_late = (told if told is not None else look.now_ms) > row["due_at_ms"]
        left = (row["due_at_ms"] - look.now_ms) // DAY_MS
        says = f"{row['title']!r} " + (
            ("was reported late" if is_late else "was reported in time") if told is not None
            else f"is overdue by {-left} days" if is_late else f"has to be reported within {left} days"
        )  # fmt: skip
        values = {k: row[k] for k in ("severity", "aware_at_ms", "due_at_ms", "reported_at_ms")}
        items.append(Item(subject=f"incident:{row['id']}", ok=not is_late, says=says[:600], values=values))
    if not items:
        return Measured(state="pass", reason="no serious incident is on record")
    return each(items, none="", good=f"{len(items)} serious incidents, none overdue")


@measure("LOG-1")
def recorded(look: Look) -> Measured:
    """A request may hold several rows, so rows by requests is the most that coverage can be: below the limit it is a proof of loss.

    What is deleted, and when, is what the endpoint's policy of recording says.
    """
    names, since = _live_endpoints(look), look.now_ms - TRAFFIC_DAYS * DAY_MS
    served = look.tx.rows(
        """select endpoint, sum(requests - errors) as n, min(step_at_ms) as first_ms from traffic
            where endpoint in :names and step_at_ms >= :since group by endpoint order by endpoint""",
        names=names, since=since,
    )  # fmt: skip
    items = []
    for row in served:
        answers = int(row["n"])
        if answers <= 0:
            continue
        rows = look.tx.scalar(
            "select sum(rows) from segment where endpoint = :name and kind = 'inference' and at_ms >= :since",
            name=row["endpoint"], since=row["first_ms"],
        )  # fmt: skip
        count = int(rows or 0)
        share = count / answers
        says = f"{row['endpoint']} recorded {count} rows for {answers} requests it answered in {TRAFFIC_DAYS} days"
        values = {"rows": count, "requests": answers, "share_max": round(share, 6)}
        items.append(Item(subject=f"endpoint:{row['endpoint']}", ok=share >= look.limit("share"), says=says, values=values))
    kept = _kept(look, names)
    if names and not items and all(i.ok for i in kept):
        return Measured(state="not_applicable", reason="no request was answered in the last 30 days")
    good = f"at least one recorded row for every request that was answered, kept for {look.limit('days'):g} days or longer"
    return each([*items, *kept], none=NO_ENDPOINT, good=good)


def _kept(look: Look, names: list[str]) -> list[Item]:
    """For how long the records of each endpoint are kept: for ever, unless its policy says otherwise."""
    rows = look.tx.rows("select endpoint, policy from recording where endpoint in :names limit 5000", names=names)
    policies = {r["endpoint"]: msgspec.json.decode(r["policy"]) for r in rows}
    items = []
    for name in names:
        policy = policies.get(name, {})
        values = {k: policy.get(k) for k in ("keep_days", "keep_rows", "hold")}
        values["hold"] = values["hold"] or ", ".join(edge.src for edge in protectors(look.tx, Ref("endpoint", name)))
        days, count = values["keep_days"], values["keep_rows"]
        is_short = not values["hold"] and (count is not None or (days is not None and days < look.limit("days")))
        says = f"the records of {name} are " + (
            "held, nothing is deleted" if values["hold"] else f"deleted but for the latest {count} rows" if count is not None
            else f"deleted after {days:g} days, to be {look.limit('days'):g}" if is_short
            else f"kept for {days:g} days" if days is not None else "kept for ever"
        )  # fmt: skip
        items.append(Item(subject=f"endpoint:{name}", ok=not is_short, says=says, values=values))
    return items


@measure("LOG-2")
def intact(look: Look) -> Measured:
    is_intact, why, anchored_ms = look.proofs.audit()
    items = [Item(subject="audit:log", ok=is_intact, says=why or "the sealed log verifies")]
    if anchored_ms is None:
        says = "no place elsewhere took a checkpoint since the server started (NORIA_ANCHORS names them)"
        items.append(Item(subject="audit:log", ok=False, says=says))
    else:
        hours = (look.now_ms - anchored_ms) / HOUR_MS
        says = f"a place elsewhere took a checkpoint {hours:.1f} hours ago"
        items.append(
            Item(subject="audit:log", ok=hours <= look.limit("hours"), says=says, values={"anchored_at_ms": anchored_ms})
        )
    return each(items, none="", good="the log verifies and is anchored")
