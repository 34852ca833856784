"""What is allowed: rules over evidence. Implements the kernel's Gatekeeper.

A policy guards one action with structured conditions. It is asked inside the transaction of the act, with evidence read
there. Invariant: every judgement leaves its verdicts and one fact, in the same transaction as the act, or in one of its own
when the act was refused. Missing evidence denies; without policies nothing is refused and nothing is written.

The evidence is a dict: `model`, `version`, `digest`, `author` (an actor label), `alias`, `endpoint`, `evaluation` and
`champion_evaluation` (each `{dataset_version, split, metrics: {name: value}}`, or null when there is none).
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec
from msgspec import Struct

from noria.access.policy import ACTIONS
from noria.governance import approval_store, hooks, policy_store, scan_store
from noria.governance.allowed import RULES
from noria.governance.conditions import (
    EVIDENCE_BYTES,
    ApproverNotAuthor,
    Cel,
    HookSays,
    Judged,
    MinApprovals,
    evidence_bytes,
    judge_conditions,
)
from noria.governance.expressions import check_expression, judge_expression
from noria.governance.policy_model import (
    POLICIES_MAX,
    REPLAY_MAX,
    JudgedVerdict,
    Policy,
    PolicyBody,
    PolicyReplay,
    PolicyReplayAnswer,
    PolicySpec,
    ReplayedDecision,
    Trial,
    TrialAnswer,
    applies,
    check_policy,
)
from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import Invalid, NotFound, TooMuch, Unavailable
from noria.kernel.ids import Ref, new_id
from noria.kernel.op import Op, Verdict
from noria.kernel.paging import Page, check_limit, decode_token, encode_token

SCAN_POLICY = "noria:scan"  # no rule that somebody wrote: their names hold no colon
SCANNED_ACTIONS = frozenset({"endpoint.deploy", "model.score"})  # after which a model is read


class Asking(Struct, frozen=True, kw_only=True):
    """A hook that has to say something before an act; `is_new`: nobody asked it yet."""

    key: str
    policy: str
    mode: str
    webhook: str
    question: dict[str, Any]
    is_new: bool


class Policies:
    """What is allowed: rules over evidence."""

    def __init__(self, db: Database, *, suspicious_models: Literal["refuse", "warn"] = "refuse") -> None:
        self._db, self._suspicious = db, suspicious_models

    # --- the gate ---------------------------------------------------------------------------------------------------

    def judge(self, op: Op, action: str, subject: Ref, evidence: dict[str, Any]) -> list[Verdict]:
        """What every enabled policy for `action` says. Called by `op.gate`; refusing is the kernel's part."""
        open_tx = self._db.writing()
        asking: list[Asking] = []
        if open_tx is not None:
            judged, digest, shown = self._verdicts(open_tx, op, action, subject, evidence, asking)
        else:
            with self._db.read() as tx:
                judged, digest, shown = self._verdicts(tx, op, action, subject, evidence, asking)
        if not judged:
            return []
        pending = [a for a in asking if a.policy in {v.policy for v in judged if not v.allowed}]
        if pending and all(v.allowed or v.mode == "warn" or v.policy in {a.policy for a in pending} for v in judged):
            self._ask(op, open_tx, pending)

        def keep(tx: Write) -> None:
            policy_store.add_verdicts(tx, op.workspace, judged)
            if shown:
                policy_store.keep_evidence(tx, digest, shown, at_ms=op.at_ms)
            kept = [{"policy": v.policy, "allowed": v.allowed, "mode": v.mode, "reason": v.reason} for v in judged]
            is_allowed = all(v.allowed or v.mode == "warn" for v in judged)
            tx.emit(
                "policy.judged", subject, action=action, allowed=is_allowed, evidence_digest=digest, verdicts=kept,
            )  # fmt: skip

        if open_tx is not None and open_tx.op is not None:
            open_tx.keep(keep)
        else:
            with self._db.write(op) as write:
                keep(write)
        return [Verdict(policy=v.policy, allowed=v.allowed, reason=v.reason, mode=v.mode) for v in judged]

    def _ask(self, op: Op, open_tx: Write | None, pending: list[Asking]) -> None:
        """Nothing but hooks stands in the way: have them asked, and the act tried again. A policy that only warns is not waited for."""

        def put(tx: Write) -> None:
            for asked in pending:
                if asked.is_new:
                    hooks.ask(tx, asked.key, asked.webhook, asked.question, op.at_ms)

        if open_tx is not None and open_tx.op is not None:
            open_tx.keep(put)
        else:
            with self._db.write(op) as write:
                put(write)
        if waiting := [a for a in pending if a.mode == "enforce"]:
            raise Unavailable(
                f"The policy {waiting[0].policy} asks {waiting[0].webhook}.", retry_after_s=1,
                hint="Try again in a moment; without a yes in time it is refused.",
            )  # fmt: skip

    def _verdicts(
        self, tx: Read, op: Op, action: str, subject: Ref, evidence: dict[str, Any], asking: list[Asking]
    ) -> tuple[list[JudgedVerdict], str, bytes]:
        """The verdicts of the policies that apply, the digest of the evidence they are about, and the evidence."""
        evidence = _with_scan(tx, evidence)
        policies = [p for p in policy_store.policies_for(tx, op.workspace, action) if applies(p.match, evidence)]
        found = scan_verdict(evidence) if action in SCANNED_ACTIONS else None
        if not policies and found is None:
            return [], "", b""
        try:
            encoded = evidence_bytes(evidence)
        except (TypeError, ValueError, RecursionError):
            encoded = b""
        digest = hashlib.sha256(encoded).hexdigest()
        judged = []
        if found is not None:
            judged.append(
                JudgedVerdict(
                    id=new_id(op.at_ms), at_ms=op.at_ms, op_id=op.id, actor=op.actor.label, action=action,
                    subject=str(subject), policy=SCAN_POLICY, policy_version=RULES, allowed=found[0],
                    mode="warn" if self._suspicious == "warn" else "enforce", reason=found[1], evidence_digest=digest,
                )
            )  # fmt: skip
        for policy in policies:
            if not encoded or len(encoded) > EVIDENCE_BYTES:
                reasons = [f"the evidence is no JSON of at most {EVIDENCE_BYTES >> 10} KiB"]
            else:
                reasons = self._reasons(tx, op, policy, subject, evidence)
                reasons = reasons or self._hooks(tx, op, policy, subject, evidence, digest, asking)
            reason = "; ".join(reasons)
            if reasons and policy.message:
                reason += f" ({policy.message})"
            judged.append(
                JudgedVerdict(
                    id=new_id(op.at_ms),
                    at_ms=op.at_ms,
                    op_id=op.id,
                    actor=op.actor.label,
                    action=action,
                    subject=str(subject),
                    policy=policy.name,
                    policy_version=policy.version,
                    allowed=not reasons,
                    mode=policy.mode,
                    reason=reason or "every condition holds",
                    evidence_digest=digest,
                )
            )
        return judged, digest, encoded if len(encoded) <= EVIDENCE_BYTES else b""

    def _reasons(
        self, tx: Read, op: Op, policy: Policy | PolicySpec, subject: Ref, evidence: dict[str, Any], *,
        then_ms: int | None = None,
    ) -> list[str]:  # fmt: skip
        """Why the policy objects, with the approvals of now, or of a time in the past."""
        actions = {c.of_action for c in policy.conditions if isinstance(c, MinApprovals | ApproverNotAuthor)}
        actions |= {"" for c in policy.conditions if isinstance(c, Cel)}
        digest = evidence.get("digest")
        approvals: dict[str, list[Judged]] = {}
        if actions and isinstance(digest, str) and digest:
            if then_ms is None:
                granted = approval_store.granted(tx, op.workspace, digest, op.at_ms)
            else:
                granted = approval_store.granted_then(tx, op.workspace, digest, then_ms)
            for of_action in actions:
                wanted = {policy.action, of_action}
                approvals[of_action] = [
                    Judged(
                        approvers=[v.principal_id for v in a.votes], labels=[v.actor for v in a.votes],
                        roles=[v.roles for v in a.votes], teams=[v.teams for v in a.votes], is_emergency=a.is_emergency,
                    )
                    for a in granted
                    if a.action in wanted and _is_about(a.subject, a.evidence, subject, evidence)
                ]  # fmt: skip
        reasons = judge_conditions(policy.conditions, evidence, approvals)
        size = len(evidence_bytes(evidence)) if any(isinstance(c, Cel) for c in policy.conditions) else 0
        for condition in policy.conditions:
            if isinstance(condition, Cel):
                now_ms = op.at_ms if then_ms is None else then_ms
                reason = judge_expression(condition.expression, evidence, size, approvals.get("", []), now_ms)
                if reason:
                    reasons.append(f"{condition.says} ({reason})" if condition.says else reason)
        return reasons

    @staticmethod
    def _hooks(
        tx: Read, op: Op, policy: Policy, subject: Ref, evidence: dict[str, Any], digest: str, asking: list[Asking]
    ) -> list[str]:  # fmt: skip
        """Why hooks object: asked last, each about exactly this. What has to be asked first is added to `asking`."""
        reasons = []
        for condition in policy.conditions:
            if not isinstance(condition, HookSays):
                continue
            key = hooks.key_of(policy.name, policy.version, condition.webhook, policy.action, subject, digest)
            found = hooks.standing(tx, key, op.at_ms)
            if found is None or found.state == "asked":
                question = {
                    "type": "policy.question", "policy": policy.name, "version": policy.version, "action": policy.action,
                    "subject": str(subject), "actor": op.actor.label, "evidence": evidence, "evidence_digest": digest,
                }  # fmt: skip
                asking.append(
                    Asking(
                        key=key, policy=policy.name, mode=policy.mode, webhook=condition.webhook, question=question,
                        is_new=found is None,
                    )
                )  # fmt: skip
                reasons.append(f"{condition.webhook} is being asked")
            elif found.state != "allowed":
                said = "says no" if found.state == "refused" else "gave no answer, which counts as no"
                reasons.append(f"{condition.webhook} {said}" + (f": {found.reason}" if found.reason else ""))
        return reasons

    # --- the rules --------------------------------------------------------------------------------------------------

    def save(self, op: Op, spec: PolicySpec) -> Policy:
        """Make a policy or change it; the same rule again changes nothing. Raises Invalid, TooMuch, Forbidden."""
        op.require("policy.write")
        _check(spec)
        with self._db.write(op) as tx:
            found = policy_store.policy(tx, op.workspace, spec.name)
            if found is not None and _spec_of(found) == spec:
                return found
            if found is None and policy_store.policies_count(tx) >= POLICIES_MAX:
                raise TooMuch(f"There are {POLICIES_MAX} policies already.", hint="Delete one first.")
            policy = Policy(
                name=spec.name, version=found.version + 1 if found else 1, action=spec.action, conditions=spec.conditions,
                match=spec.match, mode=spec.mode, enabled=spec.enabled, message=spec.message,
                created_at_ms=found.created_at_ms if found else op.at_ms, updated_at_ms=op.at_ms, actor=op.actor.label,
            )  # fmt: skip
            policy_store.save_policy(tx, op.workspace, policy)
            tx.emit("policy.saved", Ref("policy", spec.name), version=policy.version, spec=msgspec.to_builtins(spec))
        return policy

    def policies(self, op: Op) -> list[Policy]:
        op.require("policy.read")
        with self._db.read() as tx:
            return policy_store.policies(tx, op.workspace)

    def policy(self, op: Op, name: str) -> Policy:
        """Raises NotFound."""
        op.require("policy.read")
        with self._db.read() as tx:
            return self._found(tx, op, name)

    def delete(self, op: Op, name: str) -> None:
        """Remove a policy; its verdicts stay. Raises NotFound, Forbidden."""
        op.require("policy.write")
        with self._db.write(op) as tx:
            found = self._found(tx, op, name)
            policy_store.delete_policy(tx, op.workspace, name)
            tx.emit("policy.deleted", Ref("policy", name), version=found.version)

    def try_(self, op: Op, name: str, trial: Trial) -> TrialAnswer:
        """What the policy would say of this evidence now; nothing is kept. Raises NotFound, Invalid."""
        op.require("policy.read")
        if len(evidence_bytes(trial.evidence)) > EVIDENCE_BYTES:
            raise Invalid(f"The evidence is larger than {EVIDENCE_BYTES >> 10} KiB.", where="evidence")
        with self._db.read() as tx:
            policy = self._found(tx, op, name)
            evidence = _with_scan(tx, trial.evidence)
            reasons = self._reasons(tx, op, policy, Ref.parse(trial.subject), evidence)
        is_meant = policy.enabled and applies(policy.match, trial.evidence)
        return TrialAnswer(applies=is_meant, allowed=not reasons, reason="; ".join(reasons) or "every condition holds")

    def replay(self, op: Op, name: str, asked: PolicyReplay) -> PolicyReplayAnswer:
        """What a rule would have said of past decisions, as things were then; nothing is kept. Raises NotFound, Invalid."""
        op.require("policy.read")
        if not 1 <= asked.limit <= REPLAY_MAX:
            raise Invalid(f"limit must be between 1 and {REPLAY_MAX}.", where="limit")
        with self._db.read() as tx:
            rule = _spec_of(self._found(tx, op, name)) if asked.rule is None else _check(spec_from(name, asked.rule))
            decided = policy_store.decided(tx, op.workspace, rule.action, limit=asked.limit)
            items = []
            for d in decided:
                if not applies(rule.match, d.evidence):
                    continue
                reasons = self._reasons(tx, op, rule, Ref.parse(d.subject), d.evidence, then_ms=d.at_ms)
                items.append(
                    ReplayedDecision(
                        at_ms=d.at_ms, actor=d.actor, subject=d.subject, was_allowed=bool(d.was_allowed), allowed=not reasons,
                        reason="; ".join(reasons) or "every condition holds",
                    )
                )  # fmt: skip
        refused = sum(not i.allowed for i in items)
        return PolicyReplayAnswer(
            decisions=len(decided), allowed=len(items) - refused, refused=refused,
            changed=sum(i.allowed != i.was_allowed for i in items), items=items,
        )  # fmt: skip

    def verdicts(
        self, op: Op, *, subject: str = "", policy: str = "", limit: int | None = None, page: str = ""
    ) -> Page[JudgedVerdict]:
        """Verdicts, newest first."""
        op.require("policy.read")
        size = check_limit(limit)
        before = decode_token(page, size=1)[0] if page else None
        with self._db.read() as tx:
            found = policy_store.verdicts(tx, op.workspace, subject=subject, policy=policy, before=before, limit=size)
        return Page(found, encode_token(found[-1].id) if len(found) == size else None)

    def _found(self, tx: Read, op: Op, name: str) -> Policy:
        found = policy_store.policy(tx, op.workspace, name)
        if found is None:
            raise NotFound(f"There is no policy {name}.", ref=f"policy:{name}")
        return found


def _with_scan(tx: Read, evidence: dict[str, Any]) -> dict[str, Any]:
    """The evidence with what a scan found in the bytes it is about, when they are those of a model version."""
    digest = evidence.get("digest")
    if not isinstance(digest, str) or not digest or not scan_store.is_registered(tx, digest):
        return evidence
    found = scan_store.scan(tx, digest)
    if found is None:
        return {**evidence, "scan": None}
    return {
        **evidence,
        "scan": {
            "status": found.status, "is_safe": found.is_safe, "accepted_by": found.accepted_by,
            "why": found.why, "findings": [f"{f.file}: {f.reason}" for f in found.findings[:5]],
        },
    }  # fmt: skip


def scan_verdict(evidence: dict[str, Any]) -> tuple[bool, str] | None:
    """What is said without any policy of bytes that are to get traffic; None: nothing is to be said. Pure."""
    if "scan" not in evidence:
        return None
    scan = evidence["scan"]
    if scan is None:
        return False, "its files are being looked through; try again in a moment"
    if scan["status"] != "suspicious":
        return None
    if scan["accepted_by"]:
        return True, f"{scan['accepted_by']} accepted what its files would do"
    name = f"{evidence.get('model')}@{evidence.get('version')}"
    return False, (
        f"its files would run code when they are read: {'; '.join(scan['findings'][:3])} "
        f"(look at them: noria model scan {name}; an administrator may accept them)"
    )


def _check(spec: PolicySpec) -> PolicySpec:
    """`spec` if it can be judged; else Invalid."""
    check_policy(spec, ACTIONS)
    for condition in spec.conditions:
        if isinstance(condition, Cel):
            check_expression(condition.expression)
    return spec


def spec_from(name: str, body: PolicyBody) -> PolicySpec:
    """A rule put at /policies/{name}. Raises Invalid when it says another name."""
    if body.name not in ("", name):
        raise Invalid("The name in the body is not the one in the address.", where="name")
    return PolicySpec(
        name=name, action=body.action, conditions=body.conditions, match=body.match, mode=body.mode, enabled=body.enabled,
        message=body.message,
    )  # fmt: skip


def _spec_of(policy: Policy) -> PolicySpec:
    return PolicySpec(
        name=policy.name, action=policy.action, conditions=policy.conditions, match=policy.match, mode=policy.mode,
        enabled=policy.enabled, message=policy.message,
    )  # fmt: skip


def _is_about(asked: str, asked_evidence: dict[str, Any], subject: Ref, evidence: dict[str, Any]) -> bool:
    """Was this approval asked for this act? The digest matches already; a place that both name must match too.

    An approval of a model version counts for deploying it, unless it was asked for another endpoint or alias.
    """
    if Ref.parse(asked).kind == subject.kind and asked != str(subject):
        return False
    return all(
        not asked_evidence.get(key) or not evidence.get(key) or asked_evidence[key] == evidence[key]
        for key in ("model", "alias", "endpoint")
    )
