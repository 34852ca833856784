"""The conditions of a policy, and how each is judged over evidence. Pure: no clock, no database; missing evidence is a reason."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from noria.kernel.errors import Invalid

COMMENT_LENGTH_MAX = 4_000
APPROVERS_MAX = 10
PATHS_PER_CONDITION = 50
EVIDENCE_BYTES = 256 << 10  # a passport's worth of numbers; more belongs into an artifact, named here by its digest


class MinApprovals(Struct, frozen=True, kw_only=True, tag_field="type", tag="min_approvals", forbid_unknown_fields=True):
    """At least `count` different people approved exactly these bytes.

    `role`: they hold it; `team`: they are in that group, however deep. `of_action`: approvals asked for that action count too. An
    emergency override counts as all of them unless `allow_emergency` is false.
    """

    count: int = 1
    role: str = ""
    team: str = ""
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


class Evidence(Struct, frozen=True, kw_only=True, tag_field="type", tag="evidence", forbid_unknown_fields=True):
    """The evidence has something at each of these paths: not null, not empty."""

    paths: list[str]


class HookSays(Struct, frozen=True, kw_only=True, tag_field="type", tag="hook", forbid_unknown_fields=True):
    """The system behind this webhook says yes to exactly this evidence. Asked last; no answer in time is no."""

    webhook: str


class Cel(Struct, frozen=True, kw_only=True, tag_field="type", tag="cel", forbid_unknown_fields=True):
    """The CEL expression gives true. It may use `evidence`, `approvals` and `now_ms`; `says` is what is said when it does not."""

    expression: str
    says: str = ""


Condition = MinApprovals | ApproverNotAuthor | Metric | SameHoldout | ScanIs | Evidence | HookSays | Cel


class Judged(Struct, frozen=True, kw_only=True):
    """An approval as a condition sees it."""

    approvers: list[str]  # principal ids
    labels: list[str]  # `user:ada`
    roles: list[list[str]]  # each approver's roles when they voted
    teams: list[list[str]]  # and the groups they were in
    is_emergency: bool


def check_condition(condition: Condition, known_actions: frozenset[str]) -> None:
    """Raises Invalid for a condition that cannot be judged."""
    if isinstance(condition, Cel) and len(condition.says) > COMMENT_LENGTH_MAX:
        raise Invalid(f"What an expression says is longer than {COMMENT_LENGTH_MAX} characters.", where="conditions")
    if isinstance(condition, Evidence) and not (
        1 <= len(condition.paths) <= PATHS_PER_CONDITION and all(0 < len(p) <= 256 for p in condition.paths)
    ):
        raise Invalid(f"Evidence names 1 to {PATHS_PER_CONDITION} paths of 1 to 256 characters.", where="conditions")
    if isinstance(condition, HookSays) and not condition.webhook:
        raise Invalid("A hook is named by its webhook.", where="conditions", hint="noria apply a Webhook first.")
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
    if isinstance(condition, Evidence):
        missing = [p for p in condition.paths if at_path(evidence, p) in (None, "", [], {})]
        return f"the evidence lacks {', '.join(missing)}" if missing else ""
    if isinstance(condition, Cel | HookSays):
        return ""  # expressions.py and hooks.py judge them
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
        for who, roles, teams in zip(a.approvers, a.roles, a.teams, strict=True)
        if (not condition.role or condition.role in roles) and (not condition.team or condition.team in teams)
    }
    if len(people) >= condition.count:
        return ""
    what = "approval" if condition.count == 1 else "approvals"
    by = f" by somebody with the role {condition.role}" if condition.role else ""
    by += f" by somebody of the team {condition.team}" if condition.team else ""
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


def evidence_bytes(evidence: dict[str, Any]) -> bytes:
    """Evidence as the bytes its digest is of: JSON with sorted keys."""
    return msgspec.json.encode(evidence, order="sorted")
