"""Access reviews: who may what, written down at one time, and for each a decision to keep it or to take it away.

Taking away is done by the review itself, through the access service, so a decision and what came of it cannot differ. Nobody decides about
what they have themselves, or by a group while an administrator is outside of it. A review is closed once everything in it is decided.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from noria.access.service import Access
from noria.kernel.db import Database, Read
from noria.kernel.errors import Conflict, Forbidden, Invalid, NotFound
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import Ref, new_id
from noria.kernel.op import Op

ITEMS_MAX = 20_000
REASON_LENGTH_MAX = 2_000


class ReviewItem(Struct, frozen=True, kw_only=True):
    """Something that somebody had when the review began: a role on a scope ('' is everything), or a clearance for a label."""

    position: int
    kind: Literal["role", "clearance"]
    principal: str
    what: str
    scope: str
    expires_at_ms: int | None = None
    granted_by: str = ""
    last_seen_ms: int | None = None  # when whoever has it was last seen; null: never, or a group
    decision: Literal["", "keep", "revoke"] = ""
    reason: str = ""
    actor: str = ""
    at_ms: int | None = None


class AccessReview(Struct, frozen=True, kw_only=True):
    """A review, with how much of it is decided."""

    id: str
    title: str
    created_at_ms: int
    actor: str
    closed_at_ms: int | None = None
    closed_by: str = ""
    items_count: int = 0
    open_count: int = 0
    revoked_count: int = 0


class ReviewPage(Struct, frozen=True, kw_only=True):
    """A review with everything in it."""

    review: AccessReview
    items: list[ReviewItem]


class NewReview(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a review is called, such as the quarter."""

    title: str


class ReviewDecision(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keep it, or take it away; a reason is needed for neither, and kept."""

    decision: Literal["keep", "revoke"]
    reason: str = ""


@fact("access_review.started")
class AccessReviewStarted(Fact):
    """Somebody began to look through who may what."""

    title: str
    items: int


@fact("access_review.decided")
class AccessReviewDecided(Fact):
    """Something that somebody may do is kept, or was taken away."""

    position: int
    principal: str
    what: str
    scope: str
    decision: str
    reason: str


@fact("access_review.closed")
class AccessReviewClosed(Fact):
    """Everything in a review is decided."""

    items: int
    revoked: int


_REVIEW = """select r.id, r.title, r.created_at_ms, r.actor, r.closed_at_ms, r.closed_by,
       (select count(*) from access_review_item i where i.review_id = r.id) as items_count,
       (select count(*) from access_review_item i where i.review_id = r.id and i.decision = '') as open_count,
       (select count(*) from access_review_item i where i.review_id = r.id and i.decision = 'revoke') as revoked_count
  from access_review r"""
_ITEM = """position, kind, principal, what, scope, expires_at_ms, granted_by, last_seen_ms, decision, reason, actor, at_ms"""


class Reviews:
    """See the module."""

    def __init__(self, db: Database, access: Access) -> None:
        self._db, self._access = db, access

    def reviews(self, op: Op) -> list[AccessReview]:
        """Newest first."""
        op.require("access.read")
        with self._db.read() as tx:
            return tx.all(AccessReview, f"{_REVIEW} order by r.id desc limit 200")

    def review(self, op: Op, review_id: str) -> ReviewPage:
        """Raises NotFound."""
        op.require("access.read")
        with self._db.read() as tx:
            return self._page(tx, review_id)

    @staticmethod
    def _page(tx: Read, review_id: str) -> ReviewPage:
        found = tx.one(AccessReview, f"{_REVIEW} where r.id = :id", id=review_id)
        if found is None:
            raise NotFound(f"There is no access review {review_id[:64]}.")
        items = tx.all(
            ReviewItem, f"select {_ITEM} from access_review_item where review_id = :id order by position limit :limit",
            id=review_id, limit=ITEMS_MAX,
        )  # fmt: skip
        return ReviewPage(review=found, items=items)

    def start(self, op: Op, new: NewReview) -> ReviewPage:
        """Write down who may what now. Raises Invalid, Conflict (one is open, or there is nothing to review), Forbidden."""
        op.require("access.write")
        title = new.title.strip()
        if not 1 <= len(title) <= 200:
            raise Invalid("A review has a title of at most 200 characters.", where="title")
        review_id = new_id(op.at_ms)
        with self._db.write(op) as tx:
            if open_id := tx.scalar("select id from access_review where closed_at_ms is null limit 1"):
                raise Conflict(
                    "A review is open already.", ref=f"access_review:{open_id}", hint="Decide what is left of it first."
                )
            rows = _held(tx, op.at_ms)
            if not rows:
                raise Conflict("Nobody has a role or a clearance yet, so there is nothing to review.")
            tx.run(
                "insert into access_review (id, title, created_at_ms, actor) values (:id, :title, :at_ms, :actor)",
                id=review_id, title=title, at_ms=op.at_ms, actor=op.actor.label,
            )  # fmt: skip
            tx.many(
                """insert into access_review_item
                       (review_id, position, kind, principal_id, principal, what, scope, expires_at_ms, granted_by, last_seen_ms)
                   values (:review_id, :position, :kind, :principal_id, :principal, :what, :scope, :expires_at_ms, :granted_by,
                           :last_seen_ms)""",
                [{**row, "review_id": review_id, "position": i} for i, row in enumerate(rows, 1)],
            )
            tx.emit("access_review.started", Ref("access_review", review_id), title=title, items=len(rows))
        return self.review(op, review_id)

    def decide(self, op: Op, review_id: str, position: int, decision: ReviewDecision) -> ReviewPage:
        """Keep or take away one thing; the last decision closes the review. Raises NotFound, Conflict (decided), Forbidden."""
        op.require("access.write")
        if len(decision.reason) > REASON_LENGTH_MAX:
            raise Invalid(f"The reason has at most {REASON_LENGTH_MAX} characters.", where="reason")
        item, owner = self._open_item(op, review_id, position)
        if not self._access.may_judge(op, owner):
            raise Forbidden("Nobody decides about what they have themselves.", ref=f"access_review:{review_id}")
        if decision.decision == "revoke":  # what is gone since the review began stays gone
            self._access.take(op, owner, item.kind, item.what, item.scope)
        with self._db.write(op) as tx:
            changed = tx.run(
                """update access_review_item set decision = :decision, reason = :reason, actor = :actor, at_ms = :at_ms
                    where review_id = :id and position = :position and decision = ''""",
                id=review_id, position=position, decision=decision.decision, reason=decision.reason, actor=op.actor.label,
                at_ms=op.at_ms,
            )  # fmt: skip
            if not changed:
                raise Conflict("Somebody else decided this at the same time.", ref=f"access_review:{review_id}")
            ref = Ref("access_review", review_id)
            tx.emit(
                "access_review.decided", ref, position=position, principal=item.principal, what=item.what, scope=item.scope,
                decision=decision.decision, reason=decision.reason,
            )  # fmt: skip
            page = self._page(tx, review_id).review
            if not page.open_count and tx.run(
                "update access_review set closed_at_ms = :at_ms, closed_by = :by where id = :id and closed_at_ms is null",
                id=review_id, at_ms=op.at_ms, by=op.actor.label,
            ):  # fmt: skip
                tx.emit("access_review.closed", ref, items=page.items_count, revoked=page.revoked_count)
        return self.review(op, review_id)

    def _open_item(self, op: Op, review_id: str, position: int) -> tuple[ReviewItem, str]:
        """An item that is not decided, and the id of whoever has it."""
        with self._db.read() as tx:
            self._page(tx, review_id)
            args = {"id": review_id, "position": position}
            found = tx.one(
                ReviewItem, f"select {_ITEM} from access_review_item where review_id = :id and position = :position", **args
            )
            owner = tx.scalar(
                "select principal_id from access_review_item where review_id = :id and position = :position", **args
            )
        if found is None:
            raise NotFound(f"This review has no item {position}.", ref=f"access_review:{review_id}")
        if found.decision:
            raise Conflict(f"This was decided already: {found.decision}.", ref=f"access_review:{review_id}")
        return found, str(owner)


def _held(tx: Read, at_ms: int) -> list[dict[str, Any]]:
    """Every role and clearance in force, by who has it."""
    seen = """(select max(at) from (
                  select max(seen_at_ms) as at from session s where s.principal_id = p.id
                  union all select max(last_used_at_ms) from token t where t.principal_id = p.id) x)"""
    rows = tx.rows(
        f"""select 'role' as kind, p.id as principal_id, p.name as principal, b.role as what, b.scope, b.expires_at_ms,
                   b.granted_by, {seen} as last_seen_ms
              from binding b join principal p on p.id = b.principal_id
             where p.is_active and (b.expires_at_ms is null or b.expires_at_ms > :at_ms)
            union all
            select 'clearance', p.id, p.name, c.label, '', c.expires_at_ms, c.granted_by, {seen}
              from clearance c join principal p on p.id = c.principal_id
             where p.is_active and (c.expires_at_ms is null or c.expires_at_ms > :at_ms)
             order by 3, 1, 4, 5 limit :limit""",
        at_ms=at_ms, limit=ITEMS_MAX,
    )  # fmt: skip
    return [dict(r) for r in rows]
