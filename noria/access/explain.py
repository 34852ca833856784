"""Why somebody may do something, or why not: the decision is that of `Rights`, the words are read from the rows it rests on."""

from __future__ import annotations

from typing import Any

from noria.access import groups_store, rights_store, scopes_store, store
from noria.access.model import Explanation, MyActions, Principal
from noria.access.policy import ACTIONS, INTERNAL, ROLES
from noria.access.rights import Rights
from noria.access.rights_book import RightsBook
from noria.kernel.db import Database, Read
from noria.kernel.errors import Invalid, NotFound
from noria.kernel.ids import Ref
from noria.kernel.op import Op

ASKED_MAX = 5  # names that are given to whoever may not do something


class Explain:
    """Answers `noria access explain`."""

    def __init__(self, db: Database, book: RightsBook) -> None:
        self._db, self._book = db, book

    def explain(self, op: Op, principal: str, action: str, on: str) -> Explanation:
        """The decision on `principal` doing `action` on `on` ('': the whole workspace), now, with its reasons."""
        op.require("access.read")
        if action not in ACTIONS:
            raise Invalid(f"There is no action {action!r}.", where="action", hint="docs/reference/actions.md lists them.")
        ref = Ref.parse(on) if on else None
        with self._db.read() as tx:
            found = store.principal(tx, name=principal)
            if found is None:
                raise NotFound(f"There is no principal named {principal}.", hint="noria user list shows them.")
            rights = rights_store.rights(tx, found.id, op.at_ms)
            why = _why(tx, found, action, on, op.at_ms)
        return Explanation(principal=principal, action=action, on=on, is_allowed=rights.allow(action, ref), why=why)

    def mine(self, op: Op, rights: Rights, on: str) -> MyActions:
        """What `rights`, the caller's, allow on `on`, and what it would take for the rest: one answer for a whole page."""
        if not op.can("me.read") and op.actor.kind == "nobody":
            op.require("me.read")  # a role on one thing only is enough to ask what it allows
        ref = Ref.parse(on) if on else None
        may = {action for action in ACTIONS if rights.allow(action, ref)}
        with self._db.read() as tx:
            roles = {**ROLES, **{role.name: frozenset(role.actions) for role in groups_store.roles(tx)}}
            ask = store.who_has(tx, [n for n, a in roles.items() if "access.write" in a], op.at_ms, limit=ASKED_MAX)
        rest = ACTIONS - may - INTERNAL
        return MyActions(
            on=on, may=sorted(may), ask=ask,
            roles={a: sorted(name for name, actions in roles.items() if a in actions) for a in sorted(rest)},
            somewhere=[] if ref else sorted({a for actions in rights.on.values() for a in actions} - may),
        )  # fmt: skip


def _why(tx: Read, principal: Principal, action: str, on: str, at_ms: int) -> list[str]:
    if not principal.is_active:
        return [f"{principal.name} is disabled."]
    scopes = ["", *(scopes_store.above(tx, on) if on else [])]
    names = {row["id"]: row["name"] for row in _above(tx, principal.id)}
    custom = {role.name: frozenset(role.actions) for role in groups_store.roles(tx)}
    rows = tx.rows(
        """select principal_id, role, scope, expires_at_ms, granted_by, reason
             from binding where principal_id in :ids order by scope, role limit 10000""",
        ids=sorted(names),
    )
    said = []
    for row in rows:
        if action not in ROLES.get(row["role"], custom.get(row["role"], frozenset())):
            continue
        said.append(_said(row, names[row["principal_id"]], principal.name, scopes, at_ms))
    if not said:
        roles = sorted(name for name, actions in {**ROLES, **custom}.items() if action in actions)
        said = [f"No role that {principal.name} has includes {action}. Roles that do: {', '.join(roles) or 'none'}."]
    return said + _labels(tx, principal, sorted(names), scopes, names, at_ms)


def _said(row: dict[str, Any], holder: str, name: str, scopes: list[str], at_ms: int) -> str:
    """One grant in words: whether it counts here."""
    where = f"on {row['scope']}" if row["scope"] else "on the whole workspace"
    by = f" as a member of {holder}" if holder != name else ""
    text = f"{name} has the role {row['role']} {where}{by}"
    if row["reason"]:
        text += f" ({row['reason']})"
    if row["expires_at_ms"] is not None and row["expires_at_ms"] <= at_ms:
        return f"{text}: it has expired."
    if row["scope"] not in scopes:
        return f"{text}: not here."
    return f"{text}, granted by {row['granted_by']}." if row["granted_by"] else f"{text}."


def _labels(
    tx: Read, principal: Principal, ids: list[str], scopes: list[str], names: dict[str, str], at_ms: int
) -> list[str]:
    """What restricting labels say: on the thing, or for the whole workspace everywhere."""
    said = []
    cleared = {
        row["label"]: names[row["principal_id"]]
        for row in tx.rows(
            """select label, principal_id from clearance
                where principal_id in :ids and (expires_at_ms is null or expires_at_ms > :now) limit 10000""",
            ids=ids, now=at_ms,
        )
    }  # fmt: skip
    if scopes == [""]:
        hidden = rights_store.rights(tx, principal.id, at_ms).hidden
        return (
            [f"{len(hidden)} thing(s) are hidden from {principal.name} by labels: that is not everywhere."] if hidden else []
        )
    for label, ref, restricts in scopes_store.labels_on(tx, [s for s in scopes if s]):
        if not restricts:
            continue
        if label in cleared:
            said.append(f"{ref} carries the label {label}; {cleared[label]} has a clearance for it.")
        else:
            said.append(f"{ref} carries the label {label}, for which {principal.name} has no clearance.")
    return said


def _above(tx: Read, principal_id: str) -> list[dict[str, Any]]:
    """Id and name of the principal and of every active group it is in."""
    return tx.rows(
        f"with recursive {rights_store.MINE} select p.id, p.name from principal p join mine on mine.id = p.id",
        id=principal_id,
    )
