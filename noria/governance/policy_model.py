"""The nouns of policies: rules as they are written and kept, verdicts, trials and replays."""

from __future__ import annotations

import fnmatch
from typing import Any, Literal

from msgspec import Struct, field

from noria.governance.conditions import COMMENT_LENGTH_MAX, Condition, check_condition
from noria.kernel.errors import Invalid
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import check_name

CONDITIONS_PER_POLICY = 16
PATTERNS_PER_MATCH = 50
POLICIES_MAX = 500
REPLAY_MAX = 1_000


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
        check_condition(condition, known_actions)
    return spec


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
