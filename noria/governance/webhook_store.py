"""The rows of webhooks and deliveries."""

from __future__ import annotations

import msgspec

from noria.governance.webhook_model import Delivery, Webhook
from noria.kernel.db import Read, Write, js
from noria.kernel.naming import Noun, findable

findable(
    Noun(
        kind="webhook", action="webhook.read",
        query="""select '' as scope, 'webhook:' || name as ref, name as label, description as detail, updated_at_ms as at_ms
                   from webhook where workspace = :workspace""",
    )
)  # fmt: skip

_WEBHOOK = (
    "name, url, kinds, enabled, allow_private, created_at_ms, updated_at_ms, from_seq, format, id, description, events"
)


def webhooks(tx: Read, workspace: str) -> list[Webhook]:
    return tx.all(
        Webhook, f"select {_WEBHOOK} from webhook where workspace = :workspace order by name limit 1000", workspace=workspace
    )


def webhook(tx: Read, workspace: str, name: str) -> Webhook | None:
    return tx.one(
        Webhook,
        f"select {_WEBHOOK} from webhook where workspace = :workspace and name = :name",
        workspace=workspace,
        name=name,
    )


def webhook_secret(tx: Read, name: str) -> str:
    return str(tx.scalar("select secret from webhook where name = :name", name=name) or "")


def enabled_webhooks(tx: Read, workspace: str, seq: int) -> list[Webhook]:
    """Those that want facts from `seq` on."""
    return tx.all(
        Webhook,
        f"""select {_WEBHOOK} from webhook where workspace = :workspace and enabled and from_seq < :seq
             order by name limit 1000""",
        workspace=workspace, seq=seq,
    )  # fmt: skip


def patterns_wanted(tx: Read) -> list[str]:
    """The kinds that webhooks want, of every workspace."""
    lists = tx.column("select kinds from webhook where enabled")
    return sorted({pattern for text in lists for pattern in msgspec.json.decode(text, type=list[str])})


def save_webhook(tx: Write, workspace: str, hook: Webhook, secret: str) -> None:
    tx.run(
        f"""insert into webhook ({_WEBHOOK}, secret, workspace)
            values (:name, :url, :kinds, :enabled, :allow_private, :created, :updated, :from_seq, :format, :id, :description,
                    :events, :secret, :workspace)
            on conflict (name) do update set
                url = excluded.url, kinds = excluded.kinds, enabled = excluded.enabled,
                allow_private = excluded.allow_private, description = excluded.description, events = excluded.events,
                updated_at_ms = excluded.updated_at_ms, secret = excluded.secret, from_seq = excluded.from_seq""",
        name=hook.name, url=hook.url, kinds=js(hook.kinds), enabled=hook.enabled, allow_private=hook.allow_private,
        created=hook.created_at_ms, updated=hook.updated_at_ms, from_seq=hook.from_seq, secret=secret, workspace=workspace,
        format=hook.format, id=hook.id, description=hook.description, events=js(hook.events),
    )  # fmt: skip


def rename_webhook(tx: Write, workspace: str, name: str, new_name: str) -> None:
    """Give a webhook another name; what was sent to it stays its own."""
    tx.run(
        "update webhook set name = :new_name where workspace = :workspace and name = :name",
        workspace=workspace, name=name, new_name=new_name,
    )  # fmt: skip
    tx.run("update delivery set webhook = :new_name where webhook = :name", name=name, new_name=new_name)


def delete_webhook(tx: Write, workspace: str, name: str) -> int:
    """With what was sent to it: what waits must not go to a later one of that name."""
    tx.run("delete from delivery where webhook = :name", name=name)
    return tx.run("delete from webhook where workspace = :workspace and name = :name", workspace=workspace, name=name)


_DELIVERY = "id, webhook, seq, state, attempts, status, error, answer, created_at_ms, done_at_ms"


def add_delivery(tx: Write, delivery: Delivery) -> bool:
    """False when this fact was already queued for this webhook."""
    added = tx.run(
        f"""insert into delivery ({_DELIVERY})
            values (:id, :webhook, :seq, 'queued', 0, null, '', '', :at_ms, null)
            on conflict (webhook, seq) do nothing""",
        id=delivery.id, webhook=delivery.webhook, seq=delivery.seq, at_ms=delivery.created_at_ms,
    )  # fmt: skip
    return added == 1


def delivery(tx: Read, delivery_id: str) -> Delivery | None:
    return tx.one(Delivery, f"select {_DELIVERY} from delivery where id = :id", id=delivery_id)


def deliveries(tx: Read, webhook: str, *, before: str | None, limit: int) -> list[Delivery]:
    """Newest first."""
    where = "and id < :before" if before else ""
    args = {"before": before} if before else {}
    return tx.all(
        Delivery,
        f"select {_DELIVERY} from delivery where webhook = :webhook {where} order by id desc limit :limit",
        webhook=webhook, limit=limit, **args,
    )  # fmt: skip


def note_attempt(
    tx: Write, delivery_id: str, *, state: str, status: int | None, error: str, answer: str, done_at_ms: int | None
) -> None:
    tx.run(
        """update delivery set state = :state, attempts = attempts + 1, status = :status, error = :error, answer = :answer,
                               done_at_ms = :done
            where id = :id""",
        id=delivery_id, state=state, status=status, error=error, answer=answer, done=done_at_ms,
    )  # fmt: skip
