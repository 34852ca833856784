"""The rows of persons' addresses and of the messages on their way there."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from noria.conversations.model import Address, AddressMessage
from noria.kernel.db import Read, Write, js

_ADDRESS = "id, name, service, shown, reasons, enabled, created_at_ms, updated_at_ms"
_MESSAGE = "id, notification_id, state, attempts, error, created_at_ms, done_at_ms"
KEPT = 200  # messages of each address; older ones go


class Waiting(Struct, frozen=True, kw_only=True):
    """A message with where it goes and whom it is for."""

    id: str
    state: str
    address_id: str
    principal_id: str
    name: str
    url: str
    enabled: bool
    seq: int
    subject: str
    comment_id: str
    read_at_ms: int | None


def addresses(tx: Read, principal_id: str) -> list[Address]:
    return tx.all(
        Address, f"select {_ADDRESS} from person_address where principal_id = :who order by name limit 100", who=principal_id
    )


def address(tx: Read, principal_id: str, name: str) -> Address | None:
    return tx.one(
        Address,
        f"select {_ADDRESS} from person_address where principal_id = :who and name = :name",
        who=principal_id, name=name,
    )  # fmt: skip


def url(tx: Read, address_id: str) -> str:
    """The address as it is kept: sealed."""
    return str(tx.scalar("select url from person_address where id = :id", id=address_id) or "")


def save(tx: Write, principal_id: str, workspace: str, made: Address, kept_url: str) -> None:
    tx.run(
        f"""insert into person_address ({_ADDRESS}, principal_id, workspace, url)
            values (:id, :name, :service, :shown, :reasons, :enabled, :created, :updated, :who, :workspace, :url)
            on conflict (principal_id, name) do update set
                service = excluded.service, shown = excluded.shown, reasons = excluded.reasons, enabled = excluded.enabled,
                updated_at_ms = excluded.updated_at_ms, url = excluded.url""",
        id=made.id, name=made.name, service=made.service, shown=made.shown, reasons=js(made.reasons), enabled=made.enabled,
        created=made.created_at_ms, updated=made.updated_at_ms, who=principal_id, workspace=workspace, url=kept_url,
    )  # fmt: skip


def delete(tx: Write, address_id: str) -> None:
    tx.run("delete from person_message where address_id = :id", id=address_id)
    tx.run("delete from person_address where id = :id", id=address_id)


def waiting_count(tx: Read, address_id: str) -> int:
    return int(tx.scalar("select count(*) from person_message where address_id = :id and state = 'queued'", id=address_id))


def add_message(tx: Write, made: AddressMessage, address_id: str) -> bool:
    """False when this notification is on its way there already."""
    added = tx.run(
        f"""insert into person_message ({_MESSAGE}, address_id)
            values (:id, :notification, :state, :attempts, :error, :created, :done, :address)
            on conflict (address_id, notification_id) do nothing""",
        id=made.id, notification=made.notification_id, state=made.state, attempts=made.attempts, error=made.error,
        created=made.created_at_ms, done=made.done_at_ms, address=address_id,
    )  # fmt: skip
    tx.run(
        """delete from person_message where address_id = :address and state <> 'queued' and id not in
               (select id from person_message where address_id = :address order by id desc limit :kept)""",
        address=address_id, kept=KEPT,
    )  # fmt: skip
    return added == 1


def waiting(tx: Read, message_id: str) -> Waiting | None:
    return tx.one(
        Waiting,
        """select m.id, m.state, a.id as address_id, a.principal_id, a.name, a.url, a.enabled, n.seq, n.subject, n.comment_id,
                  n.read_at_ms
             from person_message m
             join person_address a on a.id = m.address_id
             join notification n on n.id = m.notification_id
            where m.id = :id""",
        id=message_id,
    )  # fmt: skip


def messages(tx: Read, address_id: str, *, limit: int) -> list[AddressMessage]:
    """Newest first."""
    return tx.all(
        AddressMessage,
        f"select {_MESSAGE} from person_message where address_id = :id order by id desc limit :limit",
        id=address_id, limit=limit,
    )  # fmt: skip


def note(tx: Write, message_id: str, *, state: str, error: str, done_at_ms: int | None) -> None:
    args: dict[str, Any] = {"id": message_id, "state": state, "error": error, "done": done_at_ms}
    tx.run(
        "update person_message set state = :state, attempts = attempts + 1, error = :error, done_at_ms = :done where id = :id",
        **args,
    )
