"""Signed messages from outside as a cause: `POST /api/v1/hooks/{trigger}`.

Signed as Standard Webhooks has it (`webhook-id`, `webhook-timestamp`, `webhook-signature`), or as GitHub does. Whoever cannot
sign learns nothing: not even whether there is such a hook. Invariant: a message is a fact once, however often it is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from noria.access.service import Access
from noria.kernel.db import Database
from noria.kernel.errors import Invalid, TooLarge, Unauthenticated
from noria.kernel.ids import Ref
from noria.kernel.op import Actor, Ops
from noria.kernel.signing import is_signed, is_signed_plainly
from noria.pipelines import trigger_store
from noria.pipelines.model.limits import HOOK_BYTES_MAX
from noria.pipelines.model.triggers import Received

REMEMBERED_MS = 30 * 86_400_000  # GitHub sends again for days, and signs no time


class Hooks:
    """See the module."""

    def __init__(self, db: Database, ops: Ops, access: Access) -> None:
        self._db, self._ops, self._vault = db, ops, access.vault
        access.vault.columns.append(("trigger", "name", "secret"))

    def receive(self, name: str, headers: Mapping[str, str], body: bytes) -> Received:
        """Take a message. Raises Unauthenticated, TooLarge, Invalid (the body is no JSON)."""
        if len(body) > HOOK_BYTES_MAX:
            raise TooLarge(f"A message has at most {HOOK_BYTES_MAX >> 10} KiB.")
        with self._db.read() as tx:
            trigger = trigger_store.trigger(tx, name)
            kept = trigger_store.trigger_secret(tx, name) if trigger and trigger.is_hook else ""
            secret = self._vault.unseal(kept, "trigger", name)
        now_ms = self._ops.clock.now_ms()
        message_id = _checked(secret, headers, body, now_ms // 1000)
        if not message_id or trigger is None:
            raise Unauthenticated("The message is not signed for this hook.", hint="Sign it with the trigger's secret.")
        content = _content(body)
        actor = Actor(kind="service", id=trigger.id, name=f"hook {name}")
        with self._db.write(self._ops.mint(actor)) as tx:
            is_new = trigger_store.add_message(tx, trigger.id, message_id, now_ms, forget_before_ms=now_ms - REMEMBERED_MS)
            if is_new:
                tx.emit("hook.received", Ref("trigger", name), message=message_id, body=content)
        return Received(is_new=is_new)


def _checked(secret: str, headers: Mapping[str, str], body: bytes, now_s: int) -> str:
    """The id of a message that is signed; empty for one that is not."""
    if not secret:
        return ""
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if signatures := headers.get("webhook-signature", ""):
        return message_id[:200] if is_signed(secret, message_id, timestamp, signatures, body, now_s=now_s) else ""
    if signature := headers.get("x-hub-signature-256", ""):
        return headers.get("x-github-delivery", "")[:200] if is_signed_plainly(secret, signature, body) else ""
    return ""


def _content(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body) if body else None
    except msgspec.DecodeError as cause:
        raise Invalid("The message is no JSON.", where="body") from cause
