"""The nouns of governance: checkpoints of the log, policies and verdicts, approvals and votes, webhooks and deliveries."""

from __future__ import annotations

import fnmatch
import math
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from noria.kernel.errors import Invalid
from noria.kernel.facts import FACTS, Fact, fact
from noria.kernel.ids import check_name

CONDITIONS_PER_POLICY = 16
PATTERNS_PER_MATCH = 50
POLICIES_MAX = 500
REPLAY_MAX = 1_000
EVIDENCE_BYTES = 256 << 10  # a passport's worth of numbers; more belongs into an artifact, named here by its digest
COMMENT_LENGTH_MAX = 4_000
APPROVAL_DAYS = 7
APPROVAL_DAYS_MAX = 90
APPROVERS_MAX = 10
OVERRIDE_REASON_LENGTH_MIN = 10
DAY_MS = 86_400_000

# --- audit ------------------------------------------------------------------------------------------------------------


class Checkpoint(Struct, frozen=True, kw_only=True):
    """A signed statement that the log's first `size` facts give `root`. `note` is the C2SP signed note itself."""

    size: int
    root: str
    at_ms: int
    origin: str
    note: str


class AuditStatus(Struct, frozen=True, kw_only=True):
    """How far the log is sealed and by which key."""

    facts: int
    sealed: int
    checkpoint: Checkpoint | None
    public_key: str


class AuditFault(Struct, frozen=True, kw_only=True):
    """Something wrong with the log; `seq` names the first bad fact when one can be named."""

    kind: str
    seq: int | None
    message: str


class AuditReport(Struct, frozen=True, kw_only=True):
    """What verification of the live log found."""

    is_intact: bool
    facts: int
    sealed: int
    unsealed: int
    root: str
    faults: list[AuditFault]
    warnings: list[AuditFault]
    took_ms: int


class InclusionProof(Struct, frozen=True, kw_only=True):
    """Proof that a fact is in the log of a checkpoint: hash `leaf`, then up along `path` (RFC 9162, 2.1.3)."""

    seq: int
    index: int
    size: int
    leaf: str  # the exact bytes of the leaf, as text
    leaf_hash: str
    path: list[str]
    root: str
    checkpoint: str


class ConsistencyProof(Struct, frozen=True, kw_only=True):
    """Proof that the log at `second` only added to the log at `first` (RFC 9162, 2.1.4)."""

    first: int
    second: int
    path: list[str]
    first_root: str
    second_root: str


@fact("audit.exported")
class AuditExported(Fact):
    """Somebody took a copy of the audit log."""

    size: int


# --- policies ---------------------------------------------------------------------------------------------------------


class MinApprovals(Struct, frozen=True, kw_only=True, tag_field="type", tag="min_approvals", forbid_unknown_fields=True):
    """At least `count` different people approved exactly these bytes. `role`: they hold it. `of_action`: approvals asked for
    that action count too. An emergency override counts as all of them unless `allow_emergency` is false."""

    count: int = 1
    role: str = ""
    of_action: str = ""
    allow_emergency: bool = True


class ApproverNotAuthor(
    Struct, frozen=True, kw_only=True, tag_field="type", tag="approver_not_author", forbid_unknown_fields=True
):
    """Somebody else than the evidence's `author` approved exactly these bytes."""

    of_action: str = ""


class Metric(Struct, frozen=True, kw_only=True, tag_field="type", tag="metric", forbid_unknown_fields=True):
    """The number at `path` of the evidence is at least / at most `value`, or the number at path `than` plus `margin`.

    `first`: what to say when the evidence says that there is nothing to compare with (the root of `than` is null).
    """

    path: str
    op: Literal[">=", "<="]
    value: float | None = None
    than: str = ""
    margin: float = 0.0
    first: Literal["pass", "deny"] = "deny"


class SameHoldout(
    Struct, frozen=True, kw_only=True, tag_field="type", tag="evaluation_on_same_holdout", forbid_unknown_fields=True
):
    """`evaluation` and `champion_evaluation` were measured on the same dataset version and split."""

    first: Literal["pass", "deny"] = "deny"


class ScanIs(Struct, frozen=True, kw_only=True, tag_field="type", tag="scan", forbid_unknown_fields=True):
    """The files were looked through with this result. `safe_formats`: and none is of a format that can run code when read.

    What an administrator accepted counts as clean unless `allow_accepted` is false.
    """

    status: list[Literal["clean", "unscanned", "suspicious"]] = field(default_factory=lambda: ["clean"])
    safe_formats: bool = False
    allow_accepted: bool = True


class Cel(Struct, frozen=True, kw_only=True, tag_field="type", tag="cel", forbid_unknown_fields=True):
    """The CEL expression gives true. It may use `evidence`, `approvals` and `now_ms`; `says` is what is said when it does not."""

    expression: str
    says: str = ""


Condition = MinApprovals | ApproverNotAuthor | Metric | SameHoldout | ScanIs | Cel


class Match(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which acts a policy is for: shell patterns; an empty list means all. Evidence that lacks the key counts as a match."""

    models: list[str] = []
    aliases: list[str] = []
    endpoints: list[str] = []


class PolicySpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule as it is written."""

    name: str
    action: str
    conditions: list[Condition]
    match: Match = field(default_factory=Match)
    mode: Literal["enforce", "warn"] = "enforce"
    enabled: bool = True
    message: str = ""  # shown to whoever is refused: whom to ask, where to read


class PolicyBody(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule as it is put at /policies/{name}."""

    action: str
    conditions: list[Condition]
    name: str = ""
    match: Match = field(default_factory=Match)
    mode: Literal["enforce", "warn"] = "enforce"
    enabled: bool = True
    message: str = ""


class Policy(Struct, frozen=True, kw_only=True):
    """A rule over evidence, in its current version."""

    name: str
    version: int
    action: str
    conditions: list[Condition]
    match: Match
    mode: Literal["enforce", "warn"]
    enabled: bool
    message: str
    created_at_ms: int
    updated_at_ms: int
    actor: str


class JudgedVerdict(Struct, frozen=True, kw_only=True):
    """What one policy said of one act, kept."""

    id: str
    at_ms: int
    op_id: str
    actor: str
    action: str
    subject: str
    policy: str
    policy_version: int
    allowed: bool
    mode: Literal["enforce", "warn"]
    reason: str
    evidence_digest: str


class Trial(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Evidence to try a policy on; nothing is kept."""

    subject: str
    evidence: dict[str, Any]


class TrialAnswer(Struct, frozen=True, kw_only=True):
    """What a policy would say."""

    applies: bool
    allowed: bool
    reason: str


class PolicyReplay(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Try a rule on past decisions: the one that is kept, or `rule`, which need not be."""

    limit: int = 100
    rule: PolicyBody | None = None


class ReplayedDecision(Struct, frozen=True, kw_only=True):
    """What the rule says of one past decision, and what was said then (by all rules together)."""

    at_ms: int
    actor: str
    subject: str
    was_allowed: bool
    allowed: bool
    reason: str


class PolicyReplayAnswer(Struct, frozen=True, kw_only=True):
    """`decisions` were looked at, newest first; `items` are those that the rule is for."""

    decisions: int
    allowed: int
    refused: int
    changed: int  # said otherwise than then
    items: list[ReplayedDecision]


@fact("policy.saved")
class PolicySaved(Fact):
    """A policy was made or changed; the whole rule is in the record."""

    version: int
    spec: dict[str, Any]


@fact("policy.deleted")
class PolicyDeleted(Fact):
    """A policy was removed."""

    version: int


@fact("policy.judged")
class PolicyJudged(Fact):
    """Policies were asked about an act; written also when the act was refused."""

    action: str
    allowed: bool
    evidence_digest: str
    verdicts: list[dict[str, Any]]


class Judged(Struct, frozen=True, kw_only=True):
    """An approval as a condition sees it."""

    approvers: list[str]  # principal ids
    labels: list[str]  # `user:ada`
    roles: list[list[str]]  # each approver's roles when they voted
    is_emergency: bool


def check_policy(spec: PolicySpec, known_actions: frozenset[str]) -> PolicySpec:
    """`spec` if it can be judged; else Invalid."""
    check_name(spec.name, what="policy")
    if spec.action not in known_actions:
        raise Invalid(
            f"There is no action {spec.action!r}.", where="action", hint="Policies guard model.promote and endpoint.deploy."
        )
    if not 1 <= len(spec.conditions) <= CONDITIONS_PER_POLICY:
        raise Invalid(f"A policy has between 1 and {CONDITIONS_PER_POLICY} conditions.", where="conditions")
    for patterns in (spec.match.models, spec.match.aliases, spec.match.endpoints):
        if len(patterns) > PATTERNS_PER_MATCH or any(len(p) > 256 or not p for p in patterns):
            raise Invalid(f"A match has at most {PATTERNS_PER_MATCH} patterns of 1 to 256 characters.", where="match")
    if len(spec.message) > COMMENT_LENGTH_MAX:
        raise Invalid(f"The message is longer than {COMMENT_LENGTH_MAX} characters.", where="message")
    for condition in spec.conditions:
        _check_condition(condition, known_actions)
    return spec


def _check_condition(condition: Condition, known_actions: frozenset[str]) -> None:
    if isinstance(condition, Cel) and len(condition.says) > COMMENT_LENGTH_MAX:
        raise Invalid(f"What an expression says is longer than {COMMENT_LENGTH_MAX} characters.", where="conditions")
    if isinstance(condition, MinApprovals) and not 1 <= condition.count <= APPROVERS_MAX:
        raise Invalid(f"count must be between 1 and {APPROVERS_MAX}.", where="conditions")
    if isinstance(condition, MinApprovals | ApproverNotAuthor) and condition.of_action not in {"", *known_actions}:
        raise Invalid(f"There is no action {condition.of_action!r}.", where="conditions")
    if not isinstance(condition, Metric):
        return
    if not condition.path or len(condition.path) > 256 or len(condition.than) > 256:
        raise Invalid(
            "A metric's path has 1 to 256 characters.", where="conditions", hint="For instance evaluation.metrics.auc."
        )
    if (condition.value is None) == (not condition.than):
        raise Invalid("A metric is compared with either `value` or `than`.", where="conditions")
    if not math.isfinite(condition.margin) or (condition.value is not None and not math.isfinite(condition.value)):
        raise Invalid("A limit must be a finite number.", where="conditions")


def applies(match: Match, evidence: dict[str, Any]) -> bool:
    """Is a policy with `match` meant for an act with this evidence? A key that is missing counts as a match: fail closed."""
    return all(
        not patterns or not isinstance(value, str) or any(fnmatch.fnmatchcase(value, p) for p in patterns)
        for patterns, value in (
            (match.models, evidence.get("model")),
            (match.aliases, evidence.get("alias")),
            (match.endpoints, evidence.get("endpoint")),
        )
    )


def judge_conditions(conditions: list[Condition], evidence: dict[str, Any], approvals: dict[str, list[Judged]]) -> list[str]:
    """Why the conditions do not hold; empty when they do. Pure.

    `approvals`: for each `of_action` of the conditions, the granted approvals of these bytes. Missing evidence is a reason.
    """
    return [reason for c in conditions if (reason := _judge(c, evidence, approvals))]


def _judge(condition: Condition, evidence: dict[str, Any], approvals: dict[str, list[Judged]]) -> str:
    if isinstance(condition, MinApprovals):
        return _judge_count(condition, evidence, approvals.get(condition.of_action, []))
    if isinstance(condition, ApproverNotAuthor):
        return _judge_author(evidence, approvals.get(condition.of_action, []))
    if isinstance(condition, Metric):
        return _judge_metric(condition, evidence)
    if isinstance(condition, Cel):
        return ""  # expressions.py judges it
    if isinstance(condition, ScanIs):
        return _judge_scan(condition, evidence)
    return _judge_holdout(condition, evidence)


def _judge_count(condition: MinApprovals, evidence: dict[str, Any], approvals: list[Judged]) -> str:
    if not evidence.get("digest"):
        return "the evidence names no digest, so no approval can be for it"
    if condition.allow_emergency and any(a.is_emergency for a in approvals):
        return ""
    people = {
        who
        for a in approvals
        if not a.is_emergency
        for who, roles in zip(a.approvers, a.roles, strict=True)
        if not condition.role or condition.role in roles
    }
    if len(people) >= condition.count:
        return ""
    what = "approval" if condition.count == 1 else "approvals"
    by = f" by somebody with the role {condition.role}" if condition.role else ""
    return f"{condition.count} {what}{by} of digest {str(evidence['digest'])[:12]} needed, {len(people)} given"


def _judge_author(evidence: dict[str, Any], approvals: list[Judged]) -> str:
    author = evidence.get("author")
    if not isinstance(author, str) or not author:
        return "the evidence names no author"
    names = author_names(author)
    others = (
        who not in names and label not in names for a in approvals for who, label in zip(a.approvers, a.labels, strict=True)
    )
    if any(others) or any(a.is_emergency for a in approvals):
        return ""
    return f"an approval by somebody else than {author} is needed"


def _judge_metric(condition: Metric, evidence: dict[str, Any]) -> str:
    found = number_at(evidence, condition.path)
    if found is None:
        return f"the evidence has no number at {condition.path}"
    limit = condition.value
    if condition.than:
        if is_first(evidence, condition.than):
            return "" if condition.first == "pass" else "there is no champion to compare with"
        limit = number_at(evidence, condition.than)
    if limit is None:
        return f"the evidence has no number at {condition.than}"
    limit += condition.margin
    holds = found >= limit if condition.op == ">=" else found <= limit
    return "" if holds else f"{condition.path} is {found:.6g}, must be {condition.op} {limit:.6g}"


def _judge_holdout(condition: SameHoldout, evidence: dict[str, Any]) -> str:
    if is_first(evidence, "champion_evaluation"):
        return "" if condition.first == "pass" else "there is no champion to compare with"
    for key in ("dataset_version", "split"):
        ours, theirs = at_path(evidence, f"evaluation.{key}"), at_path(evidence, f"champion_evaluation.{key}")
        if key == "dataset_version" and (not ours or not theirs):
            return "the evidence does not say on which data both were evaluated"
        if ours != theirs:
            return f"evaluated on {key} {ours!r}, the champion on {theirs!r}"
    return ""


def _judge_scan(condition: ScanIs, evidence: dict[str, Any]) -> str:
    status = at_path(evidence, "scan.status")
    if not isinstance(status, str):
        return "the evidence does not say what a scan of the files found"
    is_accepted = condition.allow_accepted and bool(at_path(evidence, "scan.accepted_by"))
    if status not in condition.status and not is_accepted:
        return f"the scan of the files says {status}, must be {' or '.join(condition.status)}"
    if condition.safe_formats and at_path(evidence, "scan.is_safe") is not True:
        return "a file is of a format that can run code when it is read"
    return ""


def at_path(evidence: dict[str, Any], path: str) -> Any:
    """The value at `a.b.c`; None when there is none. A key may hold dots itself: the longest match wins."""
    found: Any = evidence
    parts = path.split(".")
    while parts:
        if not isinstance(found, dict):
            return None
        for length in range(len(parts), 0, -1):
            key = ".".join(parts[:length])
            if key in found:
                found, parts = found[key], parts[length:]
                break
        else:
            return None
    return found


def number_at(evidence: dict[str, Any], path: str) -> float | None:
    """The finite number at `path`, else None: NaN, infinity, text and truth values are no numbers to decide on."""
    found = at_path(evidence, path)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    try:
        value = float(found)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def is_first(evidence: dict[str, Any], path: str) -> bool:
    """Does the evidence say that there is no champion: an explicit null where `path` starts, and none named elsewhere?"""
    root = path.split(".")[0]
    has_champion = evidence.get("champion") is not None or evidence.get("champion_version") is not None
    return root in evidence and evidence[root] is None and not has_champion


def author_names(label: str) -> frozenset[str]:
    """Every name an actor label counts as: itself, without `for …`, and whom it acts for."""
    plain, _, principal = label.partition(" for ")
    return frozenset({label, plain, principal} - {""})


# --- approvals --------------------------------------------------------------------------------------------------------

ApprovalState = Literal["pending", "granted", "rejected", "expired", "withdrawn"]


class Vote(Struct, frozen=True, kw_only=True):
    """What one person said."""

    principal_id: str
    actor: str
    decision: Literal["approve", "reject", "override"]
    comment: str
    at_ms: int
    roles: list[str] = []


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
    votes: list[Vote] = []


class ApprovalRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to ask."""

    subject: str
    action: str
    digest: str
    evidence: dict[str, Any] = {}
    required: int = 1
    roles: list[str] = []
    comment: str = ""
    expires_in_days: int = APPROVAL_DAYS


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


@fact("approval.voted")
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


@fact("approval.rejected")
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


@fact("approval.overridden")
class ApprovalOverridden(Fact):
    """EMERGENCY: an administrator went past the approval, alone. To be looked at afterwards, always."""

    about: str
    action: str
    digest: str
    reason: str


# --- webhooks ---------------------------------------------------------------------------------------------------------


class NewWebhook(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A webhook as it is written. `kinds` are event kinds or patterns (`model_version.*`). Without a secret one is made."""

    url: str
    kinds: list[str]
    name: str = ""
    secret: str = ""
    enabled: bool = True
    allow_private: bool = False


class Webhook(Struct, frozen=True, kw_only=True):
    """Where facts are sent to. The secret is never shown again."""

    name: str
    url: str
    kinds: list[str]
    enabled: bool
    allow_private: bool
    created_at_ms: int
    updated_at_ms: int
    from_seq: int
    format: Literal["noria", "mlflow"] = "noria"  # whose messages it gets
    id: str = ""  # of those that get MLflow's, like the two below
    description: str = ""
    events: list[str] = []
    secret: str | UnsetType = UNSET  # only in the answer that made it


class Delivery(Struct, frozen=True, kw_only=True):
    """One fact on its way to one webhook."""

    id: str
    webhook: str
    seq: int
    state: Literal["queued", "delivered", "failed"]
    attempts: int
    status: int | None
    error: str
    answer: str
    created_at_ms: int
    done_at_ms: int | None


@fact("webhook.saved")
class WebhookSaved(Fact):
    """A webhook was made or changed."""

    url: str
    kinds: list[str]
    enabled: bool
    allow_private: bool


@fact("webhook.deleted")
class WebhookDeleted(Fact):
    """A webhook was removed."""


UNSENDABLE = ("job.", "webhook.")  # facts about sending would cause facts about sending


def matches_kind(patterns: list[str], kind: str) -> bool:
    """Is a fact of `kind` wanted?"""
    return not kind.startswith(UNSENDABLE) and any(fnmatch.fnmatchcase(kind, p) for p in patterns)


def check_kinds(patterns: list[str]) -> list[str]:
    """`patterns` if each matches at least one declared kind of event; else Invalid."""
    if not 1 <= len(patterns) <= PATTERNS_PER_MATCH:
        raise Invalid(f"A webhook names between 1 and {PATTERNS_PER_MATCH} kinds of events.", where="kinds")
    for pattern in patterns:
        if len(pattern) > 100 or not any(matches_kind([pattern], kind) for kind in FACTS):
            raise Invalid(f"No event kind that can be sent matches {pattern[:100]!r}.", where="kinds")
    return patterns


def evidence_bytes(evidence: dict[str, Any]) -> bytes:
    """Evidence as the bytes its digest is of: JSON with sorted keys."""
    return msgspec.json.encode(evidence, order="sorted")
