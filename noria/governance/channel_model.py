"""The nouns of channels: where people are told of alerts, and each message on its way."""

from __future__ import annotations

import fnmatch
from typing import Literal

from msgspec import Struct, field

from noria.governance import webhook_model
from noria.kernel.errors import Invalid
from noria.kernel.events import Event
from noria.kernel.facts import Fact, fact

KINDS = ["alert.opened", "alert.resolved"]
PATTERNS_MAX = 50
UNSENDABLE = (*webhook_model.UNSENDABLE, "channel.")
SEVERITIES = ("warn", "alert")


class NewChannel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A channel as it is written. `url` is Apprise's, such as slack://…; left out, the one that is there stays."""

    url: str = ""
    kinds: list[str] = field(default_factory=lambda: list(KINDS))
    min_severity: Literal["warn", "alert"] = "warn"  # of alerts
    monitors: list[str] = []  # names or patterns; empty: all
    endpoints: list[str] = []
    enabled: bool = True
    allow_private: bool = False
    description: str = ""


class Channel(Struct, frozen=True, kw_only=True):
    """Where people are told. The address is written and never read back; `shown` is what is left of it without its secrets."""

    name: str
    service: str
    shown: str
    kinds: list[str]
    min_severity: Literal["warn", "alert"]
    monitors: list[str]
    endpoints: list[str]
    enabled: bool
    allow_private: bool
    description: str
    created_at_ms: int
    updated_at_ms: int
    from_seq: int
    actor: str = ""


class Message(Struct, frozen=True, kw_only=True):
    """What is said of a fact."""

    title: str
    body: str
    tone: Literal["info", "success", "warning", "failure"] = "info"


class ChannelDelivery(Struct, frozen=True, kw_only=True):
    """One fact on its way to one channel. `dropped`: too many waited."""

    id: str
    channel: str
    seq: int
    state: Literal["queued", "delivered", "failed", "dropped"]
    attempts: int
    error: str
    created_at_ms: int
    done_at_ms: int | None


class ChannelTest(Struct, frozen=True, kw_only=True):
    """What became of a test message."""

    delivered: bool
    error: str
    took_ms: float


@fact("channel.saved")
class ChannelSaved(Fact):
    """A channel was made or changed."""

    service: str
    kinds: list[str]
    min_severity: str
    enabled: bool
    allow_private: bool


@fact("channel.deleted")
class ChannelDeleted(Fact):
    """A channel was removed."""


def matches(patterns: list[str], value: str) -> bool:
    """Does a name match one of the patterns, or are there none?"""
    return not patterns or any(fnmatch.fnmatchcase(value, p) for p in patterns)


def wants(channel: Channel, event: Event) -> bool:
    """Is this fact for this channel?"""
    if event.kind.startswith(UNSENDABLE) or not matches(channel.kinds, event.kind):
        return False
    severity = str(event.data.get("severity") or "")
    if severity in SEVERITIES and SEVERITIES.index(severity) < SEVERITIES.index(channel.min_severity):
        return False
    monitor, endpoint = str(event.data.get("monitor") or ""), str(event.data.get("endpoint") or "")
    if event.subject.startswith("endpoint:"):
        endpoint = endpoint or event.subject.partition(":")[2]
    return matches(channel.monitors, monitor) and matches(channel.endpoints, endpoint)


def message_of(event: Event, *, url: str) -> Message:
    """A fact in words: an alert as one wants to read it on a phone, anything else as its kind and its data."""
    data = event.data
    link = f"\n{url}/alerts/{data['alert']}" if url and data.get("alert") else ""
    if event.kind == "alert.opened":
        owner = f"\nOwner: {data['owner']}" if data.get("owner") else ""
        why = f"\n{data['why']}" if data.get("why") else ""
        return Message(
            title=f"{data['monitor']}: {data['metric']} of {data['endpoint']} is {data['value']:.4g}, limit {data['limit']:g}",
            body=f"An alert is open ({data['severity']}).{why}{owner}{link}",
            tone="failure" if data.get("severity") == "alert" else "warning",
        )
    if event.kind == "alert.resolved":
        return Message(
            title=f"{data['monitor']}: resolved ({data['endpoint']})", body=f"{data['reason']}{link}", tone="success"
        )
    lines = [f"{k}: {v}" for k, v in data.items() if isinstance(v, str | int | float | bool) and str(v)]
    return Message(title=f"{event.kind}: {event.subject}", body="\n".join(lines)[:3000] or f"by {event.actor}")


def check_patterns(patterns: list[str], where: str) -> None:
    """Raises Invalid when there are too many, or one is no name."""
    if len(patterns) > PATTERNS_MAX or any(not p or len(p) > 200 for p in patterns):
        raise Invalid(f"A channel names at most {PATTERNS_MAX} {where}.", where=where)
