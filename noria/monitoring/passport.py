"""The passport of one prediction: what answered, where that came from, who let it, and what was known of it at the time."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, structs

from noria.kernel.db import Read
from noria.kernel.events import Event
from noria.kernel.ids import Ref
from noria.monitoring import facts_store, monitors_store
from noria.monitoring.model import Alert, Inference, Monitor, Window

FACTS_MAX = 200


class MonitorThen(Struct, frozen=True, kw_only=True):
    """What a monitor said about the time of the prediction."""

    name: str
    metric: str
    limit: float
    window: Window | None  # the judged window in which the prediction lies, else the last one before it


class Passport(Struct, frozen=True, kw_only=True):
    """One document about one prediction. Parts that are not recorded are null or empty, never left out."""

    prediction: Inference
    endpoint: dict[str, Any] | None
    revision: dict[str, Any] | None
    deployed_by: str
    model_version_id: str
    model_version: dict[str, Any] | None
    facts: list[Event]  # how the version and the revision came to be, up to the answer
    approvals: list[Event]
    alerts_then: list[Alert]
    monitors_then: list[MonitorThen]


def without_contents(found: Inference) -> Inference:
    """That there was an answer, when and by what; not whom it was about, what was asked, said or true."""
    return structs.replace(
        found, key="", score=None, prediction=None, inputs=None, output=None, truth=None, truth_at_ms=None
    )  # fmt: skip


def monitors_then(tx: Read, endpoint: str, event_at_ms: int) -> list[MonitorThen]:
    """What each monitor of an endpoint said about an event time."""
    return [_then(tx, m, event_at_ms) for m in monitors_store.monitors(tx, endpoint=endpoint, limit=50)]


def _then(tx: Read, monitor: Monitor, event_at_ms: int) -> MonitorThen:
    window = monitors_store.window_over(tx, monitor.id, event_at_ms) or monitors_store.last_window_before(
        tx, monitor.id, event_at_ms
    )
    return MonitorThen(name=monitor.name, metric=monitor.spec.metric, limit=monitor.spec.limit, window=window)


def approvals_of(tx: Read, version_id: str, before_ms: int) -> list[Event]:
    """The approvals of a model version, as facts, up to a time (of the wall clock), oldest first."""
    ref = str(Ref("model_version", version_id))
    answered = facts_store.facts_of_kinds(tx, ("approval.granted", "approval.rejected"), before_ms=before_ms, limit=2_000)
    return [e for e in answered if e.data.get("about") == ref]


def facts_of(tx: Read, version_id: str, revision_id: str, before_ms: int) -> list[Event]:
    """What is recorded of a model version and its revision up to a time, oldest first."""
    subjects = [str(Ref("model_version", version_id)), str(Ref("revision", revision_id))]
    return [e for e in facts_store.facts_about(tx, [], subjects, limit=FACTS_MAX) if e.at_ms <= before_ms]


def deployer(facts: list[Event], fallback: str) -> str:
    """Who asked for the revision."""
    return next((e.actor for e in facts if e.kind == "revision.created"), fallback)


def as_document(value: Any) -> dict[str, Any] | None:
    """Whatever another slice answered, as JSON."""
    built = msgspec.to_builtins(value)
    return built if isinstance(built, dict) else None
