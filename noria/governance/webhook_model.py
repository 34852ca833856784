"""The nouns of webhooks: where facts are sent to, and each fact on its way."""

from __future__ import annotations

import fnmatch
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from noria.kernel.errors import Invalid
from noria.kernel.facts import FACTS, Fact, fact

KINDS_PER_WEBHOOK = 50


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


def matches_kind(patterns: list[str], kind: str, *, unsendable: tuple[str, ...] = UNSENDABLE) -> bool:
    """Is a fact of `kind` wanted?"""
    return not kind.startswith(unsendable) and any(fnmatch.fnmatchcase(kind, p) for p in patterns)


def check_kinds(patterns: list[str], *, what: str = "webhook", unsendable: tuple[str, ...] = UNSENDABLE) -> list[str]:
    """`patterns` if each matches at least one declared kind of event that is sent; else Invalid."""
    if not 1 <= len(patterns) <= KINDS_PER_WEBHOOK:
        raise Invalid(f"A {what} names between 1 and {KINDS_PER_WEBHOOK} kinds of events.", where="kinds")
    for pattern in patterns:
        if len(pattern) > 100 or not any(matches_kind([pattern], kind, unsendable=unsendable) for kind in FACTS):
            raise Invalid(f"No event kind that can be sent matches {pattern[:100]!r}.", where="kinds")
    return patterns
