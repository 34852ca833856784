"""SCIM 2.0 (RFC 7643, 7644): an identity provider makes, changes and ends accounts and groups here.

Whoever holds a token with the action `access.provision` decides who there is and who is in which group; what groups may do is
decided here. Ending an account ends its sessions and tokens in the same transaction. A user name that holds an `@` is kept as it is;
the account is called by what stands before it. An account that was there before is never taken over by its name.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

from noria.access import rights_store, scim_store, store
from noria.access.groups import Groups, an_admin_stays
from noria.access.identities import name_of
from noria.access.model import Principal
from noria.access.scim_filter import parse
from noria.kernel.db import Database, Read, Write
from noria.kernel.errors import AlreadyExists, Invalid, NotFound, Unauthenticated
from noria.kernel.ids import PrincipalId, Ref, check_name, new_id
from noria.kernel.op import Op

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
LIST = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
SOURCE = "scim"
COUNT_MAX, OPERATIONS_MAX, MEMBERS_MAX = 1_000, 100, 10_000
KEPT = ("name", "displayName", "nickName", "title", "emails", "phoneNumbers", "locale", "timezone", "preferredLanguage")
_PATH = re.compile(r"^([\w:$\-]+?)(?:\[(.*)\])?(?:\.(\w+))?\Z", re.DOTALL)
Resource = dict[str, Any]


class Scim:
    """Users and groups as SCIM has them."""

    def __init__(self, db: Database, groups: Groups, forget: Callable[[], None]) -> None:
        self._db, self._groups, self._forget = db, groups, forget  # `forget`: what is remembered of tokens and rights

    # --- users ------------------------------------------------------------------------------------------------------

    def users(self, op: Op, filter: str, start: int, count: int) -> Resource:
        """The users that were provisioned and fit `filter`. Raises Invalid."""
        op.require("access.provision")
        with self._db.read() as tx:
            return _page([_user(row) for row in scim_store.users(tx, _equals(filter, "username"))], filter, start, count)

    def user(self, op: Op, user_id: str) -> Resource:
        """Raises NotFound."""
        op.require("access.provision")
        with self._db.read() as tx:
            return self._user(tx, user_id)

    def create_user(self, op: Op, given: Resource) -> Resource:
        """Make an account. Raises Invalid, AlreadyExists."""
        op.require("access.provision")
        wanted = _checked_user(given)
        with self._db.write(op) as tx:
            self._check_free(tx, wanted["userName"], None)
            name = _called(wanted["userName"])
            if store.principal(tx, name=name):
                raise AlreadyExists(f"There is already a principal named {name}.", hint="It was not made by provisioning.")
            made = Principal(
                id=PrincipalId(new_id(op.at_ms)), kind="user", name=name, is_active=True, created_at_ms=op.at_ms
            )  # fmt: skip
            store.add_principal(tx, made, "")
            tx.emit("principal.created", Ref("principal", made.id), name=name, principal_kind="user")
            scim_store.keep(tx, made.id, wanted["userName"], wanted.get("externalId", ""), _attributes(wanted), op.at_ms)
            self._switch(tx, op, made, wanted.get("active", True))
            found = self._user(tx, made.id)
        self._forget()
        return found

    def replace_user(self, op: Op, user_id: str, given: Resource) -> Resource:
        """Give an account these attributes; without `active` it is active. Raises NotFound, Invalid, AlreadyExists."""
        op.require("access.provision")
        with self._db.write(op) as tx:
            found = self._replaced(tx, op, user_id, _checked_user(given))
        self._forget()
        return found

    def patch_user(self, op: Op, user_id: str, patch: Resource) -> Resource:
        """Change some attributes. Raises NotFound, Invalid, AlreadyExists."""
        op.require("access.provision")
        with self._db.write(op) as tx:
            changed = _patched(self._user(tx, user_id), patch)
            found = self._replaced(tx, op, user_id, _checked_user(changed))
        self._forget()
        return found

    def delete_user(self, op: Op, user_id: str) -> None:
        """End an account for good; facts still name it. Raises NotFound, Invalid."""
        op.require("access.provision")
        with self._db.write(op) as tx:
            self._user(tx, user_id)
            person = store.principal(tx, principal_id=user_id)
            assert person is not None
            self._switch(tx, op, person, False)
            scim_store.forget(tx, user_id)
        self._forget()

    def _replaced(self, tx: Write, op: Op, user_id: str, wanted: Resource) -> Resource:
        was = self._user(tx, user_id)
        person = store.principal(tx, principal_id=user_id)
        assert person is not None
        if wanted["userName"] != was["userName"]:
            self._check_free(tx, wanted["userName"], user_id)
            name = _called(wanted["userName"])
            other = store.principal(tx, name=name)
            if other and other.id != user_id:
                raise AlreadyExists(f"There is already a principal named {name}.")
            scim_store.rename(tx, user_id, name)
        scim_store.keep(tx, user_id, wanted["userName"], wanted.get("externalId", ""), _attributes(wanted), op.at_ms)
        self._switch(tx, op, person, wanted.get("active", True))
        return self._user(tx, user_id)

    def _switch(self, tx: Write, op: Op, person: Principal, is_active: bool) -> None:
        if is_active and not person.is_active:
            rights_store.bump_epoch(tx)
            scim_store.enable(tx, person.id)
            tx.emit("principal.enabled", Ref("principal", person.id), name=person.name)
        elif person.is_active and not is_active:
            with an_admin_stays(tx, op.at_ms):
                store.disable(tx, person.id)
            tx.emit("principal.disabled", Ref("principal", person.id), name=person.name)

    def _user(self, tx: Read, user_id: str) -> Resource:
        row = scim_store.user(tx, user_id)
        if row is None:
            raise NotFound(f"There is no user {user_id[:80]!r}.")
        return _user(row)

    def _check_free(self, tx: Read, user_name: str, user_id: str | None) -> None:
        taken = [row["id"] for row in scim_store.users(tx, user_name)]
        if taken and taken != [user_id]:
            raise AlreadyExists(f"There is already a user {user_name[:200]!r}.", where="userName")

    # --- groups -----------------------------------------------------------------------------------------------------

    def groups(self, op: Op, filter: str, start: int, count: int) -> Resource:
        """Every group that fits `filter`. Raises Invalid."""
        op.require("access.provision")
        with self._db.read() as tx:
            return _page(scim_store.groups(tx), filter, start, count)

    def group(self, op: Op, group_id: str) -> Resource:
        """Raises NotFound."""
        op.require("access.provision")
        with self._db.read() as tx:
            return self._group(tx, group_id)

    def create_group(self, op: Op, given: Resource) -> Resource:
        """Make a group with members. Raises Invalid, AlreadyExists."""
        op.require("access.provision")
        wanted = _checked_group(given)
        with self._db.write(op) as tx:
            made = self._groups.add(tx, op, wanted["displayName"])
            scim_store.keep(tx, made.id, "", wanted.get("externalId", ""), {}, op.at_ms)
            self._set_members(tx, op, made, wanted["members"])
            found = self._group(tx, made.id)
        self._forget()
        return found

    def replace_group(self, op: Op, group_id: str, given: Resource) -> Resource:
        """Give a group this name and these members. Raises NotFound, Invalid, AlreadyExists."""
        op.require("access.provision")
        with self._db.write(op) as tx:
            found = self._regrouped(tx, op, group_id, _checked_group(given))
        self._forget()
        return found

    def patch_group(self, op: Op, group_id: str, patch: Resource) -> Resource:
        """Change a group's name or members. Raises NotFound, Invalid, AlreadyExists."""
        op.require("access.provision")
        with self._db.write(op) as tx:
            changed = _patched(self._group(tx, group_id), patch)
            found = self._regrouped(tx, op, group_id, _checked_group(changed))
        self._forget()
        return found

    def delete_group(self, op: Op, group_id: str) -> None:
        """Remove a group with its grants. Raises NotFound, Invalid."""
        op.require("access.provision")
        with self._db.write(op) as tx, an_admin_stays(tx, op.at_ms):
            self._group(tx, group_id)
            found = store.principal(tx, principal_id=group_id)
            assert found is not None
            scim_store.forget(tx, group_id)
            self._groups.remove(tx, found)
        self._forget()

    def _regrouped(self, tx: Write, op: Op, group_id: str, wanted: Resource) -> Resource:
        was, found = self._group(tx, group_id), store.principal(tx, principal_id=group_id)
        assert found is not None
        if wanted["displayName"] != was["displayName"]:
            if store.principal(tx, name=wanted["displayName"]):
                raise AlreadyExists(f"There is already a principal named {wanted['displayName']}.", where="displayName")
            scim_store.rename(tx, group_id, wanted["displayName"])
        scim_store.keep(tx, group_id, "", wanted.get("externalId", ""), {}, op.at_ms)
        with an_admin_stays(tx, op.at_ms):
            self._set_members(tx, op, found, wanted["members"])
        return self._group(tx, group_id)

    def _set_members(self, tx: Write, op: Op, group: Principal, ids: list[str]) -> None:
        now = {m["value"] for m in self._group(tx, group.id)["members"]}
        for member_id in sorted(set(ids) - now):
            member = store.principal(tx, principal_id=member_id)
            if member is None or member.id != member_id:
                raise Invalid(f"There is no user or group {member_id[:80]!r}.", where="members")
            self._groups.join(tx, group, member, SOURCE)
        for member_id in sorted(now - set(ids)):
            member = store.principal(tx, principal_id=member_id)
            if member:
                self._groups.leave(tx, group, member, None)
        rights_store.bump_epoch(tx)

    def _group(self, tx: Read, group_id: str) -> Resource:
        found = scim_store.groups(tx, group_id)
        if not found:
            raise NotFound(f"There is no group {group_id[:80]!r}.")
        return found[0]


def _user(row: Resource) -> Resource:
    """A row as a resource."""
    known = {"externalId": row["external_id"]} if row["external_id"] else {}
    return {
        "schemas": [USER], "id": row["id"], "userName": row["user_name"], "active": bool(row["is_active"]), **known,
        **row["attributes"], "meta": scim_store.meta("User", row["id"], row["created_at_ms"], row["updated_at_ms"]),
    }  # fmt: skip


def _attributes(wanted: Resource) -> Resource:
    return {name: wanted[name] for name in KEPT if name in wanted}


def _called(user_name: str) -> str:
    """What an account is called: check_name says what may be in it."""
    try:
        return check_name(name_of({"preferred_username": user_name}), what="user")
    except Unauthenticated as cause:
        raise Invalid("The userName holds no name.", where="userName") from cause


def _checked_user(given: Resource) -> Resource:
    wanted = _known(given, USER)
    name = wanted.get("userName")
    if not isinstance(name, str) or not name.strip() or len(name) > 255:
        raise Invalid("A user needs a userName of 1 to 255 letters.", where="userName")
    active = wanted.get("active", True)
    if isinstance(active, str) and active.lower() in ("true", "false"):  # as Entra ID writes it
        wanted["active"] = active = active.lower() == "true"
    if not isinstance(active, bool) or not isinstance(wanted.get("externalId", ""), str):
        raise Invalid("active is true or false, externalId a text.", where="active")
    return wanted


def _checked_group(given: Resource) -> Resource:
    wanted = _known(given, GROUP)
    check_name(wanted.get("displayName", ""), what="group")
    members = wanted.get("members", [])
    if not isinstance(members, list) or len(members) > MEMBERS_MAX:
        raise Invalid(f"members is a list of at most {MEMBERS_MAX}.", where="members")
    ids = [m.get("value") if isinstance(m, dict) else None for m in members]
    if not all(isinstance(i, str) for i in ids) or not isinstance(wanted.get("externalId", ""), str):
        raise Invalid("A member is an object with a value, externalId a text.", where="members")
    return wanted | {"members": ids}


def _known(given: Resource, schema: str) -> Resource:
    """The attributes by their own spelling; what Noria does not keep is left out, as the standard allows."""
    if not isinstance(given, dict):
        raise Invalid("A resource is an object.")
    schemas = given.get("schemas", [schema])
    if not isinstance(schemas, list) or schema not in schemas:
        raise Invalid(f"The resource is not of the schema {schema}.", where="schemas")
    names = {n.lower(): n for n in (*KEPT, "userName", "externalId", "active", "displayName", "members")}
    return {names[key.lower()]: value for key, value in given.items() if key.lower() in names and value is not None}


def _equals(filter: str, attribute: str) -> str:
    """The text of a filter that asks for one value of an attribute only: most do, and an index answers them."""
    found = re.match(rf'^\s*{attribute}\s+eq\s+"([^"\\]*)"\s*\Z', filter, re.IGNORECASE)
    return found[1] if found else ""


def _page(resources: list[Resource], filter: str, start: int, count: int) -> Resource:
    if filter:
        test = parse(filter)
        resources = [r for r in resources if test(r)]
    first, size = max(start, 1), min(max(count, 0), COUNT_MAX)
    page = resources[first - 1 : first - 1 + size]
    return {
        "schemas": [LIST], "totalResults": len(resources), "startIndex": first, "itemsPerPage": len(page), "Resources": page,
    }  # fmt: skip


# --- patches ----------------------------------------------------------------------------------------------------------


def _patched(resource: Resource, patch: Resource) -> Resource:
    """The resource after the operations of a PatchOp, all of them or none. Raises Invalid."""
    operations = {k.lower(): v for k, v in patch.items()}.get("operations") if isinstance(patch, dict) else None
    if (
        not isinstance(operations, list)
        or not 1 <= len(operations) <= OPERATIONS_MAX
        or PATCH not in patch.get("schemas", [])
    ):
        raise Invalid(f"A patch has the schema {PATCH} and 1 to {OPERATIONS_MAX} Operations.", where="Operations")
    changed = copy.deepcopy(resource)
    for operation in operations:
        verb = str(operation.get("op", "")).lower() if isinstance(operation, dict) else ""
        if verb not in ("add", "replace", "remove"):
            raise Invalid("An operation's op is add, replace or remove.", where="Operations")
        path, value = operation.get("path"), operation.get("value")
        if path is None:
            if verb == "remove" or not isinstance(value, dict):
                raise Invalid("An operation without a path gives attributes.", where="Operations")
            for name, inner in value.items():
                _apply(changed, verb, name, inner)
        else:
            _apply(changed, verb, str(path), value)
    return changed


def _apply(resource: Resource, verb: str, path: str, value: Any) -> None:
    """One operation on one path: `active`, `name.givenName`, `members`, `members[value eq "id"]`, `emails[type eq "work"].value`."""
    found = _PATH.match(path.removeprefix(f"{USER}:").removeprefix(f"{GROUP}:"))
    if not found:
        raise Invalid(f"The path {path[:200]!r} cannot be read.", where="path")
    name, inner, sub = found[1], found[2], found[3]
    key = next((k for k in resource if k.lower() == name.lower()), name)
    if key in ("id", "schemas", "meta"):
        raise Invalid(f"{key} cannot be changed.", where="path")
    if inner is not None:
        _apply_where(resource, verb, key, inner, sub, value)
    elif sub is not None or "." in name:
        part = resource.setdefault(key.partition(".")[0], {})
        if not isinstance(part, dict):
            raise Invalid(f"{key} has no parts.", where="path")
        _set(part, verb, sub or name.partition(".")[2], value)
    else:
        _set(resource, verb, key, value)


def _set(target: Resource, verb: str, key: str, value: Any) -> None:
    now = target.get(key)
    if verb == "remove" and isinstance(now, list) and isinstance(value, list):  # as Entra ID takes members out
        gone = {v.get("value") for v in value if isinstance(v, dict)}
        target[key] = [m for m in now if not (isinstance(m, dict) and m.get("value") in gone)]
    elif verb == "remove":
        target.pop(key, None)
    elif verb == "add" and isinstance(now, list):
        more = value if isinstance(value, list) else [value]
        target[key] = now + [m for m in more if m not in now]
    elif verb == "add" and isinstance(now, dict) and isinstance(value, dict):
        target[key] = now | value
    else:
        target[key] = value


def _apply_where(resource: Resource, verb: str, key: str, inner: str, sub: str | None, value: Any) -> None:
    test = parse(inner)
    members = resource.get(key, [])
    if not isinstance(members, list):
        raise Invalid(f"{key} is no list.", where="path")
    chosen = [m for m in members if isinstance(m, dict) and test(m)]
    if verb == "remove" and sub is None:
        resource[key] = [m for m in members if m not in chosen]
        return
    if not chosen and verb == "replace":
        raise Invalid(f"Nothing in {key} fits {inner[:100]!r}.", where="path")
    for member in chosen:
        if sub is not None:
            _set(member, verb, sub, value)
        elif isinstance(value, dict):
            member.update(value)
