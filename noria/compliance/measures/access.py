"""ACC: who has access that nobody uses, and when it was last looked through."""

from __future__ import annotations

from noria.compliance.look import Look
from noria.compliance.measures.base import Measured, each, measure
from noria.compliance.model import DAY_MS, Item

ACCOUNTS_MAX = 5_000


@measure("ACC-1")
def used(look: Look) -> Measured:
    since = look.days_ago_ms()
    rows = look.tx.rows(
        """select p.id, p.kind, p.name, p.created_at_ms,
                  (select max(seen_at_ms) from session s where s.principal_id = p.id) as seen_ms,
                  (select max(last_used_at_ms) from token t where t.principal_id = p.id) as used_ms
             from principal p where p.is_active and p.kind in ('user', 'service') order by p.name limit :limit""",
        limit=ACCOUNTS_MAX,
    )
    if not rows:
        return Measured(
            state="not_applicable", reason="there are no accounts: everybody on this machine is its administrator"
        )
    items = []
    for row in rows:
        acted = look.tx.scalar(
            "select at_ms from event where actor = :actor order by seq desc limit 1", actor=f"{row['kind']}:{row['name']}"
        )
        last = max(int(v or 0) for v in (row["created_at_ms"], row["seen_ms"], row["used_ms"], acted))
        says = f"{row['name']} was last seen {(look.now_ms - last) // DAY_MS} days ago"
        items.append(Item(subject=f"{row['kind']}:{row['id']}", ok=last >= since, says=says, values={"last_ms": last}))
    tokens = look.tx.rows(
        """select t.id, t.name, p.name as owner, t.created_at_ms, t.expires_at_ms, t.last_used_at_ms
             from token t join principal p on p.id = t.principal_id
            where p.is_active and (t.expires_at_ms is null or t.expires_at_ms > :now) order by t.id limit :limit""",
        now=look.now_ms, limit=ACCOUNTS_MAX,
    )  # fmt: skip
    for row in tokens:
        last = max(int(row["created_at_ms"]), int(row["last_used_at_ms"] or 0))
        why = (
            "never ends"
            if row["expires_at_ms"] is None
            else f"was not used for {(look.now_ms - last) // DAY_MS} days"
            if last < since
            else ""
        )
        says = f"the token {row['name']!r} of {row['owner']} {why or 'ends and is used'}"
        values = {"expires_at_ms": row["expires_at_ms"], "last_ms": last}
        items.append(Item(subject=f"token:{row['id']}", ok=not why, says=says, values=values))
    return each(items, none="", good="every account and token is used, and every token ends")


@measure("ACC-2")
def reviewed(look: Look) -> Measured:
    rows = look.tx.rows(
        """select r.id, r.title, r.closed_at_ms,
                  (select count(*) from access_review_item i where i.review_id = r.id) as items
             from access_review r where r.closed_at_ms is not null order by r.closed_at_ms desc limit 1"""
    )
    if not rows:
        if not look.tx.scalar("select 1 from principal where kind = 'user' limit 1"):
            return Measured(state="not_applicable", reason="there are no accounts, so there is no access to review")
        return Measured(state="fail", reason="who may do what was never reviewed: noria access review start")
    row = rows[0]
    says = (
        f"{row['items']} grants were reviewed in {row['title']!r}, {(look.now_ms - row['closed_at_ms']) // DAY_MS} days ago"
    )
    ok = row["closed_at_ms"] >= look.days_ago_ms()
    return each([Item(subject=f"access_review:{row['id']}", ok=ok, says=says, values=dict(row))], none="", good=says)
