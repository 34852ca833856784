"""The routes of governance: the audit log, policies, approvals, webhooks."""

from __future__ import annotations

from typing import Annotated

from litestar import Response
from litestar.params import QueryParameter
from litestar.response import Stream

from noria.governance.approval_model import Approval, ApprovalRequest, Decision, OverrideReview
from noria.governance.approvals import Approvals
from noria.governance.audit import Audit
from noria.governance.audit_model import AuditReport, AuditStatus, Checkpoint, ConsistencyProof, InclusionProof
from noria.governance.notices import Notice, Notices
from noria.governance.policies import Policies, spec_from
from noria.governance.policy_model import (
    JudgedVerdict,
    Policy,
    PolicyBody,
    PolicyReplay,
    PolicyReplayAnswer,
    Trial,
    TrialAnswer,
)
from noria.governance.webhook_model import Delivery, NewWebhook, Webhook
from noria.governance.webhooks import Webhooks
from noria.http.route import Routes, delete, get, post, put
from noria.kernel.errors import Invalid
from noria.kernel.events import Event
from noria.kernel.op import Op
from noria.kernel.paging import Page


def routes(
    policies: Policies, approvals: Approvals, notices: Notices, audit: Audit, webhooks: Webhooks
) -> Routes:  # fmt: skip
    return [*_audit(audit), *_policies(policies), *_approvals(approvals, notices), *_webhooks(webhooks)]


def _audit(audit: Audit) -> Routes:
    @get("/api/v1/audit", action="audit.read")
    def list_audit(
        op: Op, kinds: str = "", subject: str = "", actor: str = "", from_ms: int | None = None, to_ms: int | None = None,
        limit: int | None = None, page: str = "",
    ) -> Page[Event]:  # fmt: skip
        """Facts with their actor, newest first; `kinds`: comma-separated, each a kind or `noun.*`; `to_ms` is exclusive."""
        return audit.facts(
            op, kinds=kinds, subject=subject, actor=actor, from_ms=from_ms, to_ms=to_ms, limit=limit, page=page
        )

    @get("/api/v1/audit/status", action="audit.read")
    def read_audit_status(op: Op) -> AuditStatus:
        """How far the log is sealed, the latest checkpoint and the public key."""
        return audit.status(op)

    @get("/api/v1/audit/checkpoints", action="audit.read")
    def list_checkpoints(op: Op, limit: int | None = None, page: str = "") -> Page[Checkpoint]:
        """Signed checkpoints, newest first."""
        return audit.checkpoints(op, limit=limit, page=page)

    @post("/api/v1/audit/verify", action="audit.read")
    def verify_audit(op: Op) -> AuditReport:
        """Compare the live log with what was sealed and signed; names the first bad fact."""
        return audit.verify(op)

    @get("/api/v1/audit/proof/{seq:int}", action="audit.read")
    def read_inclusion_proof(op: Op, seq: int) -> InclusionProof:
        """Proof that a fact is in the signed log."""
        return audit.proof(op, seq)

    @get("/api/v1/audit/consistency", action="audit.read")
    def read_consistency_proof(op: Op, first: int, second: int) -> ConsistencyProof:
        """Proof that the log at `second` facts only added to the log at `first`."""
        return audit.consistency(op, first, second)

    @post("/api/v1/audit/exports", action="audit.export")
    def begin_export(op: Op) -> Checkpoint:
        """Begin a copy of the log: recorded, and answered with the checkpoint that the copy is for."""
        return audit.begin_export(op)

    @get("/api/v1/audit/exports/{size:int}/{part:str}", action="audit.export")
    def read_export(op: Op, size: int, part: str) -> Stream:
        """A part of a copy of the log: `events` (one leaf a line), `hashes`, `checkpoints`, `personal`; or `ocsf`, `cloudevents`."""
        parts = {
            "events": audit.export_lines, "hashes": audit.export_hashes, "checkpoints": audit.export_checkpoints,
            "personal": audit.export_personal, "ocsf": audit.export_ocsf, "cloudevents": audit.export_cloudevents,
        }  # fmt: skip
        op.require("audit.export")
        if part not in parts or size < 0:
            raise Invalid(f"An export has no part {part[:40]!r}.", where="part", hint="Parts: " + ", ".join(parts) + ".")
        return Stream(parts[part](op, size), media_type="application/x-ndjson")

    @get("/api/v1/audit/key", action="audit.read", media_type="text/plain")
    def read_audit_key(op: Op) -> Response[str]:
        """The public key that checkpoints are signed with."""
        return Response(audit.public_key(op) + "\n", media_type="text/plain")

    return [
        list_audit, read_audit_status, list_checkpoints, verify_audit, read_inclusion_proof, read_consistency_proof,
        begin_export, read_export, read_audit_key,
    ]  # fmt: skip


def _policies(policies: Policies) -> Routes:
    @get("/api/v1/policies", action="policy.read")
    def list_policies(op: Op) -> Page[Policy]:
        """Every policy."""
        return Page(policies.policies(op))

    @get("/api/v1/policies/{name:str}", action="policy.read")
    def read_policy(op: Op, name: str) -> Policy:
        """One policy."""
        return policies.policy(op, name)

    @put("/api/v1/policies/{name:str}", action="policy.write")
    def save_policy(op: Op, name: str, data: PolicyBody) -> Policy:
        """Make a policy or change it; the same rule again changes nothing."""
        return policies.save(op, spec_from(name, data))

    @delete("/api/v1/policies/{name:str}", action="policy.write")
    def delete_policy(op: Op, name: str) -> None:
        """Remove a policy; its verdicts stay."""
        policies.delete(op, name)

    @post("/api/v1/policies/{name:str}/try", action="policy.read")
    def try_policy(op: Op, name: str, data: Trial) -> TrialAnswer:
        """What the policy would say of some evidence; nothing is kept."""
        return policies.try_(op, name, data)

    @post("/api/v1/policies/{name:str}/replay", action="policy.read")
    def replay_policy(op: Op, name: str, data: PolicyReplay) -> PolicyReplayAnswer:
        """What a rule, kept or only proposed, would have said of past decisions; nothing is kept."""
        return policies.replay(op, name, data)

    @get("/api/v1/verdicts", action="policy.read")
    def list_verdicts(
        op: Op, subject: str = "", policy: str = "", limit: int | None = None, page: str = ""
    ) -> Page[JudgedVerdict]:
        """What policies said, newest first."""
        return policies.verdicts(op, subject=subject, policy=policy, limit=limit, page=page)

    return [list_policies, read_policy, save_policy, delete_policy, try_policy, replay_policy, list_verdicts]


def _approvals(approvals: Approvals, notices: Notices) -> Routes:
    @get("/api/v1/approvals", action="approval.read")
    def list_approvals(
        op: Op, is_state: Annotated[str, QueryParameter(name="state")] = "", subject: str = "", limit: int | None = None,
        page: str = "", mine: bool = False,
    ) -> Page[Approval]:  # fmt: skip
        """Approvals, newest first. `state`: pending, granted, rejected, expired, withdrawn; `mine`: what one may answer now."""
        return approvals.approvals(op, state=is_state, subject=subject, limit=limit, page=page, mine=mine)

    @get("/api/v1/approvals/{approval_id:str}", action="approval.read")
    def read_approval(op: Op, approval_id: str) -> Approval:
        """One approval, with its evidence and votes."""
        return approvals.approval(op, approval_id)

    @post("/api/v1/approvals", action="approval.request")
    def request_approval(op: Op, data: ApprovalRequest) -> Approval:
        """Ask whether something may be done with exactly these bytes."""
        return approvals.request_from(op, data)

    @post("/api/v1/approvals/{approval_id:str}/approve", action="approval.decide")
    def approve(op: Op, approval_id: str, data: Decision) -> Approval:
        """Say yes. Refused to whoever asked for it or made it."""
        op.can("approval.decide")
        return approvals.approve(op, approval_id, data.comment, digest=data.digest)

    @post("/api/v1/approvals/{approval_id:str}/reject", action="approval.decide")
    def reject(op: Op, approval_id: str, data: Decision) -> Approval:
        """Say no."""
        op.can("approval.decide")
        return approvals.reject(op, approval_id, data.comment, digest=data.digest)

    @post("/api/v1/approvals/{approval_id:str}/withdraw", action="approval.request")
    def withdraw(op: Op, approval_id: str) -> Approval:
        """Take a question back."""
        return approvals.withdraw(op, approval_id)

    @post("/api/v1/approvals/{approval_id:str}/review", action="approval.decide")
    def review_override(op: Op, approval_id: str, data: OverrideReview) -> Approval:
        """Look at an emergency override afterwards, and say what was found. Refused to whoever did it or asked for it."""
        op.can("approval.decide")
        return approvals.review(op, approval_id, data.finding)

    @get("/api/v1/notices", action="approval.read")
    def list_notices(op: Op) -> Page[Notice]:
        """What everybody should see at once: emergency overrides that nobody looked at yet, and an audit log that is not sealed."""
        return Page(notices.notices(op))

    @post("/api/v1/approvals/{approval_id:str}/override", action="system.admin")
    def override(op: Op, approval_id: str, data: Decision) -> Approval:
        """Emergency: grant it alone, with a reason (the comment). Recorded as such for ever."""
        return approvals.override(op, approval_id, data.comment)

    return [list_approvals, read_approval, request_approval, approve, reject, withdraw, override,
            review_override, list_notices]  # fmt: skip


def _webhooks(webhooks: Webhooks) -> Routes:
    @get("/api/v1/webhooks", action="webhook.read")
    def list_webhooks(op: Op) -> Page[Webhook]:
        """Where facts are sent to."""
        return Page(webhooks.webhooks(op))

    @get("/api/v1/webhooks/{name:str}", action="webhook.read")
    def read_webhook(op: Op, name: str) -> Webhook:
        """One webhook; its secret is never shown."""
        return webhooks.webhook(op, name)

    @put("/api/v1/webhooks/{name:str}", action="webhook.write")
    def save_webhook(op: Op, name: str, data: NewWebhook) -> Webhook:
        """Make a webhook or change it. A secret that was made for it is in this answer and nowhere else."""
        return webhooks.save(op, name, data)

    @delete("/api/v1/webhooks/{name:str}", action="webhook.write")
    def delete_webhook(op: Op, name: str) -> None:
        """Remove a webhook."""
        webhooks.delete(op, name)

    @get("/api/v1/webhooks/{name:str}/deliveries", action="webhook.read")
    def list_deliveries(op: Op, name: str, limit: int | None = None, page: str = "") -> Page[Delivery]:
        """What was sent to a webhook and how it was answered, newest first."""
        return webhooks.deliveries(op, name, limit=limit, page=page)

    return [list_webhooks, read_webhook, save_webhook, delete_webhook, list_deliveries]
