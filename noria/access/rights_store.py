"""Rights in SQL: groups upwards, scopes downwards, clearances taken off. Every change moves the epoch, in its own transaction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from noria.access.policy import ROLES
from noria.access.rights import Rights
from noria.kernel import things
from noria.kernel.db import Read, Write, js
from noria.kernel.ids import Ref

# Whoever may act for :id – itself and the active groups it is in, however deep. `union` drops repeats, so a ring cannot turn for ever.
MINE = """
    mine(id) as (
        select id from principal where id = :id and is_active
        union
        select m.group_id
          from membership m
          join mine on m.member_id = mine.id
          join principal g on g.id = m.group_id and g.is_active)"""

# Roles on the workspace and on single scopes, those with everything in them.
_RIGHTS = f"""
    with recursive {MINE},
    held(scope, role, expires_at_ms) as (
        select b.scope, b.role, b.expires_at_ms
          from binding b
          join mine on b.principal_id = mine.id
         where b.expires_at_ms is null or b.expires_at_ms > :now
        union
        select p.ref, held.role, held.expires_at_ms
          from scope_parent p
          join held on held.scope = p.parent
         where held.scope <> '')
    select held.scope, held.role, held.expires_at_ms, role.actions
      from held
      left join role on role.name = held.role"""

# What carries a restricting label, itself or by what it lies in.
_RESTRICTED = """
    restricted(ref, label) as (
        select l.ref, l.label
          from scope_label l
          join label on label.name = l.label and label.is_restricting
        union
        select p.ref, restricted.label
          from scope_parent p
          join restricted on restricted.ref = p.parent)"""

# That of it which nobody of mine is cleared for.
_HIDDEN = f"""
    with recursive {MINE},
    {_RESTRICTED}
    select distinct ref
      from restricted
     where not exists (
        select 1
          from clearance c
          join mine on c.principal_id = mine.id
         where c.label = restricted.label and (c.expires_at_ms is null or c.expires_at_ms > :now))"""


def rights(tx: Read, principal_id: str, now_ms: int) -> Rights:
    """What an active principal may do at `now_ms`; of anybody else: nothing."""
    everywhere: set[str] = set()
    on: dict[str, set[str]] = {}
    roles: set[str] = set()
    ends = [end for end in [_clearance_end(tx, principal_id, now_ms)] if end is not None]
    for scope, role, expires_at_ms, custom in tx.tuples(_RIGHTS, id=principal_id, now=now_ms):
        actions = ROLES.get(role) or (frozenset(msgspec.json.decode(custom)) if custom else frozenset())
        if scope:
            on.setdefault(scope, set()).update(actions)
        else:
            everywhere |= actions
            roles.add(role)
        if expires_at_ms is not None:
            ends.append(expires_at_ms)
    hidden = frozenset(tx.column(_HIDDEN, id=principal_id, now=now_ms))
    return Rights(
        frozenset(everywhere), {ref: frozenset(found) for ref, found in on.items() if ref not in hidden}, hidden,
        frozenset(roles), min(ends, default=None),
    )  # fmt: skip


def teams(tx: Read, principal_id: str) -> list[str]:
    """The names of the groups that a principal is in, however deep."""
    found = tx.column(
        f"""with recursive {MINE}
            select p.name from principal p join mine on mine.id = p.id where p.kind = 'group' and p.id <> :id order by p.name""",
        id=principal_id,
    )  # fmt: skip
    return [str(name) for name in found]


def holders(tx: Read, principal_id: str) -> set[str]:
    """Ids of a principal and, of a group, of everybody in it, however deep."""
    found = tx.column(
        """with recursive inside(id) as (
               select p.id from principal p where p.id = :id
               union
               select m.member_id from membership m join inside on m.group_id = inside.id)
           select id from inside""",
        id=principal_id,
    )
    return set(map(str, found))


def unknown_groups(tx: Read, names: list[str]) -> list[str]:
    """Those of `names` that are no group."""
    known = (
        set(tx.column("select name from principal where kind = 'group' and name in :names", names=names)) if names else set()
    )
    return [name for name in names if name not in known]


def restricted(tx: Read) -> dict[str, list[str]]:
    """Every thing that carries a restricting label, itself or by what it lies in, with those labels."""
    found: dict[str, list[str]] = {}
    for ref, label in tx.tuples(f"with recursive {_RESTRICTED} select ref, label from restricted order by ref, label"):
        found.setdefault(ref, []).append(label)
    return found


def _clearance_end(tx: Read, principal_id: str, now_ms: int) -> int | None:
    """When the first clearance that counts for a principal expires."""
    found = tx.scalar(
        f"""with recursive {MINE}
            select min(c.expires_at_ms) from clearance c join mine on c.principal_id = mine.id where c.expires_at_ms > :now""",
        id=principal_id, now=now_ms,
    )  # fmt: skip
    return None if found is None else int(found)


def reach(tx: Read, scopes: Iterable[str]) -> frozenset[str]:
    """These scopes with everything in them."""
    start = sorted(scopes)
    if not start:
        return frozenset()
    rows = "select value as ref from json_each(:start)"
    if tx.dialect == "postgresql":
        rows = "select value as ref from json_array_elements_text(cast(:start as json)) as t(value)"
    found = tx.column(
        f"""with recursive within(ref) as (
                {rows}
                union
                select p.ref from scope_parent p join within on within.ref = p.parent)
            select ref from within""",
        start=js(start),
    )
    return frozenset(found)


def all_things(tx: Read, kinds: Iterable[str], workspace: str) -> set[str]:
    """The refs of everything of these kinds that there is."""
    found: set[str] = set()
    for kind in kinds:
        query = "select name from project" if kind == "project" else things.query_of(kind)
        params: dict[str, Any] = {"workspace": workspace} if ":workspace" in query else {}
        found.update(f"{kind}:{ident}" for ident in tx.column(query, **params))
    return found


def is_there(tx: Read, ref: Ref, workspace: str) -> bool:
    """Is there such a thing, of a kind that was declared?"""
    query = f"select 1 from ({things.query_of(ref.kind)}) as there where there.id = :ident"
    return bool(tx.column(query, workspace=workspace, ident=ref.id))


def bump_epoch(tx: Write) -> None:
    """Every change of rights moves the epoch, in the same transaction; what is kept of rights is keyed by it."""
    tx.run(
        """insert into authz_epoch (id, epoch) values (1, 1)
           on conflict (id) do update set epoch = authz_epoch.epoch + 1"""
    )


def epoch(tx: Read) -> int:
    return int(tx.scalar("select epoch from authz_epoch where id = 1") or 0)


def admins(tx: Read, now_ms: int) -> set[str]:
    """Ids of the active users who have the role admin on the workspace, by themselves or by a group."""
    return set(
        tx.column(
            """with recursive holds(id) as (
                   select principal_id from binding
                    where role = 'admin' and scope = '' and (expires_at_ms is null or expires_at_ms > :now)
                   union
                   select m.member_id
                     from membership m
                     join holds on m.group_id = holds.id
                     join principal g on g.id = m.group_id and g.is_active)
               select p.id from principal p join holds on holds.id = p.id where p.is_active and p.kind = 'user'""",
            now=now_ms,
        )
    )
