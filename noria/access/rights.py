"""What somebody may do: roles from their own and their groups' bindings, on scopes, less what they lack a clearance for.

    principal ─in─▶ group ─in─▶ group          bindings of all of them count
    '' (the workspace) ⊃ project ⊃ project ⊃ thing     a role on one counts on everything in it
    label, restricting, on a thing or a project        hides it from whoever has no clearance, whatever their roles

All of it is read by a few queries (rights_store.py) into one `Rights`, which answers checks from memory, and lists as refs for SQL
(rights_book.py): what is listed is exactly what may be looked at, because both read the same `Rights`.
"""

from __future__ import annotations

from msgspec import Struct

from noria.access.policy import OWN, ROLES, WORKSPACE_ACTIONS
from noria.kernel import things
from noria.kernel.ids import Ref


class Limit(Struct, frozen=True):
    """What a token narrows its owner's rights to; empty: not at all."""

    actions: frozenset[str] = frozenset()
    scopes: tuple[str, ...] = ()


NO_LIMIT = Limit()


class Rights(Struct, frozen=True):
    """What one principal may do: actions everywhere, actions on single things, and what is hidden from "everywhere"."""

    everywhere: frozenset[str]
    on: dict[str, frozenset[str]]
    hidden: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()  # on the whole workspace
    until_ms: int | None = None  # when the first of what they rest on expires

    def allow(self, action: str, on: Ref | None) -> bool:
        """May they do `action` on `on`, or without it on the whole workspace?"""
        if action in self.everywhere:
            if not self.hidden:
                return True
            if on is not None and (on.kind in things.kinds() or str(on) in self.hidden):
                return str(on) not in self.hidden
            if action in WORKSPACE_ACTIONS:  # for any other, everywhere but somewhere is not everywhere
                return True
        return on is not None and action in self.on.get(str(on), ())

    def narrowed(self, limit: Limit, reach: frozenset[str]) -> Rights:
        """The same, within a token's limit; `reach`: its scopes with everything in them."""
        actions = limit.actions or (self.everywhere.union(*self.on.values()))
        if not limit.scopes:
            on = {ref: found & actions for ref, found in self.on.items()}
            return Rights(self.everywhere & actions, on, self.hidden, self.roles, self.until_ms)
        on = {ref: (self.everywhere | self.on.get(ref, frozenset())) & actions for ref in reach - self.hidden}
        return Rights(self.everywhere & actions & OWN, on, frozenset(), frozenset(), self.until_ms)


NO_RIGHTS = Rights(frozenset(), {})
ALL_RIGHTS = Rights(ROLES["admin"], {}, roles=frozenset({"admin"}))
