"""INV: is what runs known, and does somebody own it?"""

from __future__ import annotations

from noria.compliance import store
from noria.compliance.look import Look
from noria.compliance.measures.base import NOTHING_LIVE, Measured, each, measure
from noria.compliance.model import DAY_MS, Item, System
from noria.kernel.ids import DEFAULT_WORKSPACE


def lacks(system: System) -> list[str]:
    """What has not been said of a system that has to be."""
    spec = system.spec
    said = {"owner": spec.owner, "intended purpose": spec.purpose.strip(), "risk class": spec.risk != "unclassified"}
    return [name for name, value in said.items() if not value]


@measure("INV-1")
def registered(look: Look) -> Measured:
    systems = [s for s in store.systems(look.tx, DEFAULT_WORKSPACE) if not s.is_retired]
    items = []
    for endpoint in look.endpoints:
        for revision in (r for r in look.live if r.endpoint == endpoint.name):
            mine = [s for s in systems if {f"endpoint:{endpoint.name}", f"model:{revision.model}"} & set(s.spec.members)]
            missing = [f"{s.name} lacks {', '.join(lacks(s))}" for s in mine if lacks(s)]
            on = f"{revision.model}@{revision.model_version} on {endpoint.name}"
            items.append(Item(
                subject=f"endpoint:{endpoint.name}", ok=bool(mine) and not missing,
                says=f"{on} belongs to {', '.join(s.name for s in mine)}" if mine and not missing
                else f"{on} belongs to a system that is not whole: {'; '.join(missing)}" if mine
                else f"{on} belongs to no system",
                values={"model_version": revision.model_version_id, "systems": [f"{s.name}#{s.edit}" for s in mine]},
            ))  # fmt: skip
    return each(items, none="nothing is deployed", good="every deployed version belongs to a system that is described")


@measure("INV-2")
def owned(look: Look) -> Measured:
    assert look.system is not None
    owner = look.spec.owner
    if not owner:
        return Measured(
            state="fail",
            reason="no owner is named",
            items=[Item(subject=str(look.system.ref), ok=False, says="no owner is named")],
        )
    row = look.tx.rows("select id, name, is_active from principal where name = :name", name=owner)
    if not row:
        has_accounts = bool(look.tx.scalar("select 1 from principal where kind = 'user' limit 1"))
        says = (
            f"there is no account {owner!r}" if has_accounts else "there are no accounts yet, so no owner can be looked up"
        )
        return each([Item(subject=str(look.system.ref), ok=False if has_accounts else None, says=says)], none="", good="")
    ended = look.facts("principal.disabled", subject=f"principal:{row[0]['id']}", limit=1)
    since = ended[0]["at_ms"] if ended else 0
    is_long = not row[0]["is_active"] and look.now_ms - since > look.limit("inactive_days") * DAY_MS
    says = (
        f"{owner} is active"
        if row[0]["is_active"]
        else f"{owner} was disabled" + (" for too long" if is_long else " lately")
    )
    item = Item(
        subject=f"user:{row[0]['id']}", ok=not is_long, says=says,
        values={"is_active": bool(row[0]["is_active"]), "disabled_at_ms": since or None},
    )  # fmt: skip
    return each([item], none="", good=says)


@measure("INV-3")
def no_unapproved_traffic(look: Look) -> Measured:
    counts = look.tx.rows(
        """select revision_id, sum(requests) as requests from traffic where step_at_ms >= :since and endpoint in :names
            group by revision_id order by revision_id limit 10000""",
        since=look.days_ago_ms(), names=[e.name for e in look.endpoints],
    )  # fmt: skip
    asked = {r["revision_id"]: int(r["requests"]) for r in counts if int(r["requests"]) > 0}
    items = []
    for revision in (r for r in look.live if r.id in asked):
        votes = look.votes.get(revision.digest, [])
        items.append(Item(
            subject=f"endpoint:{revision.endpoint}", ok=bool(votes),
            says=f"{revision.endpoint} answered {asked[revision.id]} requests with {revision.model}@{revision.model_version}, "
            + ("which was approved" if votes else "which nobody approved"),
            values={
                "revision": revision.id, "digest": revision.digest, "requests": asked[revision.id],
                "approvals": sorted({v.approval_id for v in votes}),
            },
        ))  # fmt: skip
    none = "no endpoint answered requests lately" if look.endpoints else NOTHING_LIVE
    return each(items, none=none, good="everything that answered was approved")
