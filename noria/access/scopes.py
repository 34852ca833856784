"""Projects – named parts of the workspace, in each other – and labels, which hide things from whoever lacks a clearance."""

from __future__ import annotations

from msgspec import structs

from noria.access import rights_store, scopes_store
from noria.access.groups import active, check_known
from noria.access.model import Clearance, Label, LabelWish, Project, ProjectPage, ProjectWish, ReadmeWish
from noria.access.rights_book import RightsBook
from noria.kernel import things
from noria.kernel.db import Database, Write
from noria.kernel.errors import Conflict, Invalid, NotFound
from noria.kernel.events import Event, facts_about
from noria.kernel.ids import Ref, check_name
from noria.kernel.op import Op
from noria.kernel.pages import html_of
from noria.kernel.paging import check_limit

DEPTH_MAX = 16
FACTS_LOOKED_AT = 5_000
README_LENGTH_MAX = 100_000
LABELS_MAX = 1000


class Scopes:
    """Projects, labels, clearances."""

    def __init__(self, db: Database, book: RightsBook) -> None:
        self._db, self._book = db, book

    def projects(self, op: Op) -> list[Project]:
        """The projects that the caller may read, with what they may read in them."""
        if op.visible("project.read") == []:
            op.require("project.read")
        with self._db.read() as tx:
            found = scopes_store.projects(tx)
        return [_shown(op, p) for p in found if op.can("project.read", Ref("project", p.name))]

    def page(self, op: Op, name: str) -> ProjectPage:
        """A project with its readme and everything in it that the caller may read. Raises NotFound."""
        ref = Ref("project", name)
        with self._db.read() as tx:
            found, readme = scopes_store.projects(tx, name=name), scopes_store.readme(tx, name)
            inside = rights_store.reach(tx, [str(ref)])
        if not op.can("project.read", ref) or not found or readme is None:
            raise NotFound(f"There is no project {name[:200]!r}.", hint="noria project list shows them.")
        return ProjectPage(
            project=_shown(op, found[0]), things=sorted(r for r in inside - {str(ref)} if _may_read(op, Ref.parse(r))),
            readme=readme.content, readme_html=html_of(readme.content), edit=readme.edit, actor=readme.actor, at_ms=readme.at_ms,
        )  # fmt: skip

    def set_readme(self, op: Op, name: str, wish: ReadmeWish) -> ProjectPage:
        """Let a project say something else of itself. Raises NotFound, Conflict (somebody else wrote it), Invalid, Forbidden."""
        self.page(op, name)
        op.require("project.write", Ref("project", name))
        if len(wish.content) > README_LENGTH_MAX:
            raise Invalid(f"A readme has at most {README_LENGTH_MAX:,} characters.", where="content")
        with self._db.write(op) as tx:
            was = scopes_store.readme(tx, name)
            if was is None:
                raise NotFound(f"There is no project {name}.", hint="noria project list shows them.")
            edit = (was.edit if wish.expect is None else wish.expect) + 1
            if not scopes_store.set_readme(tx, name, wish.content, edit=edit, actor=op.actor.label, at_ms=op.at_ms):
                raise Conflict(
                    f"The readme of {name} was written since you read it.", ref=Ref("project", name),
                    hint=f"It is at edit {was.edit} now, by {was.actor}; read it again and put both together.",
                )  # fmt: skip
            tx.emit("project.described", Ref("project", name), name=name, edit=edit)
        return self.page(op, name)

    def activity(self, op: Op, name: str, *, limit: int | None = None) -> list[Event]:
        """The newest facts about the project and what lies in it, among the last FACTS_LOOKED_AT. Raises NotFound."""
        page = self.page(op, name)
        refs = [f"project:{name}", *(r for r in page.things if op.can("event.read", Ref.parse(r)))]
        with self._db.read() as tx:
            return facts_about(tx, refs, limit=check_limit(limit, default=50), look_at=FACTS_LOOKED_AT)

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
            check_known(tx, op, ref)
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
            check_known(tx, op, ref)
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


def _may_read(op: Op, ref: Ref) -> bool:
    """May the caller know that this lies in a project?"""
    return op.can("access.read") or op.can(f"{ref.kind}.read" if ref.kind != "system" else "compliance.read", ref)


def _shown(op: Op, project: Project) -> Project:
    """A project with those of its things that the caller may know of."""
    return structs.replace(project, things=[r for r in project.things if _may_read(op, Ref.parse(r))])
