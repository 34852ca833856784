"""Who, and may they: principals, roles, tokens, sessions; the one `allows()` and the one `visible()`.

Without accounts a server on loopback is used by one person, the local admin. The first account ends that.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from typing import Literal

from noria.access import passwords, rights_store, scopes_store, store, tokens
from noria.access.attempts import Attempts
from noria.access.explain import Explain
from noria.access.groups import Groups, active, an_admin_stays, bind, check_known, may_give
from noria.access.identities import Identities
from noria.access.model import (
    LOCAL_ADMIN,
    PASSWORD_LENGTH_MIN,
    TOKENS_PER_PRINCIPAL,
    Binding,
    Credentials,
    Grant,
    Me,
    MyActions,
    NewPrincipal,
    NewToken,
    Principal,
    ProviderInfo,
    Rotation,
    Setup,
    Token,
    TokenRequest,
    TokenScope,
)
from noria.access.oauth import OAuth
from noria.access.oidc import Oidc, OidcSettings
from noria.access.policy import ACTIONS, BYTES, PUBLIC
from noria.access.proven import ProvenPasswords
from noria.access.rights import ALL_RIGHTS, NO_LIMIT, NO_RIGHTS, Limit, Rights
from noria.access.rights_book import RIGHTS_CACHE_S, RightsBook
from noria.access.scim import Scim
from noria.access.scopes import Scopes, check_expiry, check_thing
from noria.access.sessions import Sessions
from noria.access.vault import Vault
from noria.kernel.clock import Clock, SystemClock
from noria.kernel.db import Database, Read, Write
from noria.kernel.envelope import MasterKeys
from noria.kernel.errors import AlreadyExists, Forbidden, Invalid, NotFound, TooMuch, Unauthenticated
from noria.kernel.ids import DEFAULT_WORKSPACE, PrincipalId, Ref, check_name, new_id
from noria.kernel.op import Actor, Op

SWEEP_S = 600.0  # between two looks for tokens that expired
CREDENTIAL_CACHE_S = 10.0
NOTHING = Limit(frozenset({"nothing"}))  # of a token that is gone: no action has this name
HASHES_AT_ONCE = 2  # argon2 takes 19 MiB and 35 ms each; a flood of sign-ins must not eat the memory
HASH_WAIT_S = 5.0  # for a place among them


class Access:
    """The access slice's service; also the kernel's Authorizer."""

    watched = BYTES

    def __init__(
        self, db: Database, *, clock: Clock | None = None, is_loopback: bool = True, step_up_minutes: float = 15.0,
        oidc: OidcSettings | None = None, mapped: dict[str, str] | None = None, browser_url: str = "",
        keys: MasterKeys | None = None,
    ) -> None:  # fmt: skip
        self._db = db
        self._clock = clock or SystemClock()
        self._is_loopback = is_loopback
        self.book = RightsBook(db, self._clock)
        self.groups, self.scopes, self.explaining = Groups(db, self.book), Scopes(db, self.book), Explain(db, self.book)
        self.sessions = Sessions(db, self._clock, step_up_minutes)
        self.identities = Identities(db, self.groups, self.book, mapped or {})
        self.oidc = Oidc(db, self._clock, oidc, self.identities, self.sessions) if oidc else None
        self.scim = Scim(db, self.groups, self.forget_caches)
        self.vault = Vault(db, keys)
        self.oauth = OAuth(db, self._clock, browser_url)
        self._attempts = Attempts(self._clock)
        self._tokens: dict[
            str, tuple[float, Actor, int | None, str]
        ] = {}  # by id: when looked at, who, when it ends, its text
        self._swept_s: float | None = None  # when tokens that expired were last removed
        self._limits: dict[str, Limit] = {}  # of tokens that signed in here
        self._has_accounts: tuple[float, bool] | None = None
        self._hashing = threading.BoundedSemaphore(HASHES_AT_ONCE)
        self._shown: dict[tuple[str, str, str], int] = {}
        self._refused: dict[tuple[str, str], int] = {}
        self._proven = ProvenPasswords(self._clock)

    # --- may they ---------------------------------------------------------------------------------------------------

    def allows(self, actor: Actor, workspace: str, action: str, on: Ref | None) -> bool:
        """May the actor do `action` on `on`, or without it on the whole workspace? See rights.py."""
        assert action in ACTIONS or action == PUBLIC, f"{action} is not in access/policy.py"
        return self.rights_of(actor).allow(action, on)

    def visible(self, actor: Actor, workspace: str, action: str) -> list[str] | None:
        """The refs on which the actor may do `action`; None means everywhere."""
        return self.book.visible(self.rights_of(actor), action, workspace)

    def note_read(self, op: Op, action: str, on: Ref) -> None:
        """Record that somebody is about to be shown what is in a thing with a restricting label; else nothing.

        Before they are: if it cannot be recorded, it is not shown.
        """
        labels = self.book.labels_of(str(on))
        if not labels:
            return
        key, minute = (op.actor.id, action, str(on)), op.at_ms // 60_000
        if self._shown.get(key) == minute:
            return

        def record(tx: Write) -> None:
            tx.emit("sensitive.read", on, action=action, labels=labels)

        def record_alone() -> None:
            with self._db.write(op) as tx:
                record(tx)

        open_tx = self._db.writing()  # this thread can open no other
        if open_tx is None:
            record_alone()
        elif open_tx.op is not None:
            open_tx.keep(record)
        else:
            open_tx.after_commit(record_alone)
        if len(self._shown) > 10_000:
            self._shown.clear()
        self._shown[key] = minute

    def knows(self, actor: Actor) -> bool:
        """Are the rights of `actor` in memory, so that asking for them costs no query?"""
        principal_id = actor.on_behalf_of or actor.id
        if actor.kind in ("nobody", "system"):
            return True
        if principal_id != LOCAL_ADMIN:
            return self.book.knows(principal_id, self._limit_of(actor))
        found = self._has_accounts
        return found is not None and self._clock.monotonic_s() - found[0] < RIGHTS_CACHE_S

    def require_somewhere(self, op: Op, action: str) -> None:
        """Raises Unauthenticated for nobody, Forbidden for somebody who may do `action` on nothing at all."""
        if op.actor.kind != "system" and op.visible(action) == []:
            op.require(action)

    def rights_of(self, actor: Actor) -> Rights:
        """What somebody may do, within the limit of the token they came with."""
        if actor.kind == "nobody":
            return NO_RIGHTS
        principal_id, limit = actor.on_behalf_of or actor.id, self._limit_of(actor)
        if principal_id == LOCAL_ADMIN and self.has_accounts():
            return NO_RIGHTS
        if principal_id == LOCAL_ADMIN and limit == NO_LIMIT:
            return ALL_RIGHTS
        return self.book.of(principal_id, limit)

    def _limit_of(self, actor: Actor) -> Limit:
        """What the actor's token narrows. One that did not sign in here is looked up: a limit is never forgotten."""
        if not actor.token_id:
            return NO_LIMIT
        found = self._limits.get(actor.token_id)
        if found is None:
            with self._db.read() as tx:
                row = store.token_row(tx, actor.token_id)
            found = _limit(row) if row else NOTHING
            self._keep_limit(actor.token_id, found)
        return found

    def _keep_limit(self, token_id: str, limit: Limit) -> None:
        if len(self._limits) >= 10_000:
            self._limits.clear()
        self._limits[token_id] = limit

    def forget_caches(self) -> None:
        """After a change of rights in this process, or in tests."""
        self.book.forget()
        self._tokens.clear()
        self._limits.clear()
        self._has_accounts = None

    # --- who --------------------------------------------------------------------------------------------------------

    def has_accounts(self) -> bool:
        """Is there any active user? Without one, and on loopback, the local admin acts."""
        now_s = self._clock.monotonic_s()
        if self._has_accounts and now_s - self._has_accounts[0] < RIGHTS_CACHE_S:
            return self._has_accounts[1]
        with self._db.read() as tx:
            found = store.users_count(tx) > 0
        self._has_accounts = (now_s, found)
        return found

    def local_admin(self) -> Actor | None:
        """The single local admin, when there are no accounts and the server listens on loopback."""
        if not self._is_loopback or self.has_accounts():
            return None
        return Actor(kind="user", id=LOCAL_ADMIN, name="local admin")

    def remembered(self, text: str) -> Actor | None:
        """The actor of a token that was checked a moment ago; None says that it has to be looked up."""
        parsed = tokens.parse(text)
        found = self._tokens.get(parsed.id) if parsed else None
        if (
            not found
            or not hmac.compare_digest(found[3].encode(), text.encode())
            or self._clock.monotonic_s() - found[0] >= CREDENTIAL_CACHE_S
        ):
            return None
        return found[1] if found[2] is None or self._clock.now_ms() < found[2] else None

    def who_has_token(self, text: str) -> Actor:
        """The actor a token stands for. Raises Unauthenticated."""
        now_s = self._clock.monotonic_s()
        known = self.remembered(text)
        if known:
            return known
        actor, row = self._check_token(text)
        if len(self._tokens) > 10_000:
            self._tokens.clear()
        self._tokens[row.id] = (now_s, actor, row.expires_at_ms, text)
        self._keep_limit(row.id, _limit(row))
        return actor

    def _check_token(self, text: str) -> tuple[Actor, store.TokenRow]:
        parsed = tokens.parse(text)
        with self._db.read() as tx:
            row = store.token_row(tx, parsed.id if parsed else "")
            principal = store.principal(tx, principal_id=row.principal_id) if row else None
        presented = tokens.sha256(parsed.secret if parsed else "")
        is_right = hmac.compare_digest(presented, row.secret_sha256 if row else "0" * 64)
        now = self._clock.now_ms()
        if not (row and is_right) or (row.expires_at_ms is not None and row.expires_at_ms <= now):
            raise Unauthenticated("The token is not valid (any more).", hint="Make a new one with: noria token create NAME.")
        is_local = row.principal_id == LOCAL_ADMIN
        if not is_local and not (principal and principal.is_active):
            raise Unauthenticated("The owner of this token is no longer active.")
        if not row.actor_kind and principal:
            with self._db.system_write() as write:
                store.touch_token(write, row.id, now)
        name = row.actor_name or (principal.name if principal else "local admin")
        kind = row.actor_kind or (principal.kind if principal else "user")
        actor = Actor(
            kind=kind,  # type: ignore[arg-type]
            id=row.principal_id if not row.actor_kind else row.id,
            name=name,
            on_behalf_of=row.on_behalf_of or None,
            token_id=row.id,
        )
        return actor, row

    def who_has_session(self, secret: str) -> Actor | None:
        """The user of a browser session, or None when it has ended."""
        found = self.sessions.who(secret)
        return found[0] if found else None

    def who_has_password(self, credentials: Credentials, address: str = "") -> Principal:
        """Check a password. Raises Unauthenticated with the same words and in the same time for every reason.

        One that was right a moment ago, for the hash that is still stored, needs no hashing.
        """
        name, password = credentials.name, credentials.password
        with self._db.read() as tx:
            found = store.password_hash(tx, name)
            if found and self._proven.holds(name, password, found[1]):
                principal = store.principal(tx, principal_id=found[0])
                assert principal is not None
                return principal
        self._attempts.check(name[:200], address)
        if not self._hashing.acquire(timeout=HASH_WAIT_S):
            raise TooMuch("Too many sign-ins at once.", retry_after_s=5)
        try:
            is_right = passwords.is_right(found[1] if found else None, password)
        finally:
            self._hashing.release()
        if not is_right or found is None:
            self._attempts.wrong(name[:200], address)
            raise Unauthenticated("The name or the password is wrong.")
        self._attempts.right(name[:200], address)
        self._proven.note(name, password, found[1])
        with self._db.read() as tx:
            principal = store.principal(tx, principal_id=found[0])
        assert principal is not None
        return principal

    def sign_in(self, op: Op, credentials: Credentials, *, address: str = "", agent: str = "") -> str:
        """Start a session; returns the secret for the cookie. Raises Unauthenticated, TooMuch."""
        try:
            principal = self.who_has_password(credentials, address)
        except Unauthenticated:
            self.note_refusal(op, "sign_in", credentials.name[:100])
            raise
        with self._db.write(op) as tx:
            return self.sessions.begin(tx, op, principal.id, method="password", agent=agent)

    def sign_out(self, op: Op, secret: str) -> None:
        """End a session; ending one that has ended is no error."""
        self.sessions.end(op, secret)

    def note_refusal(self, op: Op, action: str, name: str = "") -> None:
        """Record that somebody was refused; at most once a minute per actor and action, so that it cannot flood the log."""
        key, minute = (name or op.actor.id, action), op.at_ms // 60_000
        if self._refused.get(key) == minute:
            return
        if len(self._refused) > 10_000:
            self._refused.clear()
        self._refused[key] = minute
        with self._db.write(op) as tx:
            if action == "sign_in":
                tx.emit("sign_in.refused", op.actor.ref, name=name)
            else:
                tx.emit("access.refused", op.actor.ref, action=action)

    # --- principals -------------------------------------------------------------------------------------------------

    def me(self, op: Op) -> Me:
        op.require("me.read")
        rights = self.rights_of(op.actor)
        principal_id = op.actor.on_behalf_of or op.actor.id
        return Me(
            kind=op.actor.kind, id=op.actor.id, name=op.actor.name, actions=sorted(rights.everywhere),
            roles=sorted(rights.roles), is_local_admin=principal_id == LOCAL_ADMIN,
            sign_out_url=self.oidc.sign_out_url() if self.oidc and op.actor.authenticated_at_ms is not None else "",
        )  # fmt: skip

    def my_actions(self, op: Op, on: str) -> MyActions:
        """What the caller may do on `on` ('': everywhere), and what it takes for the rest. Raises Invalid for a ref that is none."""
        return self.explaining.mine(op, self.rights_of(op.actor), on)

    def teams(self, op: Op) -> list[str]:
        """The groups that whoever acts is in, however deep."""
        with self._db.read() as tx:
            return rights_store.teams(tx, op.actor.on_behalf_of or op.actor.id)

    def check_teams(self, names: list[str]) -> None:
        """Raises Invalid for one that is no group."""
        with self._db.read() as tx:
            unknown = rights_store.unknown_groups(tx, names)
        if unknown:
            raise Invalid(f"There is no group {unknown[0][:80]!r}.", where="teams", hint="noria group list shows them.")

    def principals(self, op: Op) -> list[Principal]:
        op.require("access.read")
        with self._db.read() as tx:
            return store.principals(tx, now_ms=op.at_ms)

    def people(self, names: list[str]) -> list[Principal]:
        """The active users and service accounts of these names; the local admin while there are no accounts."""
        if not names:
            return []
        local = self.local_admin()
        with self._db.read() as tx:
            found = store.named(tx, names)
        if local and local.name in names:
            found.append(Principal(id=LOCAL_ADMIN, kind="user", name=local.name, is_active=True, created_at_ms=0))
        return found

    def actor_of(self, principal_id: str) -> Actor | None:
        """Somebody as an actor, to ask what they may see; None when there is nobody of this id any more."""
        local = self.local_admin()
        if local and principal_id == local.id:
            return local
        with self._db.read() as tx:
            found = store.principal(tx, principal_id=principal_id)
        if found is None or not found.is_active or found.kind == "group":
            return None
        return Actor(kind=found.kind, id=found.id, name=found.name)

    def create_principal(self, op: Op, new: NewPrincipal) -> Principal:
        """Make a user or service account. Raises Invalid, AlreadyExists, Forbidden."""
        op.require("access.write")
        check_name(new.name, what=new.kind)
        hashed = self._hash(new.password) if new.password else ""
        principal = Principal(
            id=PrincipalId(new_id(op.at_ms)), kind=new.kind, name=new.name, is_active=True, created_at_ms=op.at_ms,
            roles=sorted(new.roles),
        )  # fmt: skip
        with self._db.write(op) as tx:
            for role in principal.roles:
                may_give(tx, op, role)
            self._add(tx, op, principal, hashed)
        self.forget_caches()
        return principal

    def _add(self, tx: Write, op: Op, principal: Principal, hashed: str) -> None:
        if principal.name == "local admin" or store.principal(tx, name=principal.name):
            raise AlreadyExists(f"There is already a principal named {principal.name}.", hint="Pick another name.")
        store.add_principal(tx, principal, hashed)
        tx.emit("principal.created", Ref("principal", principal.id), name=principal.name, principal_kind=principal.kind)
        for role in principal.roles:
            bind(tx, op, Binding(principal_id=principal.id, role=role, scope="", granted_by=op.actor.label))

    def _hash(self, password: str) -> str:
        if len(password) < PASSWORD_LENGTH_MIN:
            raise Invalid(f"The password is too short: at least {PASSWORD_LENGTH_MIN} characters.", where="password")
        if len(password) > 1024:
            raise Invalid("The password is too long: at most 1024 characters.", where="password")
        return passwords.hashed(password)

    def disable_principal(self, op: Op, name: str) -> None:
        """End a principal, with its sessions and tokens, in one transaction. The last admin cannot be disabled."""
        op.require("access.write")
        with self._db.write(op) as tx:
            rights_store.bump_epoch(tx)  # its row is the lock, so that two administrators cannot disable each other
            found = active(tx, name)
            if rights_store.admins(tx, op.at_ms) == {found.id}:
                raise Invalid(f"{name} is the last administrator.", hint="Make another one first.")
            if found.kind == "group":
                raise Invalid(f"{name} is a group.", hint=f"noria group delete {name}")
            store.disable(tx, found.id)
            tx.emit("principal.disabled", Ref("principal", found.id), name=name)
        self.forget_caches()

    def grant(self, op: Op, grant: Grant) -> Binding:
        """Give a role on a scope. Raises NotFound, Invalid, Forbidden."""
        op.require("access.write")
        check_expiry(op, grant.expires_at_ms)
        with self._db.write(op) as tx:
            if grant.scope:
                check_known(tx, op, Ref.parse(grant.scope))
            may_give(tx, op, grant.role, grant.scope)
            found = active(tx, grant.principal)
            binding = Binding(
                principal_id=found.id, role=grant.role, scope=grant.scope, expires_at_ms=grant.expires_at_ms,
                granted_by=op.actor.label, reason=grant.reason,
            )  # fmt: skip
            bind(tx, op, binding)
        self.forget_caches()
        return binding

    def revoke_grant(self, op: Op, principal: str, role: str, scope: str = "") -> None:
        """Take a role away. Raises NotFound, Invalid, Forbidden."""
        op.require("access.write")
        with self._db.write(op) as tx, an_admin_stays(tx, op.at_ms):
            found = active(tx, principal)
            if not store.unbind(tx, found.id, role, scope):
                raise NotFound(f"{principal} has no role {role} there.")
            tx.emit("grant.removed", Ref("principal", found.id), role=role, scope=scope)
        self.forget_caches()

    def may_judge(self, op: Op, principal_id: str) -> bool:
        """May whoever acts decide about what a principal has? Not what they have themselves, nor by a group while an
        administrator is outside of it; where all of them are in it, nobody else could.
        """
        me = op.actor.on_behalf_of or op.actor.id
        with self._db.read() as tx:
            holders = rights_store.holders(tx, principal_id)
            return me != principal_id and (me not in holders or rights_store.admins(tx, op.at_ms) <= holders)

    def take(self, op: Op, principal_id: str, kind: Literal["role", "clearance"], what: str, scope: str = "") -> bool:
        """Take a role or a clearance from a principal, also while it is disabled: it may be active again one day.

        False when it was gone already. Raises Invalid (no administrator would be left), Forbidden.
        """
        op.require("access.write")
        ref = Ref("principal", principal_id)
        with self._db.write(op) as tx, an_admin_stays(tx, op.at_ms):
            if kind == "role":
                if removed := store.unbind(tx, principal_id, what, scope):
                    tx.emit("grant.removed", ref, role=what, scope=scope)
            elif removed := scopes_store.unclear(tx, principal_id, what):
                tx.emit("clearance.removed", ref, label=what)
        self.forget_caches()
        return bool(removed)

    def provider(self) -> ProviderInfo:
        """The identity provider as it is set."""
        return self.oidc.info if self.oidc else ProviderInfo()

    # --- tokens -----------------------------------------------------------------------------------------------------

    def create_token(self, op: Op, request: TokenRequest) -> NewToken:
        """Make a token for oneself, or, with access.write, for another. Raises Invalid, NotFound, TooMuch, Forbidden."""
        op.require("token.own")
        if op.actor.token_id and op.actor.on_behalf_of:
            raise Forbidden("A short-lived token, such as a pipeline step's, cannot make tokens.")
        check_name(request.name, what="token")
        for action in request.actions:
            if action not in ACTIONS:
                raise Invalid(
                    f"There is no action {action!r}.", where="actions", hint="docs/reference/actions.md lists them."
                )
        for scope in request.scopes:
            check_thing(scope, or_project=True)
        self._check_within(op, request)
        days = request.expires_in_days
        if days is not None and not 1 <= days <= 3650:
            raise Invalid("expires_in_days must be between 1 and 3650.", where="expires_in_days")
        with self._db.write(op) as tx:
            owner = self._owner(tx, op, request.principal)
            if len(store.tokens(tx, owner)) >= TOKENS_PER_PRINCIPAL:
                raise TooMuch(
                    f"There are {TOKENS_PER_PRINCIPAL} tokens already.", hint="Revoke one first: noria token list."
                )
            token_id, secret, sha = tokens.mint()
            token = Token(
                id=token_id, principal_id=PrincipalId(owner), name=request.name, created_at_ms=op.at_ms,
                expires_at_ms=None if days is None else op.at_ms + days * 86_400_000, actions=request.actions,
                scopes=request.scopes,
            )  # fmt: skip
            store.add_token(tx, token, secret_sha256=sha, on_behalf_of="", actor_kind="", actor_name="")
            tx.emit("token.created", Ref("token", token_id), name=request.name, principal=owner)
        return NewToken(token=token, secret=secret)

    def _check_within(self, op: Op, request: TokenRequest) -> None:
        """A token makes no token that may do more than itself. Raises Forbidden."""
        limit = self._limit_of(op.actor)
        is_more = limit.actions and not (request.actions and set(request.actions) <= limit.actions)
        is_wider = limit.scopes and not (request.scopes and set(request.scopes) <= set(limit.scopes))
        if is_more or is_wider:
            raise Forbidden("This token is limited, and cannot make one that may do more.", hint="Sign in to make it.")

    def rotate_token(self, op: Op, token_id: str, rotation: Rotation) -> NewToken:
        """Replace a token by one that may do the same for as long; the old one works on for the overlap. Raises NotFound, Invalid."""
        op.require("token.own")
        if not 0 <= rotation.overlap_hours <= 24 * 30:
            raise Invalid("overlap_hours must be between 0 and 720.", where="overlap_hours")
        with self._db.write(op) as tx:
            row = self._own_token(tx, op, token_id)
            if row.actor_kind or (row.expires_at_ms is not None and row.expires_at_ms <= op.at_ms):
                raise Invalid("Only a token that is valid can be rotated.", hint="Make a new one: noria token create.")
            self._check_within(op, TokenRequest(name=row.name, actions=row.actions, scopes=row.scopes))
            new_id_, secret, sha = tokens.mint()
            lasts_ms = None if row.expires_at_ms is None else row.expires_at_ms - row.created_at_ms
            token = Token(
                id=new_id_, principal_id=row.principal_id, name=row.name, created_at_ms=op.at_ms,
                expires_at_ms=None if lasts_ms is None else op.at_ms + lasts_ms, actions=row.actions, scopes=row.scopes,
            )  # fmt: skip
            store.add_token(tx, token, secret_sha256=sha, on_behalf_of="", actor_kind="", actor_name="")
            ends_at_ms = op.at_ms + int(rotation.overlap_hours * 3_600_000)
            store.end_token(tx, token_id, ends_at_ms)
            tx.emit("token.rotated", Ref("token", token_id), name=row.name, by=new_id_, old_ends_at_ms=ends_at_ms)
        self.forget_caches()
        return NewToken(token=token, secret=secret)

    def _own_token(self, tx: Read, op: Op, token_id: str) -> store.TokenRow:
        row = store.token_row(tx, token_id)
        if row is None or (row.principal_id != (op.actor.on_behalf_of or op.actor.id) and not op.can("access.write")):
            raise NotFound(f"There is no token {token_id[:80]}.", hint="noria token list shows them.")
        return row

    def _owner(self, tx: Write, op: Op, name: str) -> str:
        own = op.actor.on_behalf_of or op.actor.id
        if not name:
            return own
        found = active(tx, name)
        if found.id != own:
            op.require("access.write")
        return found.id

    def delegate(
        self, tx: Write, op: Op, *, name: str, owner: str, actions: frozenset[str], lifetime_s: float, of: str = ""
    ) -> str:  # fmt: skip
        """A short-lived token for a pipeline step: acts as a trigger for `owner`, limited to `actions`. Returns the secret.

        In the caller's transaction: the step and its token are there together. `of`: whose it is, for `end_delegated`; there is one
        of each, and a new one takes the place of the old.
        """
        token_id, secret, sha = tokens.mint(of)
        if of:
            self.end_delegated(tx, of)
        token = Token(
            id=token_id, principal_id=PrincipalId(owner), name=name, created_at_ms=op.at_ms,
            expires_at_ms=op.at_ms + int(lifetime_s * 1000), actions=sorted(actions),
        )  # fmt: skip
        store.add_token(tx, token, secret_sha256=sha, on_behalf_of=owner, actor_kind="trigger", actor_name=name)
        now_s = self._clock.monotonic_s()
        if self._swept_s is None or now_s - self._swept_s > SWEEP_S:
            self._swept_s = now_s
            store.remove_expired(tx, op.at_ms)
        return secret

    def token_id(self, secret: str) -> str:
        """The id in a token's text, by which its actor is known again; '' for what is none."""
        parsed = tokens.parse(secret)
        return parsed.id if parsed else ""

    def end_delegated(self, tx: Write, of: str) -> None:
        """The token of `of` ends with this transaction, if there is one."""
        token_id = tokens.id_of(of)
        if store.remove_token(tx, token_id):
            tx.after_commit(lambda: self._forget_token(token_id))

    def narrow(self, tx: Write, token_id: str, actions: frozenset[str]) -> None:
        """From this transaction on a token is for these actions only: whoever still has it is told what happened, and does nothing."""
        store.narrow_token(tx, token_id, sorted(actions))
        tx.after_commit(lambda: self._forget_token(token_id))

    def _forget_token(self, token_id: str) -> None:
        self._tokens.pop(token_id, None)
        self._limits.pop(token_id, None)

    def tokens(self, op: Op) -> list[Token]:
        """One's own tokens; everybody's with access.read."""
        op.require("token.own")
        own = None if op.can("access.read") else (op.actor.on_behalf_of or op.actor.id)
        with self._db.read() as tx:
            return store.tokens(tx, own)

    def revoke_token(self, op: Op, token_id: str) -> None:
        op.require("token.own")
        with self._db.write(op) as tx:
            self._own_token(tx, op, token_id)
            store.remove_token(tx, token_id)
            tx.emit("token.revoked", Ref("token", token_id), name=token_id)
        self.forget_caches()

    def tokens_mark(self, tx: Read) -> str:
        """Changes whenever `token_scopes` may: tokens, rights, the first account; and each minute, for grants that expire."""
        users = store.users_count(tx) > 0
        return f"{int(users)}.{store.tokens_mark(tx)}" + (f".{self._clock.now_ms() // 60_000}" if users else "")

    def token_scopes(self, actions: tuple[str, ...]) -> list[TokenScope]:
        """The valid tokens that may do one of `actions` somewhere. For Noria's own processes: it holds hashes, never secrets."""
        now = self._clock.now_ms()
        with self._db.read() as tx:
            rows = store.token_rows(tx, now)
        found = []
        for row in rows:
            actor = Actor(kind="service", id=row.principal_id, name=row.actor_name, on_behalf_of=row.on_behalf_of or None)
            owner = actor.on_behalf_of or actor.id
            is_over = owner == LOCAL_ADMIN and self.has_accounts()
            rights = NO_RIGHTS if is_over else self.book.of(owner, _limit(row))
            scopes = {a: self.book.visible(rights, a, DEFAULT_WORKSPACE) for a in actions}
            if any(s is None or s for s in scopes.values()):
                found.append(TokenScope(
                    token_id=row.id, secret_sha256=row.secret_sha256, expires_at_ms=row.expires_at_ms, scopes=scopes,
                ))  # fmt: skip
        return found

    # --- first start ------------------------------------------------------------------------------------------------

    def setup_link(self, op: Op, base_url: str) -> str | None:
        """A one-time link that makes the first administrator; None when there are accounts. A new one replaces the last."""
        if self.has_accounts():
            return None
        code = secrets.token_urlsafe(24)
        with self._db.write(op) as tx:
            store.set_setup_code(tx, tokens.sha256(code))
        return f"{base_url}/setup?code={code}"

    def set_up(self, op: Op, setup: Setup) -> Principal:
        """Make the first administrator with the code of the link. Raises Forbidden when the code is wrong or used up."""
        check_name(setup.name, what="user")
        hashed = self._hash(setup.password)
        principal = Principal(
            id=PrincipalId(new_id(op.at_ms)), kind="user", name=setup.name, is_active=True, created_at_ms=op.at_ms,
            roles=["admin"],
        )  # fmt: skip
        with self._db.write(op) as tx:
            expected = store.setup_code(tx)
            if not expected or not hmac.compare_digest(expected, tokens.sha256(setup.code)) or store.users_count(tx):
                raise Forbidden("The set-up link is not valid (any more).", hint="Restart the server; it prints a new one.")
            self._add(tx, op, principal, hashed)
            store.remove_setup_code(tx)
        self.forget_caches()
        return principal


def _limit(row: store.TokenRow) -> Limit:
    return Limit(frozenset(row.actions), tuple(row.scopes))
