"""The rows of what is provisioned: beside a principal, what SCIM knows of it and Noria does not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from noria.kernel.db import Read, Write, js

_USER = """
    select p.id, p.is_active, p.created_at_ms, s.user_name, s.external_id, s.attributes, s.updated_at_ms
      from provisioned s
      join principal p on p.id = s.principal_id and p.kind = 'user'"""


def users(tx: Read, user_name: str = "", *, limit: int = 100_000) -> list[dict[str, Any]]:
    """Provisioned users by name, or those of one name, which does not tell letters apart."""
    where, args = ("where lower(s.user_name) = lower(:name)", {"name": user_name}) if user_name else ("", {})
    rows = tx.rows(f"{_USER} {where} order by s.user_name, p.id limit :limit", limit=limit, **args)
    return [row | {"attributes": msgspec.json.decode(row["attributes"])} for row in rows]


def user(tx: Read, principal_id: str) -> dict[str, Any] | None:
    rows = tx.rows(f"{_USER} where p.id = :id", id=principal_id)
    return rows[0] | {"attributes": msgspec.json.decode(rows[0]["attributes"])} if rows else None


def by_external_id(tx: Read, external_id: str) -> str | None:
    """The one user with this id at the provider; None when there is none, or more."""
    found = tx.column(
        """select p.id from provisioned s join principal p on p.id = s.principal_id and p.kind = 'user'
            where s.external_id = :external_id limit 2""",
        external_id=external_id,
    )
    return str(found[0]) if len(found) == 1 else None


def keep(tx: Write, principal_id: str, user_name: str, external_id: str, attributes: dict[str, Any], at_ms: int) -> None:
    tx.run(
        """insert into provisioned (principal_id, user_name, external_id, attributes, updated_at_ms)
           values (:id, :user_name, :external_id, :attributes, :at_ms)
           on conflict (principal_id) do update
              set user_name = excluded.user_name, external_id = excluded.external_id, attributes = excluded.attributes,
                  updated_at_ms = excluded.updated_at_ms""",
        id=principal_id, user_name=user_name, external_id=external_id, attributes=js(attributes), at_ms=at_ms,
    )  # fmt: skip


def rename(tx: Write, principal_id: str, name: str) -> None:
    tx.run("update principal set name = :name where id = :id", id=principal_id, name=name)


def enable(tx: Write, principal_id: str) -> None:
    tx.run("update principal set is_active = true where id = :id", id=principal_id)


def forget(tx: Write, principal_id: str) -> None:
    tx.run("delete from provisioned where principal_id = :id", id=principal_id)


def groups(tx: Read, group_id: str = "", *, limit: int = 10_000) -> list[dict[str, Any]]:
    """Groups as resources, by name, or the one with this id."""
    where, args = ("and p.id = :id", {"id": group_id}) if group_id else ("", {})
    rows = tx.rows(
        f"""select p.id, p.name, p.created_at_ms, coalesce(s.external_id, '') as external_id,
                   coalesce(s.updated_at_ms, p.created_at_ms) as updated_at_ms
              from principal p
              left join provisioned s on s.principal_id = p.id
             where p.kind = 'group' and p.is_active {where} order by p.name limit :limit""",
        limit=limit, **args,
    )  # fmt: skip
    members: dict[str, dict[str, dict[str, str]]] = {}
    for row in tx.rows(
        f"""select m.group_id, p.id, p.name, p.kind
              from membership m
              join principal p on p.id = m.member_id
             {"where m.group_id = :id" if group_id else ""} order by p.name limit 1000000""",
        **args,
    ):
        kind = "Group" if row["kind"] == "group" else "User"
        member = {"value": row["id"], "display": row["name"], "type": kind, "$ref": f"/scim/v2/{kind}s/{row['id']}"}
        members.setdefault(row["group_id"], {})[row["id"]] = member
    return [
        {
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Group"], "id": row["id"], "displayName": row["name"],
            **({"externalId": row["external_id"]} if row["external_id"] else {}),
            "members": list(members.get(row["id"], {}).values()),
            "meta": meta("Group", row["id"], row["created_at_ms"], row["updated_at_ms"]),
        }
        for row in rows
    ]  # fmt: skip


def meta(kind: str, ident: str, created_at_ms: int, updated_at_ms: int) -> dict[str, str]:
    """What SCIM says of a resource itself."""
    return {
        "resourceType": kind, "location": f"/scim/v2/{kind}s/{ident}", "created": _time(created_at_ms),
        "lastModified": _time(updated_at_ms),
    }  # fmt: skip


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
