"""What everybody should see at once, on every page: an emergency that nobody looked at yet, a log that is not sealed."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from noria.governance import approval_store, audit_store
from noria.governance.approval_model import DAY_MS, Vote
from noria.kernel.db import Database
from noria.kernel.ids import Ref
from noria.kernel.op import Op

NOTICE_DAYS = 30  # an override that nobody reviewed by then stays in the log, and on the page of approvals


class Notice(Struct, frozen=True, kw_only=True):
    """One line for everybody."""

    kind: Literal["override", "sealing"]
    text: str
    ref: str
    at_ms: int | None = None


class Notices:
    """See the module."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def notices(self, op: Op) -> list[Notice]:
        """Those that the actor may know of."""
        if op.visible("approval.read") == []:
            op.require("approval.read")
        with self._db.read() as tx:
            overrides = approval_store.unreviewed(tx, op.workspace, op.at_ms - NOTICE_DAYS * DAY_MS)
            problem = audit_store.stopped(tx) if op.can("audit.read") else ""
        found = [
            Notice(
                kind="override", ref=f"approval:{a.id}", at_ms=a.closed_at_ms,
                text=f"{_overrider(a.votes)} went past the approval of {a.action} on {a.subject}.",
            )
            for a in overrides
            if op.can("approval.read", Ref.parse(a.subject))
        ]  # fmt: skip
        return found + (
            [Notice(kind="sealing", text=f"The audit log is not sealed: {problem}", ref="audit:log")] if problem else []
        )


def _overrider(votes: list[Vote]) -> str:
    return next((v.actor for v in votes if v.decision == "override"), "somebody")
