"""MLflow's webhook protocol, translated. Source of the shapes: mlflow/protos/webhooks.proto of MLflow 3."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from noria.governance.mlflow_hooks import HookChange, MlflowHooks
from noria.governance.webhook_model import Webhook
from noria.http.route import Routes, delete, get, patch, post
from noria.kernel.errors import Invalid
from noria.kernel.op import Op
from noria.kernel.paging import check_limit, decode_token, encode_token

HOOKS_PER_PAGE, HOOKS_MAX = 100, 1_000  # MLflow's
# Enums by the numbers of the protocol; clients send names, and may send numbers.
ENTITIES = ("", "REGISTERED_MODEL", "MODEL_VERSION", "MODEL_VERSION_TAG", "MODEL_VERSION_ALIAS", "PROMPT", "PROMPT_VERSION",
            "PROMPT_TAG", "PROMPT_VERSION_TAG", "PROMPT_ALIAS", "BUDGET_POLICY")  # fmt: skip
ACTIONS = ("", "CREATED", "UPDATED", "DELETED", "SET", "EXCEEDED")
STATUSES = ("", "ACTIVE", "DISABLED")
Word = str | int


class EventWords(Struct, frozen=True):
    entity: Word
    action: Word


class NewHook(Struct, frozen=True):
    name: str
    url: str
    events: list[EventWords]
    description: str | None = None
    secret: str | None = None
    status: Word | None = None


class ChangedHook(Struct, frozen=True):
    name: str | None = None
    url: str | None = None
    events: list[EventWords] | None = None
    description: str | None = None
    secret: str | None = None
    status: Word | None = None


class TryHook(Struct, frozen=True):
    event: EventWords | None = None


def routes(hooks: MlflowHooks) -> Routes:
    many = [f"/{mirror}/2.0/mlflow/webhooks" for mirror in ("api", "ajax-api")]
    one = [f"{path}/{{webhook_id:str}}" for path in many]
    hidden: dict[str, Any] = {"include_in_schema": False}  # described by MLflow

    @post(many, action="webhook.write", **hidden)
    def mlflow_create_webhook(op: Op, data: NewHook) -> dict[str, Any]:
        return {"webhook": hook_out(hooks.create(op, change_in(data)))}

    @get(many, action="webhook.read", **hidden)
    def mlflow_list_webhooks(op: Op, max_results: int = HOOKS_PER_PAGE, page_token: str = "") -> dict[str, Any]:
        size = check_limit(max_results or HOOKS_PER_PAGE, most=HOOKS_MAX)  # 0 is what protobuf makes of nothing
        start = decode_token(page_token, size=1)[0] if page_token else 0
        if not isinstance(start, int) or start < 0:
            raise Invalid("The page token belongs to another list.", where="page_token", hint="Start again without it.")
        found = hooks.hooks(op)
        more = {"next_page_token": encode_token(start + size)} if len(found) > start + size else {}
        return {"webhooks": [hook_out(hook) for hook in found[start : start + size]], **more}

    @get(one, action="webhook.read", **hidden)
    def mlflow_read_webhook(op: Op, webhook_id: str) -> dict[str, Any]:
        return {"webhook": hook_out(hooks.hook(op, webhook_id))}

    @patch(one, action="webhook.write", **hidden)
    def mlflow_change_webhook(op: Op, webhook_id: str, data: ChangedHook) -> dict[str, Any]:
        return {"webhook": hook_out(hooks.change(op, webhook_id, change_in(data)))}

    @delete(one, action="webhook.write", status_code=200, **hidden)
    def mlflow_delete_webhook(op: Op, webhook_id: str) -> dict[str, Any]:
        hooks.delete(op, webhook_id)
        return {}

    @post([f"{path}/test" for path in one], action="webhook.write", **hidden)
    def mlflow_test_webhook(op: Op, webhook_id: str, data: TryHook) -> dict[str, Any]:
        tried = hooks.try_out(op, webhook_id, event_in(data.event) if data.event else "")
        said = {"response_status": tried.status, "response_body": tried.body, "error_message": tried.error}
        return {"result": {"success": tried.success, **{k: v for k, v in said.items() if v}}}

    return [
        mlflow_create_webhook, mlflow_list_webhooks, mlflow_read_webhook, mlflow_change_webhook, mlflow_delete_webhook,
        mlflow_test_webhook,
    ]  # fmt: skip


def change_in(data: NewHook | ChangedHook) -> HookChange:
    return HookChange(
        name=data.name, url=data.url, description=data.description, secret=data.secret,
        events=None if data.events is None else list(dict.fromkeys(event_in(event) for event in data.events)),
        enabled=None if data.status is None else word(data.status, STATUSES, "status") == "ACTIVE",
    )  # fmt: skip


def event_in(event: EventWords) -> str:
    return f"{word(event.entity, ENTITIES, 'entity')}.{word(event.action, ACTIONS, 'action')}".lower()


def word(value: Word, known: tuple[str, ...], name: str) -> str:
    """A value of an enum by its name or its number. Raises Invalid."""
    if isinstance(value, int) and 0 < value < len(known):
        return known[value]
    if isinstance(value, str) and value and value in known:
        return value
    raise Invalid(f"{str(value)[:80]!r} is not a {name}.", where=name, hint=f"Known: {', '.join(known[1:])}.")


def hook_out(hook: Webhook) -> dict[str, Any]:
    events = [dict(zip(("entity", "action"), event.upper().split("."), strict=True)) for event in hook.events]
    return {
        "webhook_id": hook.id, "name": hook.name, "url": hook.url, "events": events,
        **({"description": hook.description} if hook.description else {}),
        "status": "ACTIVE" if hook.enabled else "DISABLED", "creation_timestamp": hook.created_at_ms,
        "last_updated_timestamp": hook.updated_at_ms,
    }  # fmt: skip
