"""Who agreed to what: approvals bound to a digest, given by somebody else than the author.

    pending ──enough approve──▶ granted ──time──▶ expired
       │ ├─────one rejects────▶ rejected
       │ ├─────time───────────▶ expired
       │ └─────requester──────▶ withdrawn

Invariants: an approval counts only for the digest it was asked for; nobody votes who asked for it, for whom it was asked, or
who made the thing; one person has one vote; no state but `granted` ever counts, and that only until it expires.
An emergency override is granted by one administrator alone, with a reason, and is a fact of its own kind.
"""

from __future__ import annotations

import logging

from msgspec.structs import replace

from noria.access.policy import ACTIONS, ROLES
from noria.access.service import Access
from noria.governance import approval_store
from noria.governance.approval_model import (
    APPROVAL_DAYS,
    APPROVAL_DAYS_MAX,
    DAY_MS,
    OVERRIDE_REASON_LENGTH_MIN,
    Approval,
    ApprovalRequest,
    ApprovalState,
    Vote,
)
from noria.governance.conditions import APPROVERS_MAX, COMMENT_LENGTH_MAX, EVIDENCE_BYTES, author_names, evidence_bytes
from noria.kernel.db import Database, Write
from noria.kernel.errors import Conflict, Forbidden, Invalid, NotFound
from noria.kernel.ids import Ref, new_id
from noria.kernel.op import Actor, Op, Ops
from noria.kernel.paging import Page, check_limit, decode_token, encode_token

log = logging.getLogger("noria.approvals")

STATES: tuple[ApprovalState, ...] = ("pending", "granted", "rejected", "expired", "withdrawn")
EXPIRE_AT_ONCE = 100
SOUGHT_MAX = 500


class Approvals:
    """Who agreed to what. Also the reconciler that lets them expire."""

    name = "governance.approvals"
    every_s = 30.0
    wake_on: frozenset[str] = frozenset()

    def __init__(self, db: Database, ops: Ops, access: Access) -> None:
        self._db, self._ops, self._access = db, ops, access

    # --- asking -----------------------------------------------------------------------------------------------------

    def request(
        self,
        op: Op,
        subject: Ref,
        action: str,
        digest: str,
        evidence: dict[str, object] | None = None,
        required: int = 1,
        *,
        roles: list[str] | tuple[str, ...] = (),
        teams: list[str] | tuple[str, ...] = (),
        comment: str = "",
        expires_in_days: int = APPROVAL_DAYS,
    ) -> Approval:
        """Ask whether `action` may be done on `subject` with exactly the bytes `digest`.

        Asking the same again while it is pending gives the same approval back, so a replayed turn asks once.
        `roles`, `teams`: only people with one of these, in one of these groups, may answer.
        Raises Invalid, Forbidden, Conflict (somebody else asks the same).
        """
        op.require("approval.request", subject)
        _check_request(action, digest, evidence or {}, required, list(roles), comment, expires_in_days)
        self._access.check_teams(list(teams))
        approval = Approval(
            id=new_id(op.at_ms), subject=str(subject), action=action, digest=digest, evidence=dict(evidence or {}),
            required=required, roles=sorted(set(roles)), state="pending", requested_by=op.actor.label,
            authors=sorted(_names(op.actor) | _author_of(evidence or {})), comment=comment, created_at_ms=op.at_ms,
            expires_at_ms=op.at_ms + expires_in_days * DAY_MS, closed_at_ms=None, is_emergency=False,
            teams=sorted(set(teams)),
        )  # fmt: skip
        with self._db.write(op) as tx:
            found = approval_store.pending(tx, op.workspace, str(subject), action, digest)
            if found is not None and found.expires_at_ms <= op.at_ms:
                self._expire(tx, found, op.at_ms)
                found = None
            if found is None and approval_store.add_approval(tx, op.workspace, approval):
                tx.emit(
                    "approval.requested", Ref("approval", approval.id), about=str(subject), action=action, digest=digest,
                    required=required,
                )  # fmt: skip
                return approval
            found = found or approval_store.pending(tx, op.workspace, str(subject), action, digest)
        if found is not None and found.requested_by == op.actor.label:
            return found
        raise Conflict(
            f"An approval of {action} on {subject} is pending already.", ref=f"approval:{found.id}" if found else None,
            hint=f"It was requested by {found.requested_by}." if found else "Try again.",
        )  # fmt: skip

    def request_from(self, op: Op, asked: ApprovalRequest) -> Approval:
        """`request`, from what came over the wire."""
        return self.request(
            op, Ref.parse(asked.subject), asked.action, asked.digest, asked.evidence, asked.required, roles=asked.roles,
            teams=asked.teams, comment=asked.comment, expires_in_days=asked.expires_in_days,
        )  # fmt: skip

    def withdraw(self, op: Op, approval_id: str) -> Approval:
        """Take a question back. Raises NotFound, Conflict, Forbidden unless one asked it (or may administer)."""
        op.require("approval.request")
        with self._db.write(op) as tx:
            found = self._held(tx, op, approval_id)
            if not _names(op.actor) & set(found.authors) and not op.can("system.admin"):
                raise Forbidden("Only whoever asked can withdraw it.", ref=f"approval:{approval_id}")
            self._close(tx, found, "withdrawn", op.at_ms, found.expires_at_ms)
            tx.emit("approval.withdrawn", Ref("approval", found.id), about=found.subject, action=found.action)
        return self._read(op, approval_id)

    # --- answering --------------------------------------------------------------------------------------------------

    def approve(self, op: Op, approval_id: str, comment: str = "", *, digest: str = "") -> Approval:
        """Say yes. Granted once `required` different people have. Raises NotFound, Conflict, Forbidden (with the reason)."""
        with self._db.write(op) as tx:
            found = self._open_for_vote(tx, op, approval_id, digest)
            votes = self._vote(tx, op, found, "approve", comment)
            if votes >= found.required:
                until = op.at_ms + (found.expires_at_ms - found.created_at_ms)
                self._close(tx, found, "granted", op.at_ms, until)
                approvers = [v.actor for v in found.votes if v.decision == "approve"] + [op.actor.label]
                tx.emit(
                    "approval.granted", Ref("approval", found.id), about=found.subject, action=found.action,
                    digest=found.digest, approvers=approvers, expires_at_ms=until,
                )  # fmt: skip
        return self._read(op, approval_id)

    def reject(self, op: Op, approval_id: str, comment: str = "", *, digest: str = "") -> Approval:
        """Say no; that ends it. Raises NotFound, Conflict, Forbidden."""
        with self._db.write(op) as tx:
            found = self._open_for_vote(tx, op, approval_id, digest)
            self._vote(tx, op, found, "reject", comment)
            self._close(tx, found, "rejected", op.at_ms, found.expires_at_ms)
            tx.emit(
                "approval.rejected", Ref("approval", found.id), about=found.subject, action=found.action,
                digest=found.digest, reason=comment,
            )  # fmt: skip
        return self._read(op, approval_id)

    def override(self, op: Op, approval_id: str, reason: str) -> Approval:
        """Emergency: one administrator grants it alone, even one's own. Loud: a fact of its own kind, for ever.

        Raises Invalid without a reason, Forbidden, NotFound, Conflict.
        """
        op.require("system.admin")
        _check_person(op.actor)
        if len(reason.strip()) < OVERRIDE_REASON_LENGTH_MIN:
            raise Invalid(
                f"An override needs a reason of at least {OVERRIDE_REASON_LENGTH_MIN} characters.", where="comment",
                hint="Say what the emergency is and where it is tracked.",
            )  # fmt: skip
        with self._db.write(op) as tx:
            found = self._held(tx, op, approval_id)
            log.warning(
                "EMERGENCY: %s went past the approval of %s on %s: %s", op.actor.label, found.action, found.subject, reason
            )
            vote = Vote(principal_id=op.actor.id, actor=op.actor.label, decision="override", comment=reason, at_ms=op.at_ms)
            approval_store.add_vote(tx, found.id, vote, replace=True)  # an earlier vote of theirs is a fact already
            until = op.at_ms + (found.expires_at_ms - found.created_at_ms)
            self._close(tx, found, "granted", op.at_ms, until, is_emergency=True)
            about = {"about": found.subject, "action": found.action, "digest": found.digest}
            tx.emit("approval.overridden", Ref("approval", found.id), **about, reason=reason)
            tx.emit(
                "approval.granted", Ref("approval", found.id), **about, approvers=[op.actor.label], expires_at_ms=until,
            )  # fmt: skip
        return self._read(op, approval_id)

    def review(self, op: Op, approval_id: str, finding: str) -> Approval:
        """Look at an emergency override afterwards. Raises NotFound, Conflict, Forbidden to whoever did it or asked for it."""
        _check_comment(finding)
        if not finding.strip():
            raise Invalid("Say what was found.", where="finding")
        with self._db.write(op) as tx:
            found = approval_store.approval(tx, op.workspace, approval_id)
            if found is None or not op.can("approval.read", Ref.parse(found.subject)):
                raise NotFound(f"There is no approval {approval_id}.")
            op.require("approval.decide", Ref.parse(found.subject))
            _check_person(op.actor)
            did = {v.principal_id for v in found.votes if v.decision == "override"}
            if _names(op.actor) & (did | set(found.authors)):
                raise Forbidden("Whoever overrode it, or asked for it, cannot review that.", ref=f"approval:{approval_id}")
            if not found.is_emergency:
                raise Conflict("Only an emergency override is reviewed.", ref=f"approval:{approval_id}")
            if not approval_store.set_review(tx, found.id, by=op.actor.label, finding=finding, at_ms=op.at_ms):
                raise Conflict("It was reviewed already.", ref=f"approval:{approval_id}")
            tx.emit(
                "approval.reviewed", Ref("approval", found.id), about=found.subject, action=found.action, finding=finding
            )
        return self._read(op, approval_id)

    def _open_for_vote(self, tx: Write, op: Op, approval_id: str, digest: str) -> Approval:
        """The approval, locked, if this actor may vote on it now."""
        found = self._held(tx, op, approval_id)
        op.require("approval.decide", Ref.parse(found.subject))
        _check_person(op.actor)
        if digest and digest != found.digest:
            raise Conflict(
                "You looked at other bytes than the ones that were asked about.", where="digest",
                ref=f"approval:{approval_id}", hint=f"The digest asked about is {found.digest}.",
            )  # fmt: skip
        if _names(op.actor) & set(found.authors):
            raise Forbidden(
                f"{op.actor.name} asked for this or made it, and somebody else has to answer.",
                ref=f"approval:{approval_id}",
                hint="Ask a second person; alone on a laptop, add an account for one or use a policy without approvals.",
            )  # fmt: skip
        return found

    def _vote(self, tx: Write, op: Op, found: Approval, decision: str, comment: str) -> int:
        """Record a vote; returns how many approve now."""
        _check_comment(comment)
        roles, teams = self._access.me(op).roles, self._access.teams(op)
        if found.roles and not set(found.roles) & set(roles):
            raise Forbidden(
                f"Only somebody with the role {' or '.join(found.roles)} can answer this.", ref=f"approval:{found.id}"
            )
        if found.teams and not set(found.teams) & set(teams):
            raise Forbidden(
                f"Only somebody of the team {' or '.join(found.teams)} can answer this.", ref=f"approval:{found.id}"
            )
        vote = Vote(
            principal_id=op.actor.id, actor=op.actor.label, decision=decision, comment=comment, at_ms=op.at_ms,  # type: ignore[arg-type]
            roles=roles, teams=teams,
        )  # fmt: skip
        if not approval_store.add_vote(tx, found.id, vote):
            raise Conflict(f"{op.actor.name} has answered already.", ref=f"approval:{found.id}")
        votes = sum(v.decision == "approve" for v in found.votes) + (decision == "approve")
        tx.emit(
            "approval.voted", Ref("approval", found.id), about=found.subject, decision=decision, comment=comment,
            votes=votes, required=found.required,
        )  # fmt: skip
        return votes

    def _held(self, tx: Write, op: Op, approval_id: str) -> Approval:
        """The pending approval, with its row locked. Raises NotFound, Conflict."""
        approval_store.hold_approval(tx, approval_id)
        found = approval_store.approval(tx, op.workspace, approval_id)
        if found is None or not op.can("approval.read", Ref.parse(found.subject)):
            raise NotFound(f"There is no approval {approval_id}.")
        now = _as_of(found, op.at_ms)
        if now.state != "pending":
            raise Conflict(
                f"This approval is {now.state} already.", ref=f"approval:{approval_id}", hint="Ask again with a new one."
            )
        return found

    def _close(
        self, tx: Write, found: Approval, state: ApprovalState, at_ms: int, expires_at_ms: int, *, is_emergency: bool = False
    ) -> None:
        moved = approval_store.close_approval(
            tx, found.id, was=found.state, state=state, at_ms=at_ms, expires_at_ms=expires_at_ms, is_emergency=is_emergency
        )
        if not moved:
            raise Conflict("Somebody else answered at the same time.", ref=f"approval:{found.id}", hint="Read it again.")

    # --- reading ----------------------------------------------------------------------------------------------------

    def approvals(
        self, op: Op, *, state: str = "", subject: str = "", limit: int | None = None, page: str = "", mine: bool = False
    ) -> Page[Approval]:
        """Newest first. What is past its time reads as expired, even before the reconciler says so.

        `mine`: only what the caller may answer now, sought among the newest `SOUGHT_MAX`.
        """
        if state and state not in STATES:
            raise Invalid(f"There is no state {state!r}.", where="state", hint="States: " + ", ".join(STATES) + ".")
        size, before = check_limit(limit), decode_token(page, size=1)[0] if page else None
        scopes = op.visible("approval.read")
        if mine and state not in ("", "pending"):
            raise Invalid(
                "Only what is pending waits for an answer.", where="state", hint="Leave state out, or say pending."
            )
        if mine:
            return Page(self._answerable(op, subject, scopes)[:size])
        with self._db.read() as tx:
            found = approval_store.approvals(
                tx, op.workspace, state=state, subject=subject, scopes=scopes, before=before, limit=size
            )  # fmt: skip
        items = [a for a in (_as_of(a, op.at_ms) for a in found) if not state or a.state == state]
        return Page(items, encode_token(found[-1].id) if len(found) == size else None)

    def _answerable(self, op: Op, subject: str, scopes: list[str] | None) -> list[Approval]:
        """What waits for an answer that the caller may give."""
        with self._db.read() as tx:
            found = approval_store.approvals(
                tx, op.workspace, state="pending", subject=subject, scopes=scopes, before=None, limit=SOUGHT_MAX
            )  # fmt: skip
        if not found or op.actor.kind not in ("user", "service"):
            return []
        mine, roles, teams = _names(op.actor), set(self._access.me(op).roles), set(self._access.teams(op))
        return [
            a for a in found
            if _as_of(a, op.at_ms).state == "pending" and not mine & set(a.authors)
            and (not a.roles or roles & set(a.roles)) and (not a.teams or teams & set(a.teams))
            and all(v.principal_id != op.actor.id for v in a.votes) and op.can("approval.decide", Ref.parse(a.subject))
        ]  # fmt: skip

    def approval(self, op: Op, approval_id: str) -> Approval:
        """Raises NotFound."""
        op.can("approval.read")
        found = self._read(op, approval_id)
        if not op.can("approval.read", Ref.parse(found.subject)):
            op.require("approval.read")
        return found

    def _read(self, op: Op, approval_id: str) -> Approval:
        with self._db.read() as tx:
            found = approval_store.approval(tx, op.workspace, approval_id)
            if found is None:
                raise NotFound(f"There is no approval {approval_id}.")
        return _as_of(found, op.at_ms)

    # --- time -------------------------------------------------------------------------------------------------------

    def reconcile(self) -> None:
        """Let what is past its time expire."""
        now = self._ops.clock.now_ms()
        with self._db.read() as tx:
            found = approval_store.due(tx, now, limit=EXPIRE_AT_ONCE)
        for workspace, approval_id in found:
            op = self._ops.system("approvals")
            with self._db.write(op) as write:
                approval_store.hold_approval(write, approval_id)
                approval = approval_store.approval(write, workspace, approval_id)
                if approval is not None and _as_of(approval, op.at_ms).state == "expired" != approval.state:
                    self._expire(write, approval, op.at_ms)

    def _expire(self, tx: Write, approval: Approval, at_ms: int) -> None:
        self._close(tx, approval, "expired", at_ms, approval.expires_at_ms)
        tx.emit(
            "approval.expired", Ref("approval", approval.id), about=approval.subject, action=approval.action,
            digest=approval.digest, was=approval.state,
        )  # fmt: skip


def _as_of(approval: Approval, at_ms: int) -> Approval:
    """The approval as it is at this time: past its time, a pending or granted one is expired."""
    if approval.state in ("pending", "granted") and approval.expires_at_ms <= at_ms:
        return replace(approval, state="expired")
    return approval


def _names(actor: Actor) -> frozenset[str]:
    """Everything this actor is called in the list of authors: its id, its label, and whom it acts for."""
    return frozenset({actor.id, actor.on_behalf_of or actor.id}) | author_names(actor.label)


def _author_of(evidence: dict[str, object]) -> frozenset[str]:
    author = evidence.get("author")
    return author_names(author) if isinstance(author, str) and author else frozenset()


def _check_person(actor: Actor) -> None:
    if actor.kind not in ("user", "service"):
        raise Forbidden("An approval is somebody's own: Noria itself, pipelines and triggers cannot give one.")


def _check_comment(comment: str) -> None:
    if len(comment) > COMMENT_LENGTH_MAX:
        raise Invalid(f"The comment is longer than {COMMENT_LENGTH_MAX} characters.", where="comment")


def _check_request(
    action: str, digest: str, evidence: dict[str, object], required: int, roles: list[str], comment: str, days: int
) -> None:
    if action not in ACTIONS:
        raise Invalid(
            f"There is no action {action!r}.", where="action", hint="For instance model.promote or endpoint.deploy."
        )
    if not 8 <= len(digest) <= 256 or not digest.isascii() or not digest.isprintable():
        raise Invalid("An approval is for exact bytes: name their digest.", where="digest")
    if not 1 <= required <= APPROVERS_MAX:
        raise Invalid(f"required must be between 1 and {APPROVERS_MAX}.", where="required")
    if not 1 <= days <= APPROVAL_DAYS_MAX:
        raise Invalid(f"expires_in_days must be between 1 and {APPROVAL_DAYS_MAX}.", where="expires_in_days")
    for role in roles:
        if role not in ROLES:
            raise Invalid(f"There is no role {role!r}.", where="roles", hint="Roles: " + ", ".join(sorted(ROLES)) + ".")
    if len(evidence_bytes(evidence)) > EVIDENCE_BYTES:
        raise Invalid(f"The evidence is larger than {EVIDENCE_BYTES >> 10} KiB.", where="evidence")
    _check_comment(comment)
