"""The rows of projects, labels and clearances."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from noria.access.model import Clearance, Label, LabelWish, Project
from noria.kernel.db import Read, Write
from noria.kernel.ids import Ref
from noria.kernel.naming import Noun, findable

findable(
    Noun(
        kind="project", action="project.read", check=lambda op, row: op.can("project.read", Ref.parse(row["ref"])),
        query="""select 'project:' || name as scope, 'project:' || name as ref, name as label, description as detail,
                        created_at_ms as at_ms
                   from project""",
    )
)  # fmt: skip


def projects(tx: Read, *, name: str = "", limit: int = 1000) -> list[Project]:
    """Projects by name with what lies in them, or the one of this name."""
    where, args = ("where p.name = :name", {"name": name}) if name else ("", {})
    found = tx.rows(
        f"""select p.name, p.description, p.created_at_ms, coalesce(s.parent, '') as parent
              from project p left join scope_parent s on s.ref = 'project:' || p.name
              {where} order by p.name limit :limit""",
        limit=limit, **args,
    )  # fmt: skip
    inside: dict[str, list[str]] = {}
    refs = [f"project:{row['name']}" for row in found]
    for row in tx.rows("select ref, parent from scope_parent where parent in :refs order by ref limit 100000", refs=refs):
        inside.setdefault(row["parent"], []).append(row["ref"])
    return [
        Project(
            name=row["name"], description=row["description"], parent=row["parent"].removeprefix("project:"),
            things=inside.get(f"project:{row['name']}", []), created_at_ms=row["created_at_ms"],
        )
        for row in found
    ]  # fmt: skip


def set_project(tx: Write, name: str, description: str, actor: str, at_ms: int) -> None:
    tx.run(
        """insert into project (name, description, actor, created_at_ms) values (:name, :description, :actor, :at_ms)
           on conflict (name) do update set description = excluded.description""",
        name=name, description=description, actor=actor, at_ms=at_ms,
    )  # fmt: skip


class Readme(Struct, frozen=True, kw_only=True):
    """What a project says of itself, and who wrote it last."""

    content: str
    edit: int
    actor: str
    at_ms: int | None


def readme(tx: Read, name: str) -> Readme | None:
    """None: there is no such project."""
    return tx.one(
        Readme,
        """select readme as content, readme_edit as edit, readme_actor as actor, readme_at_ms as at_ms
             from project where name = :name""",
        name=name,
    )  # fmt: skip


def set_readme(tx: Write, name: str, content: str, *, edit: int, actor: str, at_ms: int) -> bool:
    """False when it is not at the edit before `edit` any more."""
    changed = tx.run(
        """update project set readme = :content, readme_edit = :edit, readme_actor = :actor, readme_at_ms = :at_ms
            where name = :name and readme_edit = :before""",
        name=name, content=content, edit=edit, before=edit - 1, actor=actor, at_ms=at_ms,
    )  # fmt: skip
    return changed == 1


def above(tx: Read, ref: str) -> list[str]:
    """The scope and what it lies in, outwards."""
    return list(
        tx.column(
            """with recursive up(ref) as (
                   select cast(:ref as text)
                   union
                   select s.parent from scope_parent s join up on s.ref = up.ref where s.parent <> '')
               select ref from up""",
            ref=ref,
        )
    )


def place(tx: Write, ref: str, parent: str, at_ms: int) -> str:
    """Put a scope into `parent` ('': out of any); returns what it was in."""
    was = tx.scalar("select parent from scope_parent where ref = :ref", ref=ref)
    if parent:
        tx.run(
            """insert into scope_parent (ref, parent, at_ms) values (:ref, :parent, :at_ms)
               on conflict (ref) do update set parent = excluded.parent, at_ms = excluded.at_ms""",
            ref=ref, parent=parent, at_ms=at_ms,
        )  # fmt: skip
    else:
        tx.run("delete from scope_parent where ref = :ref", ref=ref)
    return str(was or "")


def has_things(tx: Read, ref: str) -> bool:
    return tx.scalar("select 1 from scope_parent where parent = :ref limit 1", ref=ref) is not None


def remove_project(tx: Write, name: str, ref: str) -> None:
    for table, column in (("scope_parent", "ref"), ("scope_label", "ref"), ("binding", "scope")):
        tx.run(f"delete from {table} where {column} = :ref", ref=ref)
    tx.run("delete from project where name = :name", name=name)


def labels(tx: Read, *, name: str = "", limit: int = 1000) -> list[Label]:
    """Labels by name with what carries them and who is cleared, or the one of this name."""
    where, args = ("where name = :name", {"name": name}) if name else ("", {})
    found = tx.rows(
        f"select name, description, is_restricting from label {where} order by name limit :limit", limit=limit, **args
    )
    names: dict[str, Any] = {"names": [row["name"] for row in found]}
    on: dict[str, list[str]] = {}
    cleared: dict[str, list[str]] = {}
    for row in tx.rows("select label, ref from scope_label where label in :names order by ref limit 100000", **names):
        on.setdefault(row["label"], []).append(row["ref"])
    for row in tx.rows(
        """select c.label, p.name
             from clearance c join principal p on p.id = c.principal_id
            where c.label in :names and p.is_active order by p.name limit 100000""",
        **names,
    ):
        cleared.setdefault(row["label"], []).append(row["name"])
    return [
        Label(
            name=row["name"], description=row["description"], is_restricting=bool(row["is_restricting"]),
            on=on.get(row["name"], []), cleared=cleared.get(row["name"], []),
        )
        for row in found
    ]  # fmt: skip


def set_label(tx: Write, name: str, wish: LabelWish, at_ms: int) -> None:
    tx.run(
        """insert into label (name, description, is_restricting, updated_at_ms) values (:name, :description, :restricting, :at_ms)
           on conflict (name) do update set description = excluded.description, is_restricting = excluded.is_restricting,
              updated_at_ms = excluded.updated_at_ms""",
        name=name, description=wish.description, restricting=wish.is_restricting, at_ms=at_ms,
    )  # fmt: skip


def remove_label(tx: Write, name: str) -> None:
    for table, column in (("scope_label", "label"), ("clearance", "label"), ("label", "name")):
        tx.run(f"delete from {table} where {column} = :name", name=name)


def put_label(tx: Write, ref: str, label: str, at_ms: int) -> int:
    return tx.run(
        "insert into scope_label (ref, label, at_ms) values (:ref, :label, :at_ms) on conflict (ref, label) do nothing",
        ref=ref, label=label, at_ms=at_ms,
    )  # fmt: skip


def take_label(tx: Write, ref: str, label: str) -> int:
    return tx.run("delete from scope_label where ref = :ref and label = :label", ref=ref, label=label)


def clear(tx: Write, principal_id: str, label: str, wish: Clearance, granted_by: str, at_ms: int) -> None:
    tx.run(
        """insert into clearance (principal_id, label, expires_at_ms, granted_by, reason, at_ms)
           values (:principal_id, :label, :expires, :granted_by, :reason, :at_ms)
           on conflict (principal_id, label) do update
              set expires_at_ms = excluded.expires_at_ms, granted_by = excluded.granted_by, reason = excluded.reason""",
        principal_id=principal_id, label=label, expires=wish.expires_at_ms, granted_by=granted_by, reason=wish.reason,
        at_ms=at_ms,
    )  # fmt: skip


def unclear(tx: Write, principal_id: str, label: str) -> int:
    return tx.run("delete from clearance where principal_id = :id and label = :label", id=principal_id, label=label)


def labels_on(tx: Read, refs: list[str]) -> list[tuple[str, str, bool]]:
    """(label, ref, restricts) of what these scopes carry."""
    rows = tx.tuples(
        """select l.label, l.ref, label.is_restricting
             from scope_label l join label on label.name = l.label
            where l.ref in :refs order by l.label, l.ref limit 1000""",
        refs=refs,
    )
    return [(label, ref, bool(restricts)) for label, ref, restricts in rows]
