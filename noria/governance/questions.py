"""Questions of pipeline steps, put to people as approvals: with the same rights, the same page, the same record.

A question is about its pipeline (`pipeline:churn`), so whoever may decide there may answer. Whoever started the run, and whom it
acts for, may not. It is asked and taken back in the transaction of the step.
"""

from __future__ import annotations

from typing import Any

import msgspec
from blake3 import blake3

from noria.access.policy import ROLES
from noria.governance import approval_store
from noria.governance.approval_model import Approval
from noria.governance.conditions import EVIDENCE_BYTES, author_names, evidence_bytes
from noria.kernel.db import Read, Write
from noria.kernel.errors import Invalid
from noria.kernel.ids import DEFAULT_WORKSPACE, Ref, new_id
from noria.pipelines.model.runs import PipelineRun
from noria.pipelines.model.spec import Answer, Question
from noria.pipelines.model.steps import StepRun

ACTION = "pipeline.run"  # what is asked: may the run go on


class Questions:
    """See the module. What pipelines call an Asker."""

    def ask(
        self, tx: Write, run: PipelineRun, step: StepRun, question: Question, *, evidence: dict[str, Any], until_ms: int
    ) -> str:
        """Ask. Raises Invalid for a role that there is none, and evidence that is too large."""
        assert tx.op is not None
        if question.role and question.role not in ROLES:
            raise Invalid(f"There is no role {question.role!r} that could answer. Roles: {', '.join(sorted(ROLES))}.")
        shown = {
            "question": question.prompt, "pipeline_run": run.id, "step": step.name, "step_run": step.id, "author": run.actor,
            "values": evidence,
        }  # fmt: skip
        if len(evidence_bytes(shown)) > EVIDENCE_BYTES:
            raise Invalid(f"The evidence is larger than {EVIDENCE_BYTES >> 10} KiB. Show numbers, not tables.")
        digest = blake3(msgspec.json.encode([step.id, step.attempt, shown], order="sorted")).hexdigest()
        approval = Approval(
            id=new_id(tx.op.at_ms), subject=str(Ref("pipeline", run.pipeline)), action=ACTION, digest=digest, evidence=shown,
            required=question.required, roles=[question.role] if question.role else [], state="pending",
            requested_by=run.actor, authors=sorted(author_names(run.actor) | {run.owner} - {""}), comment=question.prompt,
            created_at_ms=tx.op.at_ms, expires_at_ms=until_ms, closed_at_ms=None, is_emergency=False,
        )  # fmt: skip
        if not approval_store.add_approval(
            tx, tx.op.workspace, approval
        ):  # only the same question of the same step can be there
            found = approval_store.pending(tx, tx.op.workspace, approval.subject, ACTION, digest)
            assert found is not None
            return found.id
        tx.emit(
            "approval.requested", Ref("approval", approval.id), about=approval.subject, action=ACTION, digest=digest,
            required=approval.required,
        )  # fmt: skip
        return approval.id

    def answer(self, tx: Read, question_id: str) -> Answer | None:
        """What was said; None while the question is open."""
        found = approval_store.approval(tx, DEFAULT_WORKSPACE, question_id)
        if found is None:
            return Answer(approved=False, by=[], comment="", reason="The question is gone.")
        yes = [v for v in found.votes if v.decision in ("approve", "override")]
        no = [v for v in found.votes if v.decision == "reject"]
        # A yes counts also when it is read after its time: it was in time when it was given.
        was_granted = len(yes) >= found.required or any(v.decision == "override" for v in yes)
        if found.state == "granted" or (found.state == "expired" and was_granted):
            return _said(True, yes, "Approved")
        if found.state == "rejected":
            return _said(False, no, "Rejected")
        if found.state == "expired":
            return Answer(approved=False, by=[], comment="", reason="Nobody answered in time, which counts as no.")
        if found.state == "withdrawn":
            return Answer(approved=False, by=[], comment="", reason="The question was withdrawn, which counts as no.")
        return None

    def withdraw(self, tx: Write, question_id: str) -> None:
        """Take a question back that is still open."""
        assert tx.op is not None
        approval_store.hold_approval(tx, question_id)
        found = approval_store.approval(tx, tx.op.workspace, question_id)
        if found is None or found.state != "pending":
            return
        approval_store.close_approval(
            tx, found.id, was="pending", state="withdrawn", at_ms=tx.op.at_ms, expires_at_ms=found.expires_at_ms
        )
        tx.emit("approval.withdrawn", Ref("approval", found.id), about=found.subject, action=found.action)


def _said(approved: bool, votes: list[Any], word: str) -> Answer:
    by = [vote.actor for vote in votes]
    comment = "; ".join(vote.comment for vote in votes if vote.comment)
    reason = f"{word} by {', '.join(by)}" + (f": {comment}" if comment else ".")
    return Answer(approved=approved, by=by, comment=comment, reason=reason)
