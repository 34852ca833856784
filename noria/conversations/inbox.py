"""What people are told: of being spoken to, of answers, of what happens to things that are theirs or that they follow.

A subscriber of the facts. Telling twice is impossible (one row for each person and fact); what somebody may not see any more when they
look is not shown.
"""

from __future__ import annotations

from typing import Any

from noria.access.service import Access
from noria.conversations import store
from noria.conversations.addresses import Addresses
from noria.conversations.model import (
    NOTIFICATIONS_KEPT,
    UNREAD_COUNTED_MAX,
    Comment,
    Inbox,
    Notification,
    ReadWish,
    Reason,
    excerpt,
)
from noria.conversations.service import Conversations, owner_id
from noria.conversations.store import Told
from noria.kernel.db import Database, Read
from noria.kernel.errors import Invalid
from noria.kernel.events import Event, event_at, first_about, things_of
from noria.kernel.ids import new_id
from noria.kernel.op import Op, Ops
from noria.kernel.paging import check_limit, decode_token, encode_token

# What is worth telling whoever follows the thing …
WORTH = frozenset({
    "comment.added", "run.finished", "pipeline_run.failed", "pipeline_run.succeeded", "dataset_version.committed",
    "dataset_commit.refused", "model_version.created", "model_version.promoted", "alert.opened", "alert.resolved",
    "approval.requested", "approval.granted", "approval.rejected", "approval.overridden", "revision.failed", "canary.promoted",
    "canary.rolled_back", "loop.turn_started", "loop.stopped", "report.saved",
})  # fmt: skip
# … and what whoever made it should know without following it.
NEEDED = frozenset({
    "comment.added", "pipeline_run.failed", "dataset_commit.refused", "alert.opened", "approval.granted", "approval.rejected",
    "approval.overridden", "revision.failed", "canary.rolled_back", "loop.stopped",
})  # fmt: skip


class Inboxes:
    """The subscriber, and what each person reads of it."""

    name = "conversations.inbox"

    def __init__(self, db: Database, ops: Ops, access: Access, conversations: Conversations, addresses: Addresses) -> None:
        self._db, self._ops, self._access, self._conversations = db, ops, access, conversations
        self._addresses = addresses

    # --- telling -----------------------------------------------------------------------------------------------------

    def interest(self, tx: Read) -> frozenset[str]:
        return WORTH

    def handle(self, event: Event) -> None:
        """Tell everybody whom a fact concerns, and who may see it."""
        with self._db.read() as tx:
            wanted = self._whom(tx, event)
        if not wanted:
            return
        comment_id = event.subject.partition(":")[2] if event.kind == "comment.added" else ""
        subject = str(event.data["about"]) if comment_id else event.subject
        op = self._ops.system("inbox", cause=event.seq)
        for principal_id, reason in wanted.items():
            eyes = self._conversations.eyes_of(principal_id)
            shown = next((s for s in (subject, *things_of(event)) if self._conversations.may_see(eyes, s)), None)
            if shown is None:
                continue
            with self._db.write(op) as tx:
                told = Told(
                    id=new_id(event.at_ms), seq=event.seq, at_ms=event.at_ms, reason=reason, subject=shown,
                    comment_id=comment_id, read_at_ms=None,
                )  # fmt: skip
                if store.tell(tx, told, principal_id, event.workspace):
                    self._addresses.queue(tx, principal_id, told.id, reason, op.at_ms)
                    store.forget_old(tx, principal_id, NOTIFICATIONS_KEPT)

    def _whom(self, tx: Read, event: Event) -> dict[str, Reason]:
        """Principal → the nearest reason; never whoever did it."""
        found: dict[str, Reason] = {}
        author, subject = "", event.subject
        if event.kind == "comment.added":
            comment = store.comment(tx, event.subject.partition(":")[2], event.workspace)
            if comment is None:
                return {}
            author, subject = comment.author_id, comment.subject
            found |= dict.fromkeys(event.data["mentions"], "mention")
            if comment.thread != comment.id:
                for one in store.authors_of(tx, comment.thread):
                    found.setdefault(one, "reply")
        things = [subject, *things_of(event)]
        if event.kind in NEEDED:
            for first in first_about(tx, things):
                for one in self._doers(first):
                    found.setdefault(one, "yours")
        for one in store.followers(tx, things):
            found.setdefault(one, "follow")
        if not found:
            return found
        quiet, doers = store.silent(tx, subject), {author, *self._doers(event)}
        return {p: r for p, r in found.items() if p not in doers and (r == "mention" or p not in quiet)}

    def _doers(self, event: Event) -> list[str]:
        """Who did something: facts carry names, and for whom it was done as an id."""
        who, _, behalf = event.actor.partition(" for ")
        kind, _, name = who.partition(":")
        found = [p.id for p in self._access.people([name])] if kind in ("user", "service") else []
        return [*found, *([behalf] if behalf else [])]

    # --- reading -----------------------------------------------------------------------------------------------------

    def inbox(self, op: Op, *, unread: bool = False, limit: int | None = None, page: str = "") -> Inbox:
        """What the caller was told, newest first."""
        _require_self(op)
        size, before = check_limit(limit), str(decode_token(page, size=1)[0]) if page else ""
        with self._db.read() as tx:
            rows = store.told(tx, owner_id(op), unread=unread, before=before, limit=size)
            waiting = store.told(tx, owner_id(op), unread=True, before="", limit=UNREAD_COUNTED_MAX)
            facts = {row.seq: event_at(tx, row.seq) for row in rows}
            comments = {row.comment_id: store.comment(tx, row.comment_id, op.workspace) for row in rows if row.comment_id}
        eyes = self._conversations.eyes_of(owner_id(op))
        seen = {s: self._conversations.may_see(eyes, s) for s in {row.subject for row in (*rows, *waiting)}}
        titles = {s: found.title for s, found in seen.items() if found is not None}
        items = [
            _notification(row, facts[row.seq], comments.get(row.comment_id), titles[row.subject])
            for row in rows
            if row.subject in titles and facts[row.seq] is not None
        ]
        return Inbox(
            items=items, unread=sum(row.subject in titles for row in waiting),
            next=encode_token(rows[-1].id) if len(rows) == size else None,
        )  # fmt: skip

    def mark_read(self, op: Op, wish: ReadWish) -> Inbox:
        """Note that these were read. Raises Invalid."""
        _require_self(op)
        if bool(wish.ids) == bool(wish.up_to) or len(wish.ids) > NOTIFICATIONS_KEPT:
            raise Invalid("Say which were read: ids, or up_to the newest one.", where="ids")
        with self._db.write(op) as tx:
            store.mark_read(tx, owner_id(op), ids=wish.ids, up_to=wish.up_to, at_ms=op.at_ms)
        return self.inbox(op)


def _require_self(op: Op) -> None:
    """Whoever is signed in reads what they were told; that they have a role on one thing only does not matter."""
    if not op.can("me.read") and op.actor.kind == "nobody":
        op.require("me.read")


def _notification(row: Told, event: Any, comment: Comment | None, title: str) -> Notification:
    said = comment if comment is not None and comment.removed_at_ms is None else None
    return Notification(
        id=row.id, at_ms=row.at_ms, reason=row.reason, kind=event.kind, subject=row.subject, title=title, actor=event.actor,
        excerpt=excerpt(said.body) if said else "", comment=said.id if said else "", read_at_ms=row.read_at_ms,
    )  # fmt: skip
