"""Projects – named parts of the workspace, in each other – and labels, which hide things from whoever lacks a clearance."""

from __future__ import annotations

from noria.access import rights_store, scopes_store
from noria.access.groups import active
from noria.access.model import Clearance, Label, LabelWish, Project, ProjectWish
from noria.access.rights_book import RightsBook
from noria.kernel import things
from noria.kernel.db import Database, Write
from noria.kernel.errors import Invalid, NotFound
from noria.kernel.ids import Ref, check_name
from noria.kernel.op import Op

DEPTH_MAX = 16
LABELS_MAX = 1000


class Scopes:
    """Projects, labels, clearances."""

    def __init__(self, db: Database, book: RightsBook) -> None:
        self._db, self._book = db, book

    def projects(self, op: Op) -> list[Project]:
        op.require("access.read")
        with self._db.read() as tx:
            return scopes_store.projects(tx)

    def set_project(self, op: Op, name: str, wish: ProjectWish) -> Project:
        """Make, describe or move a project. Raises Invalid, NotFound."""
        op.require("access.write")
        check_name(name, what="project")
        ref = str(Ref("project", name))
        with self._db.write(op) as tx:
            rights_store.bump_epoch(tx)
            scopes_store.set_project(tx, name, wish.description, op.actor.label, op.at_ms)
            parent = self._project(tx, wish.parent) if wish.parent else ""
            above = scopes_store.above(tx, parent) if parent else []
            if ref in above:
                raise Invalid(f"{wish.parent} lies in {name}: projects cannot lie in each other.", where="parent")
            if len(above) >= DEPTH_MAX:
                raise Invalid(f"Projects lie in each other at most {DEPTH_MAX} deep.", where="parent")
            scopes_store.place(tx, ref, parent, op.at_ms)
            tx.emit("project.changed", Ref("project", name), name=name, parent=wish.parent)
            found = scopes_store.projects(tx, name=name)[0]
        self._book.forget()
        return found

    def delete_project(self, op: Op, name: str) -> None:
        """Remove an empty project with the grants on it. Raises NotFound, Invalid."""
        op.require("access.write")
        with self._db.write(op) as tx:
            rights_store.bump_epoch(tx)
            ref = self._project(tx, name)
            if scopes_store.has_things(tx, ref):
                raise Invalid(f"There are things in {name}.", hint="Take them out first: noria project take.")
            scopes_store.remove_project(tx, name, ref)
            tx.emit("project.deleted", Ref("project", name), name=name)
        self._book.forget()

    def place(self, op: Op, name: str, thing: str) -> None:
        """Put a thing into a project; it lies in one at most. Raises NotFound, Invalid."""
        op.require("access.write")
        ref = check_thing(thing)
        with self._db.write(op) as tx:
            rights_store.bump_epoch(tx)
            was = scopes_store.place(tx, str(ref), self._project(tx, name), op.at_ms)
            tx.emit("thing.placed", ref, project=name, was=was.removeprefix("project:"))
        self._book.forget()

    def place_new(self, tx: Write, op: Op, name: str, ref: Ref) -> None:
        """Put a thing that is being made into a project, in the transaction that makes it. Raises NotFound.

        The caller has asked for the right to make it there, and drops what is remembered of rights afterwards.
        """
        rights_store.bump_epoch(tx)
        scopes_store.place(tx, str(ref), self._project(tx, name), op.at_ms)
        tx.emit("thing.placed", ref, project=name, was="")

    def take(self, op: Op, name: str, thing: str) -> None:
        """Take a thing out of a project. Raises NotFound."""
        op.require("access.write")
        ref = check_thing(thing)
        with self._db.write(op) as tx:
            rights_store.bump_epoch(tx)
            project = self._project(tx, name)
            if scopes_store.place(tx, str(ref), "", op.at_ms) != project:
                raise NotFound(f"{thing} is not in {name}.")
            tx.emit("thing.placed", ref, project="", was=name)
        self._book.forget()

    def _project(self, tx: Write, name: str) -> str:
        if not scopes_store.projects(tx, name=name):
            raise NotFound(f"There is no project {name}.", hint="noria project list shows them.")
        return str(Ref("project", name))

    # --- labels -----------------------------------------------------------------------------------------------------

    def labels(self, op: Op) -> list[Label]:
        op.require("access.read")
        with self._db.read() as tx:
            return scopes_store.labels(tx)

    def set_label(self, op: Op, name: str, wish: LabelWish) -> Label:
        """Make or change a label. Raises Invalid."""
        op.require("access.write")
        check_name(name, what="label")
        with self._db.write(op) as tx:
            rights_store.bump_epoch(tx)
            scopes_store.set_label(tx, name, wish, op.at_ms)
            tx.emit("label.changed", Ref("label", name), name=name, is_restricting=wish.is_restricting)
            found = scopes_store.labels(tx, name=name)[0]
        self._book.forget()
        return found

    def delete_label(self, op: Op, name: str) -> None:
        """Remove a label from everything, with its clearances. Raises NotFound."""
        op.require("access.write")
        with self._db.write(op) as tx:
            rights_store.bump_epoch(tx)
            self._label(tx, name)
            scopes_store.remove_label(tx, name)
            tx.emit("label.deleted", Ref("label", name), name=name)
        self._book.forget()

    def put_label(self, op: Op, name: str, thing: str) -> None:
        """Put a label on a thing or a project. Raises NotFound, Invalid."""
        op.require("access.write")
        ref = check_thing(thing, or_project=True)
        with self._db.write(op) as tx:
            rights_store.bump_epoch(tx)
            self._label(tx, name)
            if ref.kind == "project":
                self._project(tx, ref.id)
            if scopes_store.put_label(tx, str(ref), name, op.at_ms):
                tx.emit("label.put", ref, label=name)
        self._book.forget()

    def take_label(self, op: Op, name: str, thing: str) -> None:
        """Take a label off. Raises NotFound."""
        op.require("access.write")
        ref = check_thing(thing, or_project=True)
        with self._db.write(op) as tx:
            rights_store.bump_epoch(tx)
            if not scopes_store.take_label(tx, str(ref), name):
                raise NotFound(f"{thing} does not carry the label {name}.")
            tx.emit("label.taken", ref, label=name)
        self._book.forget()

    def clear(self, op: Op, name: str, principal: str, wish: Clearance) -> None:
        """Let somebody, or a group, see what carries a label. Raises NotFound, Invalid."""
        op.require("access.write")
        check_expiry(op, wish.expires_at_ms)
        with self._db.write(op) as tx:
            rights_store.bump_epoch(tx)
            self._label(tx, name)
            found = active(tx, principal)
            scopes_store.clear(tx, found.id, name, wish, op.actor.label, op.at_ms)
            tx.emit("clearance.added", Ref("principal", found.id), label=name, reason=wish.reason)
        self._book.forget()

    def unclear(self, op: Op, name: str, principal: str) -> None:
        """End a clearance. Raises NotFound."""
        op.require("access.write")
        with self._db.write(op) as tx:
            rights_store.bump_epoch(tx)
            found = active(tx, principal)
            if not scopes_store.unclear(tx, found.id, name):
                raise NotFound(f"{principal} has no clearance for {name}.")
            tx.emit("clearance.removed", Ref("principal", found.id), label=name)
        self._book.forget()

    def _label(self, tx: Write, name: str) -> None:
        if not scopes_store.labels(tx, name=name):
            raise NotFound(f"There is no label {name}.", hint="noria label list shows them.")


def check_expiry(op: Op, expires_at_ms: int | None) -> None:
    """Raises Invalid for a time that has passed."""
    if expires_at_ms is not None and expires_at_ms <= op.at_ms:
        raise Invalid("expires_at_ms has passed already.", where="expires_at_ms")


def check_thing(text: str, *, or_project: bool = False) -> Ref:
    """The ref of a thing that rights are asked for on. Raises Invalid."""
    ref = Ref.parse(text)
    known = sorted(things.kinds() | ({"project"} if or_project else set()))
    if ref.kind not in known:
        raise Invalid(f"{text[:80]!r} cannot be placed or marked.", where="ref", hint=f"Kinds: {', '.join(known)}.")
    return ref
