"""The rows of governance."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from noria.governance.model import (
    Approval,
    Checkpoint,
    Delivery,
    JudgedVerdict,
    Policy,
    Vote,
    Webhook,
)
from noria.kernel.db import Read, Write, js
from noria.kernel.events import Event

NODES_PER_READ = 500  # below the bound-parameter limit of either database

# --- audit ------------------------------------------------------------------------------------------------------------

_EVENT = "seq, at_ms, kind, subject, actor, op_id, cause, workspace, data"


def raw_events(tx: Read, after: int, *, upto: int | None = None, limit: int) -> list[dict[str, Any]]:
    """Facts as they are stored: `data` is the text in the row, which is what the leaf commits to."""
    bound = "and seq <= :upto" if upto is not None else ""
    args = {"upto": upto} if upto is not None else {}
    return tx.rows(f"select {_EVENT} from event where seq > :after {bound} order by seq limit :limit",
                   after=after, limit=limit, **args)  # fmt: skip


def facts_count(tx: Read) -> tuple[int, int]:
    """How many facts there are and the number of the last: the same, unless something was removed."""
    row = tx.rows("select count(*) as n, coalesce(max(seq), 0) as last from event")[0]
    return int(row["n"]), int(row["last"])


def facts(
    tx: Read, *, before: int | None, limit: int, kinds: list[str], prefixes: list[str], subject: str, actor: str,
    from_ms: int | None, to_ms: int | None,
) -> list[Event]:  # fmt: skip
    """Facts, newest first, narrowed."""
    where, args = ["1 = 1"], dict[str, Any]()
    kind_clauses = ["kind in :kinds"] if kinds else []
    for i, prefix in enumerate(prefixes):  # a range, not `like`: the index serves it and nothing needs escaping
        kind_clauses.append(f"(kind >= :low{i} and kind < :high{i})")
        args |= {f"low{i}": prefix, f"high{i}": prefix + "\U0010ffff"}
    if kind_clauses:
        where.append("(" + " or ".join(kind_clauses) + ")")
    for clause, name, value in (
        ("kind in :kinds", "kinds", kinds), ("seq < :before", "before", before), ("subject = :subject", "subject", subject),
        ("actor = :actor", "actor", actor), ("at_ms >= :from_ms", "from_ms", from_ms), ("at_ms < :to_ms", "to_ms", to_ms),
    ):  # fmt: skip
        if value is not None and value not in ("", []):
            args[name] = value
            if name != "kinds":
                where.append(clause)
    return tx.all(
        Event, f"select {_EVENT} from event where {' and '.join(where)} order by seq desc limit :limit", limit=limit, **args
    )


def tree_size(tx: Read) -> int:
    return int(tx.scalar("select size from audit_tree where id = 1") or 0)


def set_tree_size(tx: Write, was: int, now: int) -> bool:
    """Compare and set; False when another sealer was faster."""
    if was == 0:
        return tx.run("insert into audit_tree (id, size) values (1, :now) on conflict (id) do nothing", now=now) == 1
    return tx.run("update audit_tree set size = :now where id = 1 and size = :was", now=now, was=was) == 1


def nodes(tx: Read, positions: list[int]) -> dict[int, bytes]:
    """The hashes at these positions."""
    found: dict[int, bytes] = {}
    for at in range(0, len(positions), NODES_PER_READ):
        rows = tx.rows("select pos, hash from audit_node where pos in :positions",
                       positions=positions[at : at + NODES_PER_READ])  # fmt: skip
        found |= {int(r["pos"]): bytes.fromhex(r["hash"]) for r in rows}
    return found


def leaves(tx: Read, first: int, *, limit: int) -> list[tuple[int, bytes]]:
    """(index, hash) of sealed leaves from index `first` on: the even positions."""
    rows = tx.rows(
        "select pos, hash from audit_node where pos >= :first and pos % 2 = 0 order by pos limit :limit",
        first=2 * first, limit=limit,
    )  # fmt: skip
    return [(int(r["pos"]) // 2, bytes.fromhex(r["hash"])) for r in rows]


def add_nodes(tx: Write, made: list[dict[str, Any]]) -> None:
    tx.many("insert into audit_node (pos, hash) values (:pos, :hash)", made)


_CHECKPOINT = "size, root, at_ms, origin, note"


def add_checkpoint(tx: Write, checkpoint: Checkpoint) -> None:
    tx.run(
        f"""insert into checkpoint ({_CHECKPOINT}) values (:size, :root, :at_ms, :origin, :note)
            on conflict (size) do nothing""",
        size=checkpoint.size, root=checkpoint.root, at_ms=checkpoint.at_ms, origin=checkpoint.origin, note=checkpoint.note,
    )  # fmt: skip


def checkpoints(tx: Read, *, before: int | None = None, limit: int) -> list[Checkpoint]:
    """Newest first."""
    where = "where size < :before" if before is not None else ""
    args = {"before": before} if before is not None else {}
    return tx.all(
        Checkpoint, f"select {_CHECKPOINT} from checkpoint {where} order by size desc limit :limit", limit=limit, **args
    )


def checkpoint_at(tx: Read, size: int) -> Checkpoint | None:
    """The smallest checkpoint that covers `size` facts."""
    return tx.one(Checkpoint, f"select {_CHECKPOINT} from checkpoint where size >= :size order by size limit 1", size=size)


# --- policies ---------------------------------------------------------------------------------------------------------

_POLICY = "name, version, action, conditions, match, mode, enabled, message, created_at_ms, updated_at_ms, actor"


def policies(tx: Read, workspace: str) -> list[Policy]:
    return tx.all(
        Policy, f"select {_POLICY} from policy where workspace = :workspace order by name limit 1000", workspace=workspace
    )


def policies_for(tx: Read, workspace: str, action: str) -> list[Policy]:
    """The enabled policies that guard `action`."""
    return tx.all(
        Policy,
        f"""select {_POLICY} from policy
             where workspace = :workspace and action = :action and enabled order by name limit 1000""",
        workspace=workspace, action=action,
    )  # fmt: skip


def policies_count(tx: Read) -> int:
    return int(tx.scalar("select count(*) from policy"))


def policy(tx: Read, workspace: str, name: str) -> Policy | None:
    return tx.one(
        Policy, f"select {_POLICY} from policy where workspace = :workspace and name = :name", workspace=workspace, name=name
    )


def save_policy(tx: Write, workspace: str, policy: Policy) -> None:
    tx.run(
        f"""insert into policy ({_POLICY}, workspace)
            values (:name, :version, :action, :conditions, :match, :mode, :enabled, :message, :created, :updated, :actor,
                    :workspace)
            on conflict (name) do update set
                version = excluded.version, action = excluded.action, conditions = excluded.conditions,
                match = excluded.match,
                mode = excluded.mode, enabled = excluded.enabled, message = excluded.message,
                updated_at_ms = excluded.updated_at_ms, actor = excluded.actor""",
        name=policy.name, version=policy.version, action=policy.action, conditions=js(policy.conditions),
        match=js(policy.match), mode=policy.mode, enabled=policy.enabled, message=policy.message,
        created=policy.created_at_ms, updated=policy.updated_at_ms, actor=policy.actor, workspace=workspace,
    )  # fmt: skip


def delete_policy(tx: Write, workspace: str, name: str) -> None:
    tx.run("delete from policy where workspace = :workspace and name = :name", workspace=workspace, name=name)


_VERDICT = "id, at_ms, op_id, actor, action, subject, policy, policy_version, allowed, mode, reason, evidence_digest"


def add_verdicts(tx: Write, workspace: str, judged: list[JudgedVerdict]) -> None:
    tx.many(
        f"""insert into verdict ({_VERDICT}, workspace)
            values (:id, :at_ms, :op_id, :actor, :action, :subject, :policy, :policy_version, :allowed, :mode, :reason,
                    :evidence_digest, :workspace)""",
        [{field: getattr(v, field) for field in v.__struct_fields__} | {"workspace": workspace} for v in judged],
    )


def keep_evidence(tx: Write, digest: str, evidence: bytes, *, at_ms: int) -> None:
    tx.run(
        """insert into judged_evidence (digest, evidence, at_ms) values (:digest, :evidence, :at_ms)
           on conflict (digest) do nothing""",
        digest=digest, evidence=evidence.decode(), at_ms=at_ms,
    )  # fmt: skip


class Decided(Struct, frozen=True, kw_only=True):
    """One past decision: what was shown, and what all rules together said."""

    subject: str
    actor: str
    at_ms: int
    was_allowed: int
    evidence: dict[str, Any]


def decided(tx: Read, workspace: str, action: str, *, limit: int) -> list[Decided]:
    """Past decisions about `action` whose evidence was kept, newest first."""
    return tx.all(
        Decided,
        """select v.subject, v.actor, v.at_ms, v.was_allowed, e.evidence
             from (select op_id, subject, actor, evidence_digest, max(at_ms) as at_ms,
                          min(case when allowed or mode = 'warn' then 1 else 0 end) as was_allowed
                     from verdict where workspace = :workspace and action = :action
                    group by op_id, subject, actor, evidence_digest) v
             join judged_evidence e on e.digest = v.evidence_digest
            order by v.at_ms desc, v.op_id desc limit :limit""",
        workspace=workspace, action=action, limit=limit,
    )  # fmt: skip


def granted_then(tx: Read, workspace: str, digest: str, at_ms: int) -> list[Approval]:
    """Approvals of these bytes that counted at a time in the past."""
    found = tx.all(
        Approval,
        f"""select {_APPROVAL} from approval
             where workspace = :workspace and digest = :digest and state in ('granted', 'expired')
               and created_at_ms <= :at_ms and expires_at_ms > :at_ms
             order by id desc limit 100""",
        workspace=workspace, digest=digest, at_ms=at_ms,
    )  # fmt: skip
    return [a for a in _with_votes(tx, found) if a.votes and max(v.at_ms for v in a.votes) <= at_ms and _was_granted(a)]


def _was_granted(approval: Approval) -> bool:
    return approval.is_emergency or sum(v.decision == "approve" for v in approval.votes) >= approval.required


def verdicts(tx: Read, workspace: str, *, subject: str, policy: str, before: str | None, limit: int) -> list[JudgedVerdict]:
    """Newest first."""
    where, args = ["workspace = :workspace"], {"workspace": workspace, "limit": limit}
    for clause, name, value in (
        ("subject = :subject", "subject", subject), ("policy = :policy", "policy", policy),
        ("id < :before", "before", before),
    ):  # fmt: skip
        if value:
            where.append(clause)
            args[name] = value
    return tx.all(
        JudgedVerdict, f"select {_VERDICT} from verdict where {' and '.join(where)} order by id desc limit :limit", **args
    )


# --- approvals --------------------------------------------------------------------------------------------------------

_APPROVAL = """id, subject, action, digest, evidence, required, roles, state, requested_by, authors, comment, created_at_ms,
               expires_at_ms, closed_at_ms, is_emergency"""


class VoteRow(Struct, frozen=True, kw_only=True):
    """A vote with the approval it belongs to."""

    approval_id: str
    principal_id: str
    actor: str
    decision: Literal["approve", "reject", "override"]
    comment: str
    at_ms: int
    roles: list[str]


def add_approval(tx: Write, workspace: str, approval: Approval) -> bool:
    """False when the same question is pending already."""
    added = tx.run(
        f"""insert into approval ({_APPROVAL}, workspace)
            values (:id, :subject, :action, :digest, :evidence, :required, :roles, :state, :requested_by, :authors, :comment,
                    :created, :expires, null, :is_emergency, :workspace)
            on conflict do nothing""",
        id=approval.id, subject=approval.subject, action=approval.action, digest=approval.digest,
        evidence=js(approval.evidence), required=approval.required, roles=js(approval.roles), state=approval.state,
        requested_by=approval.requested_by, authors=js(approval.authors), comment=approval.comment,
        created=approval.created_at_ms, expires=approval.expires_at_ms, is_emergency=approval.is_emergency,
        workspace=workspace,
    )  # fmt: skip
    return added == 1


def approval(tx: Read, workspace: str, approval_id: str) -> Approval | None:
    found = tx.all(
        Approval,
        f"select {_APPROVAL} from approval where workspace = :workspace and id = :id",
        workspace=workspace,
        id=approval_id,
    )
    return _with_votes(tx, found)[0] if found else None


def pending(tx: Read, workspace: str, subject: str, action: str, digest: str) -> Approval | None:
    found = tx.all(
        Approval,
        f"""select {_APPROVAL} from approval
             where workspace = :workspace and subject = :subject and action = :action and digest = :digest
               and state = 'pending'""",
        workspace=workspace, subject=subject, action=action, digest=digest,
    )  # fmt: skip
    return _with_votes(tx, found)[0] if found else None


def granted(tx: Read, workspace: str, digest: str, now_ms: int) -> list[Approval]:
    """Approvals of these bytes that count now."""
    found = tx.all(
        Approval,
        f"""select {_APPROVAL} from approval
             where workspace = :workspace and digest = :digest and state = 'granted' and expires_at_ms > :now
             order by id desc limit 100""",
        workspace=workspace, digest=digest, now=now_ms,
    )  # fmt: skip
    return _with_votes(tx, found)


def approvals(
    tx: Read, workspace: str, *, state: str, subject: str, scopes: list[str] | None, before: str | None, limit: int
) -> list[Approval]:
    """Newest first; of `scopes` only, unless None."""
    where, args = ["workspace = :workspace"], dict[str, Any](workspace=workspace, limit=limit)
    for clause, name, value in (
        ("state = :state", "state", state), ("subject = :subject", "subject", subject), ("id < :before", "before", before),
    ):  # fmt: skip
        if value:
            where.append(clause)
            args[name] = value
    if scopes is not None:
        where.append("subject in :scopes")
        args["scopes"] = scopes
    found = tx.all(
        Approval, f"select {_APPROVAL} from approval where {' and '.join(where)} order by id desc limit :limit", **args
    )
    return _with_votes(tx, found)


def due(tx: Read, now_ms: int, *, limit: int) -> list[tuple[str, str]]:
    """(workspace, id) of what is past its time."""
    rows = tx.rows(
        """select workspace, id from approval
            where state in ('pending', 'granted') and expires_at_ms <= :now order by expires_at_ms limit :limit""",
        now=now_ms, limit=limit,
    )  # fmt: skip
    return [(r["workspace"], r["id"]) for r in rows]


def close_approval(
    tx: Write, approval_id: str, *, was: str, state: str, at_ms: int, expires_at_ms: int, is_emergency: bool = False
) -> bool:
    """Compare and set the state; False when somebody was faster."""
    return (
        tx.run(
            """update approval set state = :state, closed_at_ms = :at_ms, expires_at_ms = :expires, is_emergency = :emergency
                where id = :id and state = :was""",
            id=approval_id, was=was, state=state, at_ms=at_ms, expires=expires_at_ms, emergency=is_emergency,
        )
        == 1
    )  # fmt: skip


def hold_approval(tx: Write, approval_id: str) -> None:
    """Lock the row, so that two votes at once are counted one after the other (PostgreSQL; SQLite has one writer)."""
    tx.run("update approval set state = state where id = :id", id=approval_id)


def add_vote(tx: Write, approval_id: str, vote: Vote) -> bool:
    """False when this principal has voted already."""
    added = tx.run(
        """insert into approval_vote (approval_id, principal_id, actor, decision, comment, roles, at_ms)
           values (:id, :principal_id, :actor, :decision, :comment, :roles, :at_ms)
           on conflict (approval_id, principal_id) do nothing""",
        id=approval_id, principal_id=vote.principal_id, actor=vote.actor, decision=vote.decision, comment=vote.comment,
        roles=js(vote.roles), at_ms=vote.at_ms,
    )  # fmt: skip
    return added == 1


def _with_votes(tx: Read, found: list[Approval]) -> list[Approval]:
    if not found:
        return []
    rows = tx.all(
        VoteRow,
        """select approval_id, principal_id, actor, decision, comment, at_ms, roles from approval_vote
            where approval_id in :ids order by at_ms, principal_id limit 10000""",
        ids=[a.id for a in found],
    )
    votes: dict[str, list[Vote]] = {}
    for r in rows:
        votes.setdefault(r.approval_id, []).append(
            Vote(
                principal_id=r.principal_id,
                actor=r.actor,
                decision=r.decision,
                comment=r.comment,
                at_ms=r.at_ms,
                roles=r.roles,
            )
        )
    return [replace(a, votes=votes.get(a.id, [])) for a in found]


# --- webhooks ---------------------------------------------------------------------------------------------------------

_WEBHOOK = (
    "name, url, kinds, enabled, allow_private, created_at_ms, updated_at_ms, from_seq, format, id, description, events"
)


def webhooks(tx: Read, workspace: str) -> list[Webhook]:
    return tx.all(
        Webhook, f"select {_WEBHOOK} from webhook where workspace = :workspace order by name limit 1000", workspace=workspace
    )


def webhook(tx: Read, workspace: str, name: str) -> Webhook | None:
    return tx.one(
        Webhook,
        f"select {_WEBHOOK} from webhook where workspace = :workspace and name = :name",
        workspace=workspace,
        name=name,
    )


def webhook_secret(tx: Read, name: str) -> str:
    return str(tx.scalar("select secret from webhook where name = :name", name=name) or "")


def enabled_webhooks(tx: Read, workspace: str, seq: int) -> list[Webhook]:
    """Those that want facts from `seq` on."""
    return tx.all(
        Webhook,
        f"""select {_WEBHOOK} from webhook where workspace = :workspace and enabled and from_seq < :seq
             order by name limit 1000""",
        workspace=workspace, seq=seq,
    )  # fmt: skip


def patterns_wanted(tx: Read) -> list[str]:
    """The kinds that webhooks want, of every workspace."""
    lists = tx.column("select kinds from webhook where enabled")
    return sorted({pattern for text in lists for pattern in msgspec.json.decode(text, type=list[str])})


def save_webhook(tx: Write, workspace: str, hook: Webhook, secret: str) -> None:
    tx.run(
        f"""insert into webhook ({_WEBHOOK}, secret, workspace)
            values (:name, :url, :kinds, :enabled, :allow_private, :created, :updated, :from_seq, :format, :id, :description,
                    :events, :secret, :workspace)
            on conflict (name) do update set
                url = excluded.url, kinds = excluded.kinds, enabled = excluded.enabled,
                allow_private = excluded.allow_private, description = excluded.description, events = excluded.events,
                updated_at_ms = excluded.updated_at_ms, secret = excluded.secret, from_seq = excluded.from_seq""",
        name=hook.name, url=hook.url, kinds=js(hook.kinds), enabled=hook.enabled, allow_private=hook.allow_private,
        created=hook.created_at_ms, updated=hook.updated_at_ms, from_seq=hook.from_seq, secret=secret, workspace=workspace,
        format=hook.format, id=hook.id, description=hook.description, events=js(hook.events),
    )  # fmt: skip


def rename_webhook(tx: Write, workspace: str, name: str, new_name: str) -> None:
    """Give a webhook another name; what was sent to it stays its own."""
    tx.run(
        "update webhook set name = :new_name where workspace = :workspace and name = :name",
        workspace=workspace, name=name, new_name=new_name,
    )  # fmt: skip
    tx.run("update delivery set webhook = :new_name where webhook = :name", name=name, new_name=new_name)


def delete_webhook(tx: Write, workspace: str, name: str) -> int:
    return tx.run("delete from webhook where workspace = :workspace and name = :name", workspace=workspace, name=name)


_DELIVERY = "id, webhook, seq, state, attempts, status, error, answer, created_at_ms, done_at_ms"


def add_delivery(tx: Write, delivery: Delivery) -> bool:
    """False when this fact was already queued for this webhook."""
    added = tx.run(
        f"""insert into delivery ({_DELIVERY})
            values (:id, :webhook, :seq, 'queued', 0, null, '', '', :at_ms, null)
            on conflict (webhook, seq) do nothing""",
        id=delivery.id, webhook=delivery.webhook, seq=delivery.seq, at_ms=delivery.created_at_ms,
    )  # fmt: skip
    return added == 1


def delivery(tx: Read, delivery_id: str) -> Delivery | None:
    return tx.one(Delivery, f"select {_DELIVERY} from delivery where id = :id", id=delivery_id)


def deliveries(tx: Read, webhook: str, *, before: str | None, limit: int) -> list[Delivery]:
    """Newest first."""
    where = "and id < :before" if before else ""
    args = {"before": before} if before else {}
    return tx.all(
        Delivery,
        f"select {_DELIVERY} from delivery where webhook = :webhook {where} order by id desc limit :limit",
        webhook=webhook, limit=limit, **args,
    )  # fmt: skip


def note_attempt(
    tx: Write, delivery_id: str, *, state: str, status: int | None, error: str, answer: str, done_at_ms: int | None
) -> None:
    tx.run(
        """update delivery set state = :state, attempts = attempts + 1, status = :status, error = :error, answer = :answer,
                               done_at_ms = :done
            where id = :id""",
        id=delivery_id, state=state, status=status, error=error, answer=answer, done=done_at_ms,
    )  # fmt: skip
