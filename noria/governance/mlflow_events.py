"""What MLflow's webhooks say, made from facts: pure.

MLflow has an event for each tag and alias that is set, Noria one fact for a change, so a fact may become several messages, or
none. A message is sent in MLflow's envelope, with its headers and its signature.
Source: mlflow/webhooks/types.py and delivery.py of MLflow 3.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from noria.kernel.events import Event
from noria.registry.model import FIXED_TAGS, PROMPT_TAG, TEXT_TAG, TYPE_TAG, is_prompt

UNTOLD = frozenset({"mlflow.stage"})  # a stage is a tag here, but not in MLflow


class Message(Struct, frozen=True):
    """One message: `event` is `entity.action`."""

    event: str
    data: dict[str, Any]


# Every event there can be, the fact it comes from, and what MLflow sends to try a webhook out.
EVENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "registered_model.created": (
        "model.created",
        {"name": "example_model", "tags": {"example_key": "example_value"}, "description": "An example registered model"},
    ),
    "model_version.created": (
        "model_version.created",
        {
            "name": "example_model", "version": "1", "source": "models:/123", "run_id": "abcd1234abcd5678",
            "tags": {"example_key": "example_value"}, "description": "An example model version",
        },
    ),
    "model_version_tag.set": (
        "model_version.updated", {"name": "example_model", "version": "1", "key": "example_key", "value": "example_value"},
    ),
    "model_version_tag.deleted": (
        "model_version.updated", {"name": "example_model", "version": "1", "key": "example_key"},
    ),
    "model_version_alias.created": (
        "model_version.promoted", {"name": "example_model", "alias": "example_alias", "version": "1"},
    ),
    "model_version_alias.deleted": ("model_version.demoted", {"name": "example_model", "alias": "example_alias"}),
    "prompt.created": (
        "model.created",
        {"name": "example_prompt", "tags": {"example_key": "example_value"}, "description": "An example prompt"},
    ),
    "prompt_version.created": (
        "model_version.created",
        {
            "name": "example_prompt", "version": "1", "template": "Hello {{name}}!",
            "tags": {"example_key": "example_value"}, "description": "An example prompt version",
        },
    ),
    "prompt_tag.set": ("model.updated", {"name": "example_prompt", "key": "example_key", "value": "example_value"}),
    "prompt_tag.deleted": ("model.updated", {"name": "example_prompt", "key": "example_key"}),
    "prompt_version_tag.set": (
        "model_version.updated", {"name": "example_prompt", "version": "1", "key": "example_key", "value": "example_value"},
    ),
    "prompt_version_tag.deleted": (
        "model_version.updated", {"name": "example_prompt", "version": "1", "key": "example_key"},
    ),
    "prompt_alias.created": (
        "model_version.promoted", {"name": "example_prompt", "alias": "example_alias", "version": "1"},
    ),
    "prompt_alias.deleted": ("model_version.demoted", {"name": "example_prompt", "alias": "example_alias"}),
}  # fmt: skip


def kinds_of(events: list[str]) -> list[str]:
    """The kinds of facts that these events come from."""
    return sorted({EVENTS[event][0] for event in events})


def messages(fact: Event, wanted: list[str]) -> list[Message]:
    """What a fact is in MLflow's words, of the events that are wanted."""
    return [message for message in _all(fact) if message.event in wanted]


def _all(fact: Event) -> list[Message]:
    data, name = fact.data, fact.data.get("model", fact.subject.partition(":")[2])
    if fact.kind == "model.created":
        return [_model_created(name, data)]
    if fact.kind == "model.updated":
        return _tags("prompt_tag", {"name": name}, data.get("tags", {})) if data.get("prompt") else []
    version = {"name": name, "version": str(data.get("number", ""))}
    what = "prompt" if data.get("prompt") else "model_version"
    if fact.kind == "model_version.created":
        return [_version_created(version, data)]
    if fact.kind == "model_version.updated":
        return _tags("prompt_version_tag" if data.get("prompt") else "model_version_tag", version, data.get("tags", {}))
    if fact.kind == "model_version.promoted":
        return [Message(f"{what}_alias.created", {"name": name, "alias": data["alias"], "version": version["version"]})]
    if fact.kind == "model_version.demoted":
        return [Message(f"{what}_alias.deleted", {"name": name, "alias": data["alias"]})]
    return []


def _model_created(name: str, data: dict[str, Any]) -> Message:
    tags, about = data.get("tags", {}), data.get("description", "")
    if is_prompt(tags):
        own = {key: value for key, value in tags.items() if key not in (PROMPT_TAG, TYPE_TAG)}
        return Message("prompt.created", {"name": name, "tags": own, "description": about})
    return Message("registered_model.created", {"name": name, "tags": tags, "description": about})


def _version_created(version: dict[str, str], data: dict[str, Any]) -> Message:
    tags, about = data.get("tags", {}), data.get("description", "") or None
    if is_prompt(tags):
        own = {key: value for key, value in tags.items() if key not in FIXED_TAGS}
        return Message(
            "prompt_version.created", {**version, "template": tags.get(TEXT_TAG), "tags": own, "description": about}
        )
    made = {"source": data.get("source", ""), "run_id": data["run_id"] or None, "tags": tags, "description": about}
    return Message("model_version.created", {**version, **made})


def _tags(entity: str, of: dict[str, str], tags: dict[str, str | None]) -> list[Message]:
    return [
        Message(f"{entity}.deleted", {**of, "key": key})
        if value is None
        else Message(f"{entity}.set", {**of, "key": key, "value": value})
        for key, value in tags.items()
        if key not in UNTOLD
    ]


def envelope(message: Message, at_ms: int) -> bytes:
    entity, _, action = message.event.partition(".")
    at = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
    return msgspec.json.encode({"entity": entity, "action": action, "timestamp": at, "data": message.data})


def headers(body: bytes, delivery_id: str, timestamp_s: int, secret: str) -> dict[str, str]:
    """MLflow's headers; a signature when there is a secret."""
    found = {
        "content-type": "application/json",
        "user-agent": "noria-webhook/1",
        "X-MLflow-Delivery-Id": delivery_id,
        "X-MLflow-Timestamp": str(timestamp_s),
    }
    if secret:
        signed = f"{delivery_id}.{timestamp_s}.".encode() + body
        digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
        found["X-MLflow-Signature"] = "v1," + base64.b64encode(digest).decode()
    return found
