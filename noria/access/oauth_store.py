"""The rows of devices that wait for approval, and of trusts."""

from __future__ import annotations

from noria.access.model import Device, Trust, TrustWish
from noria.kernel.db import Read, Write, js

_DEVICE = "user_code, client, state, principal_id, expires_at_ms, polled_at_ms"


def add_device(tx: Write, sha: str, user_code: str, client: str, at_ms: int, expires_at_ms: int) -> None:
    tx.run(
        """insert into device (device_sha256, user_code, client, state, principal_id, created_at_ms, expires_at_ms, polled_at_ms)
           values (:sha, :user_code, :client, 'pending', '', :at_ms, :expires, 0)""",
        sha=sha, user_code=user_code, client=client, at_ms=at_ms, expires=expires_at_ms,
    )  # fmt: skip


def device(tx: Read, user_code: str) -> Device | None:
    return tx.one(Device, f"select {_DEVICE} from device where user_code = :user_code", user_code=user_code)


def device_by_hash(tx: Read, sha: str) -> Device | None:
    return tx.one(Device, f"select {_DEVICE} from device where device_sha256 = :sha", sha=sha)


def decide(tx: Write, user_code: str, state: str, principal_id: str) -> int:
    return tx.run(
        "update device set state = :state, principal_id = :id where user_code = :user_code and state = 'pending'",
        state=state, id=principal_id, user_code=user_code,
    )  # fmt: skip


def polled(tx: Write, sha: str, at_ms: int) -> None:
    tx.run("update device set polled_at_ms = :at_ms where device_sha256 = :sha", sha=sha, at_ms=at_ms)


def remove_device(tx: Write, sha: str) -> None:
    tx.run("delete from device where device_sha256 = :sha", sha=sha)


def devices_count(tx: Read) -> int:
    return int(tx.scalar("select count(*) from device"))


def remove_old_devices(tx: Write, now_ms: int) -> None:
    tx.run("delete from device where expires_at_ms < :now", now=now_ms)


def trusts(tx: Read) -> list[Trust]:
    return tx.all(
        Trust,
        """select t.name, t.issuer, t.audience, t.claims, p.name as principal, t.actions, t.scopes, t.minutes, t.jwks
             from trust t join principal p on p.id = t.principal_id order by t.name limit 1000""",
    )


def set_trust(tx: Write, name: str, wish: TrustWish, principal_id: str, at_ms: int) -> None:
    tx.run(
        """insert into trust (name, issuer, audience, claims, principal_id, actions, scopes, minutes, jwks, updated_at_ms)
           values (:name, :issuer, :audience, :claims, :principal_id, :actions, :scopes, :minutes, :jwks, :at_ms)
           on conflict (name) do update
              set issuer = excluded.issuer, audience = excluded.audience, claims = excluded.claims,
                  principal_id = excluded.principal_id, actions = excluded.actions, scopes = excluded.scopes,
                  minutes = excluded.minutes, jwks = excluded.jwks, updated_at_ms = excluded.updated_at_ms""",
        name=name, issuer=wish.issuer, audience=wish.audience, claims=js(wish.claims), principal_id=principal_id,
        actions=js(wish.actions), scopes=js(wish.scopes), minutes=wish.minutes, jwks=js(wish.jwks) if wish.jwks else "",
        at_ms=at_ms,
    )  # fmt: skip


def remove_trust(tx: Write, name: str) -> int:
    return tx.run("delete from trust where name = :name", name=name)
