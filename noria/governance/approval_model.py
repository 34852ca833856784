"""The nouns of approvals: questions, votes, and the facts about them."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from noria.kernel.facts import Fact, fact

APPROVAL_DAYS = 7
APPROVAL_DAYS_MAX = 90
OVERRIDE_REASON_LENGTH_MIN = 10
DAY_MS = 86_400_000


ApprovalState = Literal["pending", "granted", "rejected", "expired", "withdrawn"]


class Vote(Struct, frozen=True, kw_only=True):
    """What one person said."""

    principal_id: str
    actor: str
    decision: Literal["approve", "reject", "override"]
    comment: str
    at_ms: int
    roles: list[str] = []
    teams: list[str] = []  # the groups they were in, however deep


class Approval(Struct, frozen=True, kw_only=True):
    """A question whether `action` may be done with exactly the bytes `digest`, and its answer so far.

    Pending until `expires_at_ms`; once granted, `expires_at_ms` is until when it counts.
    """

    id: str
    subject: str
    action: str
    digest: str
    evidence: dict[str, Any]
    required: int
    roles: list[str]
    state: ApprovalState
    requested_by: str
    authors: list[str]
    comment: str
    created_at_ms: int
    expires_at_ms: int
    closed_at_ms: int | None
    is_emergency: bool
    teams: list[str] = []  # only members of one of these may answer; none: of any
    reviewed_by: str = ""  # of an emergency override: who looked at it afterwards, and what they found
    review: str = ""
    reviewed_at_ms: int | None = None
    votes: list[Vote] = []


class ApprovalRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to ask."""

    subject: str
    action: str
    digest: str
    evidence: dict[str, Any] = {}
    required: int = 1
    roles: list[str] = []
    teams: list[str] = []
    comment: str = ""
    expires_in_days: int = APPROVAL_DAYS


class OverrideReview(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a review found."""

    finding: str


class Decision(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An answer. `digest`, when given, must be the one that was asked about: what you saw is what you approve."""

    comment: str = ""
    digest: str = ""


@fact("approval.requested")
class ApprovalRequested(Fact):
    """Somebody asked for an approval of exactly these bytes."""

    about: str
    action: str
    digest: str
    required: int


@fact("approval.voted", personal=("comment",))
class ApprovalVoted(Fact):
    """Somebody approved or rejected; `votes` of `required` approvals are there now."""

    about: str
    decision: str
    comment: str
    votes: int
    required: int


@fact("approval.granted")
class ApprovalGranted(Fact):
    """Enough people approved."""

    about: str
    action: str
    digest: str
    approvers: list[str]
    expires_at_ms: int


@fact("approval.rejected", personal=("reason",))
class ApprovalRejected(Fact):
    """Somebody said no; that ends it."""

    about: str
    action: str
    digest: str
    reason: str


@fact("approval.expired")
class ApprovalExpired(Fact):
    """Nobody answered in time, or a granted approval no longer counts."""

    about: str
    action: str
    digest: str
    was: str


@fact("approval.withdrawn")
class ApprovalWithdrawn(Fact):
    """Whoever asked no longer does."""

    about: str
    action: str


@fact("approval.overridden", personal=("reason",))
class ApprovalOverridden(Fact):
    """EMERGENCY: an administrator went past the approval, alone. To be looked at afterwards, always."""

    about: str
    action: str
    digest: str
    reason: str


@fact("approval.reviewed", personal=("finding",))
class ApprovalReviewed(Fact):
    """Somebody else than who did it looked at an emergency override."""

    about: str
    action: str
    finding: str
