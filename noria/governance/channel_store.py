"""The rows of channels and of what was sent to them."""

from __future__ import annotations

import msgspec

from noria.governance.channel_model import Channel, ChannelDelivery
from noria.kernel.db import Read, Write, js
from noria.kernel.naming import Noun, findable

findable(
    Noun(
        kind="channel", action="webhook.read",
        query="""select '' as scope, 'channel:' || name as ref, name as label, service || ' ' || description as detail,
                        updated_at_ms as at_ms
                   from channel where workspace = :workspace""",
    )
)  # fmt: skip

_CHANNEL = (
    "name, service, shown, kinds, min_severity, monitors, endpoints, enabled, allow_private, description, created_at_ms, "
    "updated_at_ms, from_seq, actor"
)
_DELIVERY = "id, channel, seq, state, attempts, error, created_at_ms, done_at_ms"


def channels(tx: Read, workspace: str) -> list[Channel]:
    return tx.all(
        Channel, f"select {_CHANNEL} from channel where workspace = :workspace order by name limit 1000", workspace=workspace
    )


def channel(tx: Read, workspace: str, name: str) -> Channel | None:
    return tx.one(
        Channel,
        f"select {_CHANNEL} from channel where workspace = :workspace and name = :name",
        workspace=workspace,
        name=name,
    )


def enabled_channels(tx: Read, workspace: str, seq: int) -> list[Channel]:
    """Those that want facts from `seq` on."""
    return tx.all(
        Channel,
        f"""select {_CHANNEL} from channel where workspace = :workspace and enabled and from_seq < :seq
             order by name limit 1000""",
        workspace=workspace, seq=seq,
    )  # fmt: skip


def address(tx: Read, workspace: str, name: str) -> str:
    """The address as it is kept: sealed."""
    found = tx.scalar(
        "select url from channel where workspace = :workspace and name = :name", workspace=workspace, name=name
    )
    return str(found or "")


def kinds_wanted(tx: Read) -> list[str]:
    """The kinds that channels want, of every workspace."""
    lists = tx.column("select kinds from channel where enabled")
    return sorted({pattern for text in lists for pattern in msgspec.json.decode(text, type=list[str])})


def save_channel(tx: Write, workspace: str, made: Channel, url: str) -> None:
    tx.run(
        f"""insert into channel ({_CHANNEL}, url, workspace)
            values (:name, :service, :shown, :kinds, :min_severity, :monitors, :endpoints, :enabled, :allow_private, :description,
                    :created, :updated, :from_seq, :actor, :url, :workspace)
            on conflict (name) do update set
                service = excluded.service, shown = excluded.shown, kinds = excluded.kinds,
                min_severity = excluded.min_severity, monitors = excluded.monitors, endpoints = excluded.endpoints,
                enabled = excluded.enabled, allow_private = excluded.allow_private, description = excluded.description,
                updated_at_ms = excluded.updated_at_ms, from_seq = excluded.from_seq, actor = excluded.actor, url = excluded.url""",
        name=made.name, service=made.service, shown=made.shown, kinds=js(made.kinds), min_severity=made.min_severity,
        monitors=js(made.monitors), endpoints=js(made.endpoints), enabled=made.enabled, allow_private=made.allow_private,
        description=made.description, created=made.created_at_ms, updated=made.updated_at_ms, from_seq=made.from_seq,
        actor=made.actor, url=url, workspace=workspace,
    )  # fmt: skip


def delete_channel(tx: Write, workspace: str, name: str) -> None:
    """With what was sent to it: what waits must not go to a later one of that name."""
    tx.run("delete from channel_delivery where channel = :name", name=name)
    tx.run("delete from channel where workspace = :workspace and name = :name", workspace=workspace, name=name)


def add_delivery(tx: Write, made: ChannelDelivery) -> bool:
    """False when this fact was already noted for this channel."""
    return bool(
        tx.run(
            f"""insert into channel_delivery ({_DELIVERY})
                values (:id, :channel, :seq, :state, 0, :error, :at_ms, :done) on conflict (channel, seq) do nothing""",
            id=made.id, channel=made.channel, seq=made.seq, state=made.state, error=made.error, at_ms=made.created_at_ms,
            done=made.done_at_ms,
        )
    )  # fmt: skip


def waiting(tx: Read, channel: str) -> int:
    """How many messages wait to be sent to a channel."""
    return int(
        tx.scalar("select count(*) from channel_delivery where channel = :channel and state = 'queued'", channel=channel)
    )


def delivery(tx: Read, delivery_id: str) -> ChannelDelivery | None:
    return tx.one(ChannelDelivery, f"select {_DELIVERY} from channel_delivery where id = :id", id=delivery_id)


def deliveries(tx: Read, channel: str, *, before: str | None, limit: int) -> list[ChannelDelivery]:
    """Newest first."""
    where, args = ("and id < :before", {"before": before}) if before else ("", {})
    return tx.all(
        ChannelDelivery,
        f"select {_DELIVERY} from channel_delivery where channel = :channel {where} order by id desc limit :limit",
        channel=channel, limit=limit, **args,
    )  # fmt: skip


def note_attempt(tx: Write, delivery_id: str, *, state: str, error: str, done_at_ms: int | None) -> None:
    tx.run(
        "update channel_delivery set state = :state, attempts = attempts + 1, error = :error, done_at_ms = :done where id = :id",
        id=delivery_id, state=state, error=error, done=done_at_ms,
    )  # fmt: skip
