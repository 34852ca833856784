"""Secrets of projects: written, given to what runs by name, and never read back by anybody.

A secret belongs to a project, or ('') to the workspace; what lies in a project finds the nearest one of a name, outwards. Values are
kept in envelopes (kernel/envelope.py), under the name they are kept as. No route and no event carries a value: it leaves this file to a
step whose owner may use it (`given`), which goes to its worker, and to what Noria signs with (`find`).

Other texts that have to be kept and shown to nobody (secrets of webhooks and hooks) are sealed here too, and rewrapped with the secrets.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from noria.access import scopes_store
from noria.access.model import check_secret_name
from noria.kernel.db import Database, Read, Write
from noria.kernel.envelope import MasterKeys, is_sealed, key_of, rewrap, seal, unseal
from noria.kernel.errors import Forbidden, Invalid, NotFound, TooMuch, Unavailable
from noria.kernel.facts import Fact, fact
from noria.kernel.ids import Ref
from noria.kernel.naming import Noun, findable
from noria.kernel.op import Op

log = logging.getLogger("noria.vault")

findable(
    Noun(
        kind="secret", action="secret.read",
        query="""select case when project = '' then '' else 'project:' || project end as scope, 'secret:' || name as ref,
                        name as label, description as detail, updated_at_ms as at_ms
                   from secret""",
    )
)  # fmt: skip

SECRETS_MAX = 1_000
VALUE_LENGTH_MIN, VALUE_LENGTH_MAX = 8, 16_384  # shorter ones would be found in ordinary words, and guessed


class SecretInfo(Struct, frozen=True, kw_only=True):
    """A secret as it is listed: everything but its value. `project` '': of the whole workspace."""

    name: str
    project: str
    version: int
    description: str = ""
    actor: str = ""
    created_at_ms: int = 0
    updated_at_ms: int = 0
    used_at_ms: int | None = None


class SecretWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value to keep. It is never shown again."""

    value: str
    description: str = ""

    def __repr__(self) -> str:
        return "SecretWish(…)"


class Rotated(Struct, frozen=True, kw_only=True):
    """How many envelopes are under the new master key."""

    rewrapped: int


@fact("secret.set")
class SecretSet(Fact):
    """A secret got a value; the value is in no record."""

    project: str
    name: str
    version: int


@fact("secret.deleted")
class SecretDeleted(Fact):
    """A secret is gone."""

    project: str
    name: str


@fact("secret.given")
class SecretGiven(Fact):
    """Something that runs was given secrets, by name."""

    names: list[str]


@fact("secret.key_rotated")
class SecretKeyRotated(Fact):
    """Every envelope is under another master key."""

    rewrapped: int


class _Sealed(Struct, frozen=True, kw_only=True):
    """An envelope: where it is (`at`: the key of its row), what it is about."""

    table: str
    column: str
    at: dict[str, str]
    about: str
    sealed: str


_INFO = "name, project, version, description, actor, created_at_ms, updated_at_ms, used_at_ms"


class Vault:
    """See the module. `columns`: (table, its key, the sealed column) of texts that other slices keep sealed."""

    def __init__(self, db: Database, keys: MasterKeys | None) -> None:
        self._db, self._open = db, keys
        self.columns: list[tuple[str, str, str]] = []

    @property
    def _keys(self) -> MasterKeys:
        if self._open is None:
            raise Unavailable(
                "This server was started without a place for the master key of secrets.", hint="NORIA_SECRETS_KEY"
            )
        return self._open

    # --- for people ---------------------------------------------------------------------------------------------------

    def secrets(self, op: Op, project: str | None = None) -> list[SecretInfo]:
        """Names, never values: of the projects whose secrets the caller may know of. Raises Forbidden for one named that is not."""
        if project is not None:
            op.require("secret.read", _scope(project))
        op.can("secret.read")
        where, args = ("where project = :project", {"project": project}) if project is not None else ("", {})
        with self._db.read() as tx:
            found = tx.all(
                SecretInfo,
                f"select {_INFO} from secret {where} order by project, name limit :limit",
                limit=SECRETS_MAX,
                **args,
            )
        return [s for s in found if op.can("secret.read", _scope(s.project))]

    def set(self, op: Op, project: str, name: str, wish: SecretWish) -> SecretInfo:
        """Keep a value under a name, in place of the one before. Raises Invalid, NotFound (the project), TooMuch, Forbidden."""
        op.require("secret.write", _scope(project))
        _check(name, wish)
        with self._db.write(op) as tx:
            if project:
                self._require_project(tx, project)
            before = tx.scalar("select version from secret where project = :p and name = :n", p=project, n=name)
            if before is None and int(tx.scalar("select count(*) from secret")) >= SECRETS_MAX:
                raise TooMuch(f"There are {SECRETS_MAX} secrets already.", hint="Delete those that nobody uses.")
            version = int(before or 0) + 1
            tx.run(
                """insert into secret (project, name, version, sealed, description, actor, created_at_ms, updated_at_ms)
                   values (:project, :name, :version, :sealed, :description, :actor, :at_ms, :at_ms)
                   on conflict (project, name) do update set
                       version = excluded.version, sealed = excluded.sealed, description = excluded.description,
                       actor = excluded.actor, updated_at_ms = excluded.updated_at_ms""",
                project=project, name=name, version=version, sealed=seal(self._keys, wish.value, _about(project, name)),
                description=wish.description, actor=op.actor.label, at_ms=op.at_ms,
            )  # fmt: skip
            tx.emit("secret.set", _ref(project, name), project=project, name=name, version=version)
            found = tx.one(SecretInfo, f"select {_INFO} from secret where project = :p and name = :n", p=project, n=name)
        assert found is not None
        return found

    def delete(self, op: Op, project: str, name: str) -> None:
        """Raises NotFound, Forbidden."""
        op.require("secret.write", _scope(project))
        with self._db.write(op) as tx:
            if not tx.run("delete from secret where project = :p and name = :n", p=project, n=name):
                raise NotFound(f"There is no secret {name[:200]!r} in {project or 'the workspace'}.")
            tx.emit("secret.deleted", _ref(project, name), project=project, name=name)

    def rotate(self, op: Op) -> Rotated:
        """Make a new master key, put every envelope under it, and remove the old one.

        An old one that something was sealed under meanwhile stays until the next time. Raises Forbidden, Invalid, Unavailable.
        """
        op.require("system.admin")
        self._keys.rotate()
        with self._db.write(op) as tx:
            count = sum(self._rewrap(tx, row) for row in self._sealed(tx))
            tx.emit("secret.key_rotated", Ref("secret", "master-key"), rewrapped=count)
        # Looked at again: on PostgreSQL others write meanwhile, and what they sealed under the old key still needs it.
        with self._db.read() as read:
            used = {key_of(row.sealed) for row in self._sealed(read)}
        self._keys.forget(used)
        return Rotated(rewrapped=count)

    def _sealed(self, tx: Read) -> Iterator[_Sealed]:
        """Every envelope."""
        for row in tx.rows("select project, name, sealed from secret order by project, name"):
            at = {"project": row["project"], "name": row["name"]}
            yield _Sealed(table="secret", column="sealed", at=at, about=_about(**at), sealed=row["sealed"])
        for table, key, column in self.columns:
            for row in tx.rows(f"select {key} as id, {column} as sealed from {table} where {column} like 'noria:sealed:%'"):
                about = f"{table}:{row['id']}"
                yield _Sealed(table=table, column=column, at={key: row["id"]}, about=about, sealed=row["sealed"])

    def _rewrap(self, tx: Write, row: _Sealed) -> int:
        """Put an envelope under the key that wraps now; 0 when somebody wrote another one since it was read, which stays."""
        where = " and ".join(f"{key} = :{key}" for key in row.at)
        return tx.run(
            f"update {row.table} set {row.column} = :now where {where} and {row.column} = :was",
            now=rewrap(self._keys, row.sealed, row.about), was=row.sealed, **row.at,
        )  # fmt: skip

    # --- for what runs ------------------------------------------------------------------------------------------------

    def given(self, tx: Write, op: Op, owner: Any, thing: Ref, names: list[str], for_: Ref) -> dict[str, str]:
        """The values of `names` for something that belongs to `thing`, for whoever may use them. The nearest of a name counts.

        `owner`: an operation of whose rights it runs with. Raises NotFound, Forbidden; both name the secret.
        """
        scopes = [""] if not names else [*_projects_above(tx, thing), ""]
        found = dict[str, str]()
        for name in names:
            rows = tx.rows(
                "select project, sealed from secret where name = :n and project in :scopes", n=name, scopes=scopes
            )
            if not rows:
                raise NotFound(
                    f"There is no secret {name} for {thing}.", ref=thing, hint=f"noria secret set {name} --project NAME"
                )
            row = min(rows, key=lambda r: scopes.index(r["project"]))
            if not owner.can("secret.use", _scope(row["project"])):
                raise Forbidden(
                    f"{owner.actor.name} may not use the secret {name} of {row['project'] or 'the workspace'}.",
                    ref=thing,
                    hint="Ask for a role with secret.use there.",
                )
            found[name] = unseal(self._keys, row["sealed"], _about(row["project"], name))
            tx.run(
                "update secret set used_at_ms = :at_ms where project = :p and name = :n",
                at_ms=op.at_ms, p=row["project"], n=name,
            )  # fmt: skip
        if (
            found and tx.op is not None
        ):  # a job that begins elsewhere is in a transaction of the machinery: its claim was told
            tx.emit("secret.given", for_, names=sorted(found))
        return found

    # --- for other slices ---------------------------------------------------------------------------------------------

    def seal(self, text: str, table: str, key: str) -> str:
        """A text of another table, to be kept; an empty one stays empty."""
        return seal(self._keys, text, f"{table}:{key}") if text else ""

    def unseal(self, kept: str, table: str, key: str) -> str:
        """The text again. One that was kept before there were envelopes is itself."""
        return unseal(self._keys, kept, f"{table}:{key}") if is_sealed(kept) else kept

    def find(self, tx: Read, name: str) -> str:
        """The value of a secret of the workspace, for what Noria itself signs with. Raises NotFound, Unavailable."""
        sealed = tx.scalar("select sealed from secret where project = '' and name = :n", n=name)
        if sealed is None:
            raise NotFound(f"The workspace has no secret {name[:200]!r}.", hint="noria secret set NAME")
        return unseal(self._keys, str(sealed), _about("", name))

    @staticmethod
    def _require_project(tx: Read, project: str) -> None:
        if not tx.scalar("select 1 from project where name = :name", name=project):
            raise NotFound(f"There is no project {project[:200]!r}.", where="project", hint="noria project list")


def _projects_above(tx: Read, thing: Ref) -> list[str]:
    return [ref.removeprefix("project:") for ref in scopes_store.above(tx, str(thing)) if ref.startswith("project:")]


def _scope(project: str) -> Ref | None:
    return Ref("project", project) if project else None


def _about(project: str, name: str) -> str:
    return f"secret:{project}/{name}"


def _ref(project: str, name: str) -> Ref:
    return Ref("secret", f"{project}/{name}" if project else name)


def _check(name: str, wish: SecretWish) -> None:
    check_secret_name(name)
    if not VALUE_LENGTH_MIN <= len(wish.value) <= VALUE_LENGTH_MAX:
        raise Invalid(
            f"A value has between {VALUE_LENGTH_MIN} and {VALUE_LENGTH_MAX} characters; this one has {len(wish.value)}.",
            where="value",
        )
    if "\x00" in wish.value:
        raise Invalid("A value holds no NUL character.", where="value")
    if len(wish.description) > 1_000:
        raise Invalid("A description has at most 1000 characters.", where="description")
