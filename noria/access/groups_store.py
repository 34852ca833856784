"""The rows of groups and of roles of one's own."""

from __future__ import annotations

from typing import Any

from noria.access.model import Group, Holding, Member, Role
from noria.kernel.db import Read, Write, js


def groups(tx: Read, *, group_id: str = "", limit: int = 1000) -> list[Group]:
    """Groups by name with their members, or the one with this id."""
    where, args = ("and id = :id", {"id": group_id}) if group_id else ("", {})
    found = tx.rows(
        f"select id, name, created_at_ms from principal where kind = 'group' and is_active {where} order by name limit :limit",
        limit=limit, **args,
    )  # fmt: skip
    ids = [row["id"] for row in found]
    members: dict[str, list[Member]] = {}
    for row in tx.rows(
        """select m.group_id, m.source, p.name, p.kind
             from membership m join principal p on p.id = m.member_id
            where m.group_id in :ids and p.is_active order by p.name, m.source limit 100000""",
        ids=ids,
    ):
        members.setdefault(row["group_id"], []).append(Member(name=row["name"], kind=row["kind"], source=row["source"]))
    roles: dict[str, list[str]] = {}
    for row in tx.rows(
        "select principal_id, role from binding where principal_id in :ids and scope = '' order by role limit 10000", ids=ids
    ):
        roles.setdefault(row["principal_id"], []).append(row["role"])
    return [
        Group(
            id=row["id"], name=row["name"], created_at_ms=row["created_at_ms"], roles=roles.get(row["id"], []),
            members=members.get(row["id"], []),
        )
        for row in found
    ]  # fmt: skip


def above(tx: Read, group_id: str) -> set[str]:
    """The group and every group it is in."""
    return set(
        tx.column(
            """with recursive up(id) as (
                   select p.id from principal p where p.id = :id
                   union
                   select m.group_id from membership m join up on m.member_id = up.id)
               select id from up""",
            id=group_id,
        )
    )


def roles_from(tx: Read, group_id: str) -> list[tuple[str, str]]:
    """(role, scope) of everything that being in a group gives."""
    ids = sorted(above(tx, group_id))
    rows = tx.tuples("select role, scope from binding where principal_id in :ids order by role, scope limit 10000", ids=ids)
    return [(role, scope) for role, scope in rows]


def members_count(tx: Read, group_id: str) -> int:
    return int(tx.scalar("select count(*) from membership where group_id = :id", id=group_id))


def add_member(tx: Write, group_id: str, member_id: str, source: str, at_ms: int) -> int:
    return tx.run(
        """insert into membership (group_id, member_id, source, at_ms) values (:group_id, :member_id, :source, :at_ms)
           on conflict (group_id, member_id, source) do nothing""",
        group_id=group_id, member_id=member_id, source=source, at_ms=at_ms,
    )  # fmt: skip


def remove_member(tx: Write, group_id: str, member_id: str, source: str | None) -> int:
    args: dict[str, Any] = {} if source is None else {"source": source}
    return tx.run(
        "delete from membership where group_id = :group_id and member_id = :member_id"
        + (" and source = :source" if source is not None else ""),
        group_id=group_id, member_id=member_id, **args,
    )  # fmt: skip


def remove_group(tx: Write, group_id: str) -> None:
    """The row goes too: its name may be used again, and its id stands in facts only."""
    tx.run("delete from membership where group_id = :id or member_id = :id", id=group_id)
    tx.run("delete from binding where principal_id = :id", id=group_id)
    tx.run("delete from clearance where principal_id = :id", id=group_id)
    tx.run("delete from principal where id = :id and kind = 'group'", id=group_id)


def roles(tx: Read) -> list[Role]:
    return tx.all(Role, "select name, actions, description from role order by name limit 1000")


def set_role(tx: Write, name: str, actions: list[str], description: str, actor: str, at_ms: int) -> None:
    tx.run(
        """insert into role (name, actions, description, actor, updated_at_ms)
           values (:name, :actions, :description, :actor, :at_ms)
           on conflict (name) do update
              set actions = excluded.actions, description = excluded.description, actor = excluded.actor,
                  updated_at_ms = excluded.updated_at_ms""",
        name=name, actions=js(actions), description=description, actor=actor, at_ms=at_ms,
    )  # fmt: skip


def remove_role(tx: Write, name: str) -> int:
    tx.run("delete from binding where role = :name", name=name)
    return tx.run("delete from role where name = :name", name=name)


def grants(tx: Read, *, principal: str, scope: str | None) -> list[Holding]:
    wanted: dict[str, Any] = {"principal": principal} if principal else {}
    wanted |= {} if scope is None else {"scope": scope}
    clauses = [c for c in ("p.name = :principal" if principal else "", "b.scope = :scope" if scope is not None else "") if c]
    return tx.all(
        Holding,
        f"""select p.name as principal, b.role, b.scope, b.expires_at_ms, b.granted_by, b.reason
              from binding b join principal p on p.id = b.principal_id
             where p.is_active {"".join(f" and {c}" for c in clauses)}
             order by p.name, b.scope, b.role limit 10000""",
        **wanted,
    )
