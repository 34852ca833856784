"""The rows of approvals and votes."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from noria.governance.approval_model import Approval, Vote
from noria.kernel.db import Read, Write, js
from noria.kernel.naming import Noun, findable

findable(
    Noun(
        kind="approval", action="approval.read",
        query="""select subject as scope, 'approval:' || id as ref, action || ' of ' || subject as label,
                        state || ', asked by ' || requested_by || ' ' || comment as detail, created_at_ms as at_ms
                   from approval where workspace = :workspace""",
    )
)  # fmt: skip

_APPROVAL = """id, subject, action, digest, evidence, required, roles, state, requested_by, authors, comment, created_at_ms,
               expires_at_ms, closed_at_ms, is_emergency, teams, reviewed_by, review, reviewed_at_ms"""


class VoteRow(Struct, frozen=True, kw_only=True):
    """A vote with the approval it belongs to."""

    approval_id: str
    principal_id: str
    actor: str
    decision: Literal["approve", "reject", "override"]
    comment: str
    at_ms: int
    roles: list[str]
    teams: list[str]


def add_approval(tx: Write, workspace: str, approval: Approval) -> bool:
    """False when the same question is pending already."""
    added = tx.run(
        f"""insert into approval ({_APPROVAL}, workspace)
            values (:id, :subject, :action, :digest, :evidence, :required, :roles, :state, :requested_by, :authors, :comment,
                    :created, :expires, null, :is_emergency, :teams, '', '', null, :workspace)
            on conflict do nothing""",
        id=approval.id, subject=approval.subject, action=approval.action, digest=approval.digest,
        evidence=js(approval.evidence), required=approval.required, roles=js(approval.roles), state=approval.state,
        requested_by=approval.requested_by, authors=js(approval.authors), comment=approval.comment,
        teams=js(approval.teams), created=approval.created_at_ms, expires=approval.expires_at_ms, is_emergency=approval.is_emergency,
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


def add_vote(tx: Write, approval_id: str, vote: Vote, *, replace: bool = False) -> bool:
    """False when this principal has voted already; with `replace`, this vote takes the place of that one."""
    otherwise = (
        """update set decision = excluded.decision, comment = excluded.comment, roles = excluded.roles,
                      teams = excluded.teams, at_ms = excluded.at_ms"""
        if replace
        else "nothing"
    )
    added = tx.run(
        f"""insert into approval_vote (approval_id, principal_id, actor, decision, comment, roles, teams, at_ms)
           values (:id, :principal_id, :actor, :decision, :comment, :roles, :teams, :at_ms)
           on conflict (approval_id, principal_id) do {otherwise}""",
        id=approval_id, principal_id=vote.principal_id, actor=vote.actor, decision=vote.decision, comment=vote.comment,
        roles=js(vote.roles), teams=js(vote.teams), at_ms=vote.at_ms,
    )  # fmt: skip
    return added == 1


def _with_votes(tx: Read, found: list[Approval]) -> list[Approval]:
    if not found:
        return []
    rows = tx.all(
        VoteRow,
        """select approval_id, principal_id, actor, decision, comment, at_ms, roles, teams from approval_vote
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
                teams=r.teams,
            )
        )
    return [replace(a, votes=votes.get(a.id, [])) for a in found]


def set_review(tx: Write, approval_id: str, *, by: str, finding: str, at_ms: int) -> bool:
    """False when somebody was faster."""
    changed = tx.run(
        """update approval set reviewed_by = :by, review = :finding, reviewed_at_ms = :at_ms
            where id = :id and is_emergency and reviewed_at_ms is null""",
        id=approval_id, by=by, finding=finding, at_ms=at_ms,
    )  # fmt: skip
    return changed == 1


def unreviewed(tx: Read, workspace: str, since_ms: int) -> list[Approval]:
    """Emergency overrides since then that nobody looked at, newest first."""
    found = tx.all(
        Approval,
        f"""select {_APPROVAL} from approval
             where workspace = :workspace and is_emergency and reviewed_at_ms is null and closed_at_ms >= :since
             order by id desc limit 50""",
        workspace=workspace, since=since_ms,
    )  # fmt: skip
    return _with_votes(tx, found)
