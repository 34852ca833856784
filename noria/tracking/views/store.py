"""The rows of saved views."""

from __future__ import annotations

from noria.kernel.db import Read, Write, js
from noria.kernel.naming import Noun, findable
from noria.tracking.store import among
from noria.tracking.views.model import View

findable(
    Noun(
        kind="view", action="view.read", is_owned=True,
        query="""select case when scope = '' then '' else 'experiment:' || scope end as scope, 'view:' || id as ref, name as label,
                        'view of ' || page || ' by ' || owner as detail, updated_at_ms as at_ms, owner_id as owner, is_shared
                   from saved_view where workspace = :workspace""",
    )
)  # fmt: skip

_VIEW = "id, page, name, scope, owner, owner_id, is_shared, spec, created_at_ms, updated_at_ms, generation"


def add(tx: Write, view: View, workspace: str) -> bool:
    """False when the owner has a view of this name already."""
    added = tx.run(
        f"""insert into saved_view ({_VIEW}, workspace)
            values (:id, :page, :name, :scope, :owner, :owner_id, :is_shared, :spec, :created, :updated, :generation, :workspace)
            on conflict (workspace, owner_id, page, scope, name) do nothing""",
        id=view.id, page=view.page, name=view.name, scope=view.scope, owner=view.owner, owner_id=view.owner_id,
        is_shared=view.is_shared, spec=js(view.spec), created=view.created_at_ms, updated=view.updated_at_ms,
        generation=view.generation, workspace=workspace,
    )  # fmt: skip
    return added == 1


def get(tx: Read, view_id: str, workspace: str) -> View | None:
    return tx.one(
        View,
        f"select {_VIEW} from saved_view where id = :id and workspace = :workspace",
        id=view_id, workspace=workspace,
    )  # fmt: skip


def visible(
    tx: Read,
    workspace: str,
    *,
    page: str,
    owner_id: str,
    scope: str | None,
    scopes: list[str] | None,
    after: str,
    limit: int,
) -> list[View]:
    """The owner's views and shared ones of `scopes` (None: all), by name; of one `scope` and of all runs only, if given."""
    clauses = ["workspace = :workspace", "page = :page", "name || ' ' || id > :after"]
    shared = "is_shared" if scopes is None else f"(is_shared and {among(tx, 'scope', 'scopes')})"
    clauses.append(f"(owner_id = :owner or {shared})")
    if scope is not None:
        clauses.append("scope in (:scope, '')")
    return tx.all(
        View,
        f"select {_VIEW} from saved_view where {' and '.join(clauses)} order by name || ' ' || id limit :limit",
        workspace=workspace, page=page, owner=owner_id, after=after, limit=limit,
        **({} if scope is None else {"scope": scope}), **({} if scopes is None else {"scopes": js(scopes)}),
    )  # fmt: skip


def count_of(tx: Read, owner_id: str, workspace: str) -> int:
    return int(
        tx.scalar(
            "select count(*) from saved_view where owner_id = :owner and workspace = :workspace",
            owner=owner_id,
            workspace=workspace,
        )
    )


def change(tx: Write, view: View, was: int) -> bool:
    """False when another writer was faster."""
    changed = tx.run(
        """update saved_view set name = :name, is_shared = :is_shared, spec = :spec, updated_at_ms = :at_ms,
                                 generation = :generation
            where id = :id and generation = :was""",
        id=view.id, name=view.name, is_shared=view.is_shared, spec=js(view.spec), at_ms=view.updated_at_ms,
        generation=view.generation, was=was,
    )  # fmt: skip
    return changed == 1


def named(tx: Read, view: View, workspace: str) -> str | None:
    """The id of another view of the same owner, page and scope with this name."""
    found = tx.column(
        """select id from saved_view where workspace = :workspace and owner_id = :owner and page = :page and scope = :scope
              and name = :name and id <> :id limit 1""",
        workspace=workspace, owner=view.owner_id, page=view.page, scope=view.scope, name=view.name, id=view.id,
    )  # fmt: skip
    return str(found[0]) if found else None


def remove(tx: Write, view_id: str) -> None:
    tx.run("delete from saved_view where id = :id", id=view_id)
