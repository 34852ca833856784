"""The rows of policies: rules, verdicts, and the evidence they were about."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from noria.governance.policy_model import JudgedVerdict, Policy
from noria.kernel.db import Read, Write, js
from noria.kernel.naming import Noun, findable

findable(
    Noun(
        kind="policy", action="policy.read",
        query="""select '' as scope, 'policy:' || name as ref, name as label, action || ' ' || message as detail,
                        updated_at_ms as at_ms
                   from policy where workspace = :workspace""",
    )
)  # fmt: skip

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
