"""Accounts of people whom an identity provider vouches for: made when they first come, in the groups that it names each time.

An identity is (issuer, subject). A name or an e-mail address is never taken for one: whoever could choose theirs at the provider
would take over the account of that name here. An account that is there already is linked by an administrator, on record.
"""

from __future__ import annotations

import re
from typing import Any

from noria.access import rights_store, scim_store, store
from noria.access.groups import Groups, active
from noria.access.model import Principal
from noria.access.rights_book import RightsBook
from noria.kernel.db import Database, Write
from noria.kernel.errors import AlreadyExists, Forbidden, Unauthenticated
from noria.kernel.ids import PrincipalId, Ref, new_id
from noria.kernel.op import Op

SOURCE = "oidc"
NAME_LENGTH_MAX = 100
GROUPS_MAX = 200


class Identities:
    """Finds, makes and links accounts."""

    def __init__(self, db: Database, groups: Groups, book: RightsBook, mapped: dict[str, str]) -> None:
        self._db, self._groups, self._book, self.mapped = db, groups, book, mapped

    def account(self, tx: Write, op: Op, issuer: str, claims: dict[str, Any], groups_claim: str) -> Principal:
        """The active account of an identity, made if need be, with its groups as of now. Raises Unauthenticated, Forbidden."""
        subject = str(claims["sub"])
        principal_id = store.identity(tx, issuer, subject)
        found = store.principal(tx, principal_id=principal_id) if principal_id else None
        if found is None:
            provisioned = scim_store.by_external_id(tx, subject)
            if provisioned:  # the provider made the account itself, under the id that it signs in with
                found = store.principal(tx, principal_id=provisioned)
                store.add_identity(tx, issuer, subject, provisioned, op.at_ms)
        if found is None:
            found = self._make(tx, issuer, subject, name_of(claims), op)
        if not found.is_active:
            raise Unauthenticated("This account is disabled.", hint="Ask an administrator.")
        self._sort(tx, op, found, claims.get(groups_claim))
        return found

    def _make(self, tx: Write, issuer: str, subject: str, name: str, op: Op) -> Principal:
        if name == "local admin" or store.principal(tx, name=name):
            raise Forbidden(
                f"There is an account named {name} already, and nobody has said that it is yours.",
                hint=f"An administrator links it: noria user link {name} {subject}",
            )
        made = Principal(id=PrincipalId(new_id(op.at_ms)), kind="user", name=name, is_active=True, created_at_ms=op.at_ms)
        store.add_principal(tx, made, "")
        store.add_identity(tx, issuer, subject, made.id, op.at_ms)
        tx.emit("principal.created", Ref("principal", made.id), name=name, principal_kind="user")
        return made

    def _sort(self, tx: Write, op: Op, person: Principal, claimed: Any) -> None:
        """Into the groups that were named and are mapped; out of those that an earlier sign-in put them in."""
        names = [g for g in claimed if isinstance(g, str)][:GROUPS_MAX] if isinstance(claimed, list) else []
        wanted = {self.mapped[name] for name in names if name in self.mapped}
        now = {g.name: g for g in store.groups_of(tx, person.id, SOURCE)}
        for name in sorted(wanted - set(now)):
            group = store.principal(tx, name=name)
            if group is None:
                group = self._groups.add(tx, op, name)
            if group.kind == "group" and group.is_active:
                self._groups.join(tx, group, person, SOURCE)
        for name in sorted(set(now) - wanted):
            self._groups.leave(tx, now[name], person, SOURCE)
        rights_store.bump_epoch(tx)
        tx.after_commit(self._book.forget)

    def link(self, op: Op, issuer: str, name: str, subject: str) -> None:
        """Let an identity sign in as an account that is there. Raises NotFound, AlreadyExists, Forbidden."""
        op.require("access.write")
        with self._db.write(op) as tx:
            found = active(tx, name)
            if found.kind != "user":
                raise Forbidden(f"{name} is no person.")
            if store.identity(tx, issuer, subject):
                raise AlreadyExists(f"{subject} signs in as somebody already.")
            store.add_identity(tx, issuer, subject, found.id, op.at_ms)
            tx.emit("identity.linked", Ref("principal", found.id), name=name, issuer=issuer)


def name_of(claims: dict[str, Any]) -> str:
    """What to call somebody here: as they are called there, without what a name may not hold."""
    for claim in ("preferred_username", "email", "name", "sub"):
        value = claims.get(claim)
        if isinstance(value, str) and value.strip():
            name = value.partition("@")[0] if claim in ("email", "preferred_username") else value
            clean = re.sub(r"[/:@\x00-\x1f\ud800-\udfff]", "-", name).strip()[:NAME_LENGTH_MAX].strip()
            if clean and clean not in (".", ".."):
                return clean
    raise Unauthenticated("The identity provider says no name.")
