"""DEP and SEC and TPM: how versions came into production, and what their files and packages are."""

from __future__ import annotations

from noria.compliance.look import Look, Revision
from noria.compliance.measures.base import NOTHING_LIVE, Measured, each, measure, unmeasurable
from noria.compliance.measures.validation import dated
from noria.compliance.model import DAY_MS, Item

NO_ENDPOINT = "this system has no endpoint that gets traffic"
RESULTS_NAMED = 3


@measure("DEP-1")
def approved(look: Look) -> Measured:
    return each([_approved(look, r) for r in look.live], none=NO_ENDPOINT, good="every change of production was approved")


def _approved(look: Look, revision: Revision) -> Item:
    needed = max(int(look.limit("approvals")), look.spec.approvals)
    evidence = [
        e.at_ms for e in look.evaluations_ever.get(revision.model_version_id, []) if e.at_ms <= revision.created_at_ms
    ]  # what was known when it was deployed
    since = max(evidence, default=0)
    given = [v for v in look.votes.get(revision.digest, []) if v.at_ms <= revision.created_at_ms]
    good = {
        v.actor
        for v in given
        if v.decision == "approve" and v.at_ms >= since and v.principal_id not in v.authors and v.actor not in v.authors
    }
    is_override = any(v.is_emergency for v in given)
    on = f"{revision.model}@{revision.model_version} on {revision.endpoint}"
    why = (
        "" if len(good) >= needed
        else "got through by an emergency override" if is_override
        else "was approved before its last evaluation" if len({v.actor for v in given if v.decision == "approve"}) >= needed
        else f"had {len(good)} of {needed} approvals when it was deployed"
    )  # fmt: skip
    values = {
        "revision": revision.id, "digest": revision.digest, "deployed_at_ms": revision.created_at_ms, "evidence_at_ms": since or None,
        "approvers": sorted(good), "approvals": sorted({v.approval_id for v in given}), "needed": needed,
    }  # fmt: skip
    says = f"{on} {why or 'was approved by ' + ', '.join(sorted(good))}"
    return Item(subject=f"revision:{revision.id}", ok=not why, says=says, values=values)


@measure("DEP-2")
def serves_what_was_approved(look: Look) -> Measured:
    rows = look.tx.rows(
        """select revision_id, node, seat, digest, at_ms from replica where state = 'ready' and revision_id in :ids
            order by revision_id, node, seat limit 10000""",
        ids=[r.id for r in look.live],
    )
    items = []
    for revision in look.live:
        mine = [r for r in rows if r["revision_id"] == revision.id]
        on = f"{revision.model}@{revision.model_version} on {revision.endpoint}"
        wrong = [r for r in mine if r["digest"] != revision.digest]
        is_approved = bool(look.votes.get(revision.digest))
        says = f"{on}: " + (
            "no worker reports that it is ready" if not mine else f"a worker on {wrong[0]['node']} has other bytes" if wrong
            else f"{len(mine)} workers checked what they loaded, " + ("which was approved" if is_approved else "which nobody approved")
        )  # fmt: skip
        ok = None if not mine else not wrong and is_approved
        values = {"digest": revision.digest, "workers": [[r["node"], r["seat"], r["digest"]] for r in mine[:20]]}
        items.append(Item(subject=f"revision:{revision.id}", ok=ok, says=says, values=values))
    return each(items, none=NO_ENDPOINT, good="every worker serves the bytes that were approved")


@measure("DEP-3")
def way_back(look: Look) -> Measured:
    since = look.days_ago_ms("loaded_days")
    items = []
    for endpoint in (e for e in look.endpoints if any(r.endpoint == e.name for r in look.live)):
        live = {r.id for r in look.live}
        earlier = [r for r in look.revisions_of(endpoint.name) if r.id not in live and r.state in ("ready", "retired")]
        loaded = [
            (r, ready[0]["at_ms"]) for r in earlier
            if (ready := look.facts("revision.ready", subject=f"revision:{r.id}", since_ms=since, limit=1))
        ]  # fmt: skip
        says = f"{endpoint.name} " + (
            f"can go back to {loaded[0][0].model}@{loaded[0][0].model_version}, which was loaded lately" if loaded
            else "has an earlier revision, but none was loaded lately" if earlier else "has nothing to go back to"
        )  # fmt: skip
        values = {"revisions": [[r.id, at] for r, at in loaded[:RESULTS_NAMED]]}
        items.append(Item(subject=f"endpoint:{endpoint.name}", ok=bool(loaded), says=says, values=values))
    if not items:
        return Measured(state="not_applicable", reason=NO_ENDPOINT)
    stop = dated(look, "stop_test", "a test of the stop", look.limit("stop_days"))
    if not stop.items:
        items.append(Item(subject=str(look.system.ref) if look.system else "", ok=False, says=stop.reason))
    return each([*items, *stop.items], none="", good="there is a way back, and the stop was tried")


@measure("SEC-1")
def scanned(look: Look) -> Measured:
    rows = look.tx.rows(
        "select digest, status, formats, rules, accepted_by, accepted_reason, at_ms from model_scan where digest in :digests",
        digests=[v.digest for v in look.versions],
    )
    found = {r["digest"]: r for r in rows}
    items = []
    for version in look.versions:
        scan = found.get(version.digest)
        if scan is None or not scan["rules"]:
            items.append(Item(subject=version.ref, ok=None, says=f"{version.label} is not looked through yet"))
            continue
        is_accepted = bool(scan["accepted_by"])
        says = f"the scan of {version.label} is {scan['status']}" + (
            f", accepted by {scan['accepted_by']}" if is_accepted else ""
        )
        values = {
            "digest": version.digest,
            "status": scan["status"],
            "rules": scan["rules"],
            "accepted_by": scan["accepted_by"],
        }
        items.append(Item(subject=version.ref, ok=scan["status"] == "clean" or is_accepted, says=says, values=values))
    return each(items, none=NOTHING_LIVE, good="the files of every version were looked through")


@measure("SEC-2")
def vulnerabilities(look: Look) -> Measured:
    """Noria asks no database of vulnerabilities: what a scanner said is attached as a report."""
    if not look.versions:
        return Measured(state="not_applicable", reason=NOTHING_LIVE)
    found = [r for r in look.reports if r.kind == "vulnerabilities"]
    if not found:
        return unmeasurable(
            "Noria asks no database of vulnerabilities; attach what a scanner said: noria system report --kind vulnerabilities"
        )
    newest, age = found[0], (look.now_ms - found[0].dated_at_ms) / DAY_MS
    critical = int(newest.numbers.get("critical", 0))
    says = f"{newest.title}: {critical} critical, {age:.0f} days old"
    ok = None if age > look.limit("report_days") else critical == 0
    values = {
        "report": newest.id,
        "uri": newest.uri,
        "digest": newest.digest,
        "numbers": newest.numbers,
        "dated_at_ms": newest.dated_at_ms,
    }
    return each([Item(subject=f"system:{newest.system}", ok=ok, says=says, values=values)], none="", good=says)


@measure("TPM-1")
def base_models(look: Look) -> Measured:
    items = []
    for version in look.versions:
        tags = look.tags(version)
        base, licence, digest = (tags.get(k, "").strip() for k in ("base_model", "base_model.licence", "base_model.digest"))
        missing = [name for name, value in (("licence", licence), ("digest", digest)) if not value]
        is_none = base.lower() == "none"
        says = f"{version.label} " + (
            "does not say whether it rests on another model (tag base_model, 'none' if not)" if not base
            else "rests on no other model" if is_none
            else f"rests on {base}, without its {' and '.join(missing)}" if missing else f"rests on {base} ({licence})"
        )  # fmt: skip
        values = {"base_model": base, "licence": licence, "digest": digest}
        items.append(Item(subject=version.ref, ok=bool(base) and (is_none or not missing), says=says[:500], values=values))
    return each(items, none=NOTHING_LIVE, good="it is said of every version what it rests on")
