"""Saved views. A view of an experiment is seen by those who may read the experiment; a view of all runs by those who may read any.

Only its owner changes a view, or somebody who administers the system. A view that the caller may not see is answered like one
that does not exist; it holds names and filters, never a run.
"""

from __future__ import annotations

from msgspec import structs

from noria.kernel.db import Database, Read
from noria.kernel.errors import AlreadyExists, Conflict, Forbidden, Invalid, NotFound
from noria.kernel.ids import Ref, new_id
from noria.kernel.op import Op
from noria.kernel.paging import Page as ListPage
from noria.kernel.paging import decode_token, encode_token
from noria.tracking.service import Tracking
from noria.tracking.views import store
from noria.tracking.views.model import VIEWS_PER_OWNER, NewView, Page, View, ViewChange, check_name, check_spec


class Views:
    """The service of saved views."""

    def __init__(self, db: Database, tracking: Tracking) -> None:
        self._db, self._tracking = db, tracking

    def create(self, op: Op, new: NewView) -> View:
        """Save a view. Raises Invalid, NotFound (the experiment), AlreadyExists, Forbidden."""
        op.require("view.write", self._on(new.scope))
        if new.scope:
            self._tracking.experiment(op, new.scope)
        view = View(
            id=new_id(op.at_ms), page=new.page, name=check_name(new.name), scope=new.scope, owner=op.actor.label,
            owner_id=_owner(op), is_shared=new.is_shared, spec=check_spec(new.spec), created_at_ms=op.at_ms,
            updated_at_ms=op.at_ms, generation=1,
        )  # fmt: skip
        with self._db.write(op) as tx:
            if store.count_of(tx, view.owner_id, op.workspace) >= VIEWS_PER_OWNER:
                raise Invalid(f"You have {VIEWS_PER_OWNER} views, which is the most.", hint="Delete some of them first.")
            if not store.add(tx, view, op.workspace):
                raise self._taken(view, store.named(tx, view, op.workspace))
            tx.emit("view.created", view.ref, name=view.name, scope=view.scope, is_shared=view.is_shared)
        return view

    def get(self, op: Op, view_id: str) -> View:
        """One view. Raises NotFound."""
        with self._db.read() as tx:
            return self._seen(tx, op, view_id)

    def views(
        self, op: Op, *, page: Page = "runs", scope: str | None = None, limit: int = 100, after: str = ""
    ) -> ListPage[View]:
        """Views the caller may see, by name; those of `scope` and of all runs, if given."""
        found = op.visible("view.read")
        if found == []:
            op.require("view.read")
        scopes = None if found is None else [s.removeprefix("experiment:") for s in found if s.startswith("experiment:")]
        start = str(decode_token(after, size=1)[0]) if after else ""
        with self._db.read() as tx:
            rows = store.visible(
                tx, op.workspace, page=page, owner_id=_owner(op), scope=scope, after=start, limit=limit + 1,
                scopes=None if scopes is None else ["", *scopes],
            )  # fmt: skip
        last = rows[limit - 1] if len(rows) > limit else None
        return ListPage(rows[:limit], encode_token(f"{last.name} {last.id}") if last else None)

    def change(self, op: Op, view_id: str, wish: ViewChange) -> View:
        """Change name, spec or audience. Raises NotFound, Forbidden, Invalid, AlreadyExists, Conflict."""
        with self._db.write(op) as tx:
            was = self._own(tx, op, view_id)
            if wish.expect is not None and wish.expect != was.generation:
                raise _moved(was)
            view = structs.replace(
                was, name=was.name if wish.name is None else check_name(wish.name), updated_at_ms=op.at_ms,
                is_shared=was.is_shared if wish.is_shared is None else wish.is_shared, generation=was.generation + 1,
                spec=was.spec if wish.spec is None else check_spec(wish.spec),
            )  # fmt: skip
            other = store.named(tx, view, op.workspace)
            if other:
                raise self._taken(view, other)
            if not store.change(tx, view, was.generation):
                raise _moved(was)
            tx.emit("view.changed", view.ref, name=view.name, is_shared=view.is_shared, generation=view.generation)
        return view

    def delete(self, op: Op, view_id: str) -> None:
        """Remove a view. Raises NotFound, Forbidden."""
        with self._db.write(op) as tx:
            view = self._own(tx, op, view_id)
            store.remove(tx, view.id)
            tx.emit("view.deleted", view.ref, name=view.name)

    def _seen(self, tx: Read, op: Op, view_id: str) -> View:
        found = store.get(tx, view_id, op.workspace)
        may = found is not None and op.can("view.read", self._on(found.scope))
        if found is not None and not found.scope and not may:
            may = bool(op.visible("view.read"))  # a view of all runs, and a role on one experiment
        op.asked.add("view.read")
        if found is None or not may or not (found.is_shared or found.owner_id == _owner(op) or op.can("system.admin")):
            raise NotFound(f"There is no view {view_id[:80]!r}.", hint="It was deleted, or it is somebody's own.")
        return found

    def _own(self, tx: Read, op: Op, view_id: str) -> View:
        op.asked.add("view.write")
        found = self._seen(tx, op, view_id)
        op.require("view.write", self._on(found.scope))
        if found.owner_id != _owner(op) and not op.can("system.admin"):
            raise Forbidden(
                f"The view {found.name!r} belongs to {found.owner}.", ref=found.ref, hint="Save your own under another name."
            )
        return found

    def _on(self, scope: str) -> Ref | None:
        return Ref("experiment", scope) if scope else None

    def _taken(self, view: View, other: str | None) -> AlreadyExists:
        return AlreadyExists(
            f"You have a view named {view.name!r} here already.", ref=Ref("view", other) if other else None,
            hint="Save into that one, or pick another name.",
        )  # fmt: skip


def _owner(op: Op) -> str:
    return op.actor.on_behalf_of or op.actor.id


def _moved(view: View) -> Conflict:
    return Conflict(
        f"The view {view.name!r} changed since you read it.", ref=view.ref,
        hint=f"It is at generation {view.generation}; read it again and decide.",
    )  # fmt: skip
