"""Webhooks as MLflow's API has them: an id, a description, MLflow's events. They are webhooks of Noria's like any other.

The same table, limits, permissions, queue of deliveries and guard against private addresses; only what is sent differs. An
administrator may allow private addresses for one of them through Noria's own API.
"""

from __future__ import annotations

import re

from msgspec import Struct
from msgspec.structs import replace

from noria.governance import mlflow_events, sending, webhook_store
from noria.governance.webhook_model import Webhook
from noria.governance.webhooks import WEBHOOKS_MAX, Webhooks, without_query
from noria.kernel.db import Database, Write
from noria.kernel.errors import AlreadyExists, Invalid, NotFound, TooMuch, Unavailable
from noria.kernel.events import last_seq
from noria.kernel.ids import Ref, new_id
from noria.kernel.op import Op

SECRET_LENGTH_MAX = 1_000  # MLflow's
DESCRIPTION_LENGTH_MAX = 1_000
_NAME = re.compile(r"(?=.{1,63}\Z)[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?", re.IGNORECASE | re.ASCII)  # MLflow's rule


class HookChange(Struct, frozen=True, kw_only=True):
    """What to write of a webhook; None leaves it."""

    name: str | None = None
    url: str | None = None
    events: list[str] | None = None
    description: str | None = None
    secret: str | None = None
    enabled: bool | None = None


class Tried(Struct, frozen=True, kw_only=True):
    """How a try went."""

    success: bool
    status: int | None = None
    body: str = ""
    error: str = ""


class MlflowHooks:
    """Part of the webhooks service."""

    def __init__(self, db: Database, webhooks: Webhooks) -> None:
        self._db, self._webhooks = db, webhooks

    def hooks(self, op: Op) -> list[Webhook]:
        """Those made through MLflow's API, the latest first."""
        found = [hook for hook in self._webhooks.webhooks(op) if hook.format == "mlflow"]
        return sorted(found, key=lambda hook: (-hook.created_at_ms, hook.name))

    def hook(self, op: Op, hook_id: str) -> Webhook:
        """Raises NotFound."""
        for found in self.hooks(op):
            if found.id == hook_id:
                return found
        raise NotFound(f"There is no webhook with the id {hook_id[:80]!r}.")

    def create(self, op: Op, new: HookChange) -> Webhook:
        """Make a webhook. Raises Invalid, AlreadyExists, TooMuch, Forbidden."""
        op.require("webhook.write")
        check(new)
        if not new.name or not new.url or not new.events:
            raise Invalid("A webhook has a name, a url and events.", where="events")
        with self._db.write(op) as tx:
            if len(webhook_store.webhooks(tx, op.workspace)) >= WEBHOOKS_MAX:
                raise TooMuch(f"There are {WEBHOOKS_MAX} webhooks already.", hint="Delete one first.")
            self._require_free(tx, op, new.name)
            made = Webhook(
                id=new_id(op.at_ms), name=new.name, url=new.url, kinds=mlflow_events.kinds_of(new.events), events=new.events,
                description=new.description or "", enabled=new.enabled is not False, allow_private=False, format="mlflow",
                created_at_ms=op.at_ms, updated_at_ms=op.at_ms, from_seq=last_seq(tx),
            )  # fmt: skip
            self._save(tx, op, made, new.secret or "")
        return made

    def change(self, op: Op, hook_id: str, new: HookChange) -> Webhook:
        """Change a webhook. Raises NotFound, Invalid, AlreadyExists, Forbidden."""
        op.require("webhook.write")
        found = self.hook(op, hook_id)
        check(new)
        with self._db.write(op) as tx:
            secret = self._webhooks.secret_of(tx, found.name, resolve=False) if new.secret is None else new.secret
            if new.name and new.name != found.name:
                self._require_free(tx, op, new.name)
                webhook_store.rename_webhook(tx, op.workspace, found.name, new.name)
            events = new.events or found.events
            enabled = found.enabled if new.enabled is None else new.enabled
            made = replace(
                found, name=new.name or found.name, url=new.url or found.url, events=events,
                kinds=mlflow_events.kinds_of(events), enabled=enabled, updated_at_ms=op.at_ms,
                description=found.description if new.description is None else new.description,
                # One that was off hears of what happens from now on, not of all it missed.
                from_seq=found.from_seq if found.enabled else last_seq(tx),
            )  # fmt: skip
            self._save(tx, op, made, secret)
        return made

    def delete(self, op: Op, hook_id: str) -> None:
        """Raises NotFound, Forbidden."""
        self._webhooks.delete(op, self.hook(op, hook_id).name)

    def try_out(self, op: Op, hook_id: str, event: str = "") -> Tried:
        """Send an example, now. Raises NotFound, Invalid, Forbidden; how the other side takes it is no error."""
        op.require("webhook.write")
        found = self.hook(op, hook_id)
        event = event or found.events[0]
        check(HookChange(events=[event]))
        message = mlflow_events.Message(event, mlflow_events.EVENTS[event][1])
        with self._db.read() as tx:
            secret = self._webhooks.secret_of(tx, found.name)
        try:
            answer = self._webhooks.send_mlflow(found, message, secret, delivery_id=new_id(op.at_ms), at_ms=op.at_ms)
        except (Invalid, Unavailable) as error:
            return Tried(success=False, error=f"Failed to test webhook: {error.message}")
        return Tried(success=answer.status < 400, status=answer.status, body=answer.body)

    def _require_free(self, tx: Write, op: Op, name: str) -> None:
        if webhook_store.webhook(tx, op.workspace, name):
            raise AlreadyExists(f"There is already a webhook named {name!r}.", hint="Pick another name.")

    def _save(self, tx: Write, op: Op, hook: Webhook, secret: str) -> None:
        self._webhooks.keep(tx, op, hook, secret)
        tx.emit(
            "webhook.saved", Ref("webhook", hook.name), url=without_query(hook.url), kinds=hook.kinds, enabled=hook.enabled,
            allow_private=hook.allow_private,
        )  # fmt: skip


def check(new: HookChange) -> None:
    """Raises Invalid for what cannot be, or an event that never comes."""
    if new.name is not None and not _NAME.fullmatch(new.name):
        raise Invalid(
            f"{new.name[:80]!r} cannot be the name of a webhook.", where="name",
            hint="It has at most 63 letters, digits, dots, underscores and dashes, and begins and ends with a letter or digit.",
        )  # fmt: skip
    if new.url is not None:
        sending.check_url(new.url)
    for event in new.events or ():
        if event not in mlflow_events.EVENTS:
            raise Invalid(
                f"{event[:80]!r} is not an event of this server.", where="events",
                hint=f"Known: {', '.join(sorted(mlflow_events.EVENTS))}.",
            )  # fmt: skip
    for text, most, what in (
        (new.secret, SECRET_LENGTH_MAX, "secret"),
        (new.description, DESCRIPTION_LENGTH_MAX, "description"),
    ):
        if text is not None and len(text) > most:
            raise Invalid(f"The {what} has at most {most} characters.", where=what)
