"""Groups, which may lie in groups, and roles of one's own. No ring of groups, and always an administrator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from noria.access import groups_store, rights_store, store
from noria.access.model import Binding, Group, Holding, NewGroup, Principal, Role, RoleWish
from noria.access.policy import ACTIONS, INTERNAL, ROLES
from noria.access.rights_book import RightsBook
from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import AlreadyExists, Forbidden, Invalid, NotFound
from noria.kernel.ids import PrincipalId, Ref, check_name, new_id
from noria.kernel.op import Op

MEMBERS_MAX = 10_000
DEPTH_MAX = 16


class Groups:
    """Groups, their members, and roles."""

    def __init__(self, db: Database, book: RightsBook) -> None:
        self._db, self._book = db, book

    def groups(self, op: Op) -> list[Group]:
        op.require("access.read")
        with self._db.read() as tx:
            return groups_store.groups(tx)

    def group(self, op: Op, name: str) -> Group:
        """Raises NotFound."""
        op.require("access.read")
        with self._db.read() as tx:
            found = groups_store.groups(tx, group_id=_group(tx, name).id)
        return found[0]

    def create(self, op: Op, new: NewGroup) -> Group:
        """Make a group. Raises Invalid, AlreadyExists, Forbidden."""
        op.require("access.write")
        check_name(new.name, what="group")
        with self._db.write(op) as tx:
            for role in new.roles:
                may_give(tx, op, role)
            group = self.add(tx, op, new.name)
            for role in sorted(set(new.roles)):
                bind(tx, op, Binding(principal_id=group.id, role=role, scope="", granted_by=op.actor.label))
        self._book.forget()
        return Group(id=group.id, name=group.name, created_at_ms=group.created_at_ms, roles=sorted(set(new.roles)))

    def add(self, tx: Write, op: Op, name: str) -> Principal:
        """A group without members, in the transaction of the caller."""
        if store.principal(tx, name=name):
            raise AlreadyExists(f"There is already a principal named {name}.", hint="Pick another name.")
        group = Principal(
            id=PrincipalId(new_id(op.at_ms)), kind="group", name=name, is_active=True, created_at_ms=op.at_ms
        )  # fmt: skip
        store.add_principal(tx, group, "")
        tx.emit("group.created", group_ref(group), name=name)
        return group

    def delete(self, op: Op, name: str) -> None:
        """Remove a group with its grants, clearances and memberships. Raises NotFound, Invalid."""
        op.require("access.write")
        with self._db.write(op) as tx, an_admin_stays(tx, op.at_ms):
            self.remove(tx, _group(tx, name))
        self._book.forget()

    def remove(self, tx: Write, group: Principal) -> None:
        groups_store.remove_group(tx, group.id)
        tx.emit("group.deleted", group_ref(group), name=group.name)

    def add_member(self, op: Op, name: str, member: str) -> None:
        """Put somebody, or a group, into a group. Being in it already is no error. Raises NotFound, Invalid, Forbidden."""
        op.require("access.write")
        with self._db.write(op) as tx:
            group, found = _group(tx, name), active(tx, member)
            for role, scope in groups_store.roles_from(tx, group.id):
                may_give(tx, op, role, scope)
            self.join(tx, group, found)
        self._book.forget()

    def join(self, tx: Write, group: Principal, member: Principal, source: str = "") -> None:
        rights_store.bump_epoch(tx)  # first: its row is the lock that keeps two of these from closing a ring together
        above = groups_store.above(tx, group.id)
        if member.id in above:
            raise Invalid(f"{group.name} is in {member.name} already: groups cannot lie in each other.", where="member")
        if len(above) > DEPTH_MAX:
            raise Invalid(f"Groups lie in each other at most {DEPTH_MAX} deep.", where="member")
        if groups_store.members_count(tx, group.id) >= MEMBERS_MAX:
            raise Invalid(f"A group has at most {MEMBERS_MAX} members.", hint="Put groups into it.")
        if groups_store.add_member(tx, group.id, member.id, source, tx.op.at_ms if tx.op else 0):
            tx.emit("member.added", group_ref(group), group=group.name, member=member.name, source=source)

    def remove_member(self, op: Op, name: str, member: str) -> None:
        """Take somebody out of a group. Raises NotFound, Invalid."""
        op.require("access.write")
        with self._db.write(op) as tx, an_admin_stays(tx, op.at_ms):
            group, found = _group(tx, name), store.principal(tx, name=member)
            if found is None or not self.leave(tx, group, found, None):
                raise NotFound(f"{member} is not in {name}.")
        self._book.forget()

    def leave(self, tx: Write, group: Principal, member: Principal, source: str | None) -> bool:
        """Take a member out: what `source` put there, or all of it."""
        removed = groups_store.remove_member(tx, group.id, member.id, source)
        if removed:
            tx.emit("member.removed", group_ref(group), group=group.name, member=member.name, source=source or "")
        return bool(removed)

    # --- roles ------------------------------------------------------------------------------------------------------

    def roles(self, op: Op) -> list[Role]:
        """The built-in roles, and those of one's own."""
        op.require("access.read")
        built_in = [Role(name=n, actions=sorted(a), is_built_in=True) for n, a in ROLES.items()]
        with self._db.read() as tx:
            return built_in + groups_store.roles(tx)

    def set_role(self, op: Op, name: str, wish: RoleWish) -> Role:
        """Make or change a role. Nobody can put an action into it that they may not do. Raises Invalid, Forbidden."""
        op.require("access.write")
        check_name(name, what="role")
        if name in ROLES:
            raise Invalid(f"{name} is a built-in role and stays what it is.", where="name", hint="Make one of another name.")
        actions = sorted(set(wish.actions))
        for action in actions:
            if action not in ACTIONS - INTERNAL:
                raise Invalid(
                    f"There is no action {action!r}.", where="actions", hint="docs/reference/actions.md lists them."
                )
        if not actions:
            raise Invalid("A role without an action allows nothing.", where="actions")
        _check_own(op, actions)
        with self._db.write(op) as tx:
            rights_store.bump_epoch(tx)
            groups_store.set_role(tx, name, actions, wish.description, op.actor.label, op.at_ms)
            tx.emit("role.changed", Ref("role", name), name=name, actions=actions)
        self._book.forget()
        return Role(name=name, actions=actions, description=wish.description)

    def delete_role(self, op: Op, name: str) -> None:
        """Remove a role of one's own with every grant of it. Raises NotFound, Invalid."""
        op.require("access.write")
        if name in ROLES:
            raise Invalid(f"{name} is a built-in role.", where="name")
        with self._db.write(op) as tx:
            rights_store.bump_epoch(tx)
            if not groups_store.remove_role(tx, name):
                raise NotFound(f"There is no role {name}.", hint="noria role list shows them.")
            tx.emit("role.deleted", Ref("role", name), name=name)
        self._book.forget()

    def grants(self, op: Op, *, principal: str = "", scope: str | None = None) -> list[Holding]:
        """Who has which role on what, by name."""
        op.require("access.read")
        with self._db.read() as tx:
            return groups_store.grants(tx, principal=principal, scope=scope)


def group_ref(group: Principal) -> Ref:
    return Ref("group", group.id)


def active(tx: Read, name: str) -> Principal:
    """The active principal of this name. Raises NotFound."""
    found = store.principal(tx, name=name)
    if found is None or not found.is_active:
        raise NotFound(f"There is no principal named {name}.", hint="noria user list and noria group list show them.")
    return found


def _group(tx: Read, name: str) -> Principal:
    found = store.principal(tx, name=name)
    if found is None or found.kind != "group" or not found.is_active:
        raise NotFound(f"There is no group named {name}.", hint="noria group list shows them.")
    return found


def actions_of(tx: Read, role: str) -> list[str]:
    """The actions of a role. Raises Invalid when there is none of this name."""
    if role in ROLES:
        return sorted(ROLES[role])
    found = {r.name: r for r in groups_store.roles(tx)}
    if role not in found:
        known = ", ".join(sorted({*ROLES, *found}))
        raise Invalid(f"There is no role {role!r}.", where="role", hint=f"Roles: {known}.")
    return found[role].actions


def may_give(tx: Read, op: Op, role: str, scope: str = "") -> None:
    """Nobody gives what they do not have: else whoever may write grants were an administrator. Raises Invalid, Forbidden."""
    _check_own(op, actions_of(tx, role), Ref.parse(scope) if scope else None)


def check_known(tx: Read, op: Op, ref: Ref) -> None:
    """An experiment goes by its id: under its name a role, a project or a label would say yes and cover nothing. Raises Invalid."""
    if ref.kind == "experiment" and not rights_store.is_there(tx, ref, op.workspace):
        raise Invalid(
            f"There is no experiment with the id {ref.id[:200]!r}.", where="scope",
            hint="An experiment is named by its id here; noria experiment list shows the ids.",
        )  # fmt: skip


def _check_own(op: Op, actions: list[str], on: Ref | None = None) -> None:
    lacking = [action for action in actions if not op.can(action, on) and not op.can(action)]
    # An administrator from whom something is hidden may still give roles: a role shows nobody what a label hides.
    if lacking and not op.can("system.admin"):
        raise Forbidden(
            f"{op.actor.name} may not give what they do not have: {', '.join(lacking[:5])}.",
            hint="Ask somebody who has these actions.",
        )


def bind(tx: Write, op: Op, binding: Binding) -> None:
    """Give a role, with its fact."""
    store.bind(tx, binding, at_ms=op.at_ms)
    subject = Ref("principal", binding.principal_id)
    tx.emit("grant.added", subject, role=binding.role, scope=binding.scope, reason=binding.reason)


@contextmanager
def an_admin_stays(tx: Write, at_ms: int) -> Iterator[None]:
    """A change of rights that must leave an administrator, if there was one. Raises Invalid."""
    rights_store.bump_epoch(tx)  # first: its row is the lock, so that two administrators cannot remove each other
    before = rights_store.admins(tx, at_ms)
    yield
    if before and not rights_store.admins(tx, at_ms):
        raise Invalid("That would leave no administrator.", hint="Make another one first.")
