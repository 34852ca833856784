"""Who acts: principals, their roles on scopes, their tokens and sessions."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from noria.kernel.facts import Fact, fact
from noria.kernel.ids import PrincipalId

LOCAL_ADMIN = PrincipalId("local")
TOKEN_NAME_MAX = 100
PASSWORD_LENGTH_MIN = (
    12  # NIST SP 800-63B-4 asks for 15 alone, 8 beside a second factor; long, and no rules about its letters
)
TOKENS_PER_PRINCIPAL = 50
SESSION_IDLE_MS = 8 * 3_600_000
SESSION_ABSOLUTE_MS = 24 * 3_600_000


class Principal(Struct, frozen=True, kw_only=True):
    """A person or a service account."""

    id: PrincipalId
    kind: Literal["user", "service"]
    name: str
    is_active: bool
    created_at_ms: int
    roles: list[str] = []  # on the whole workspace


class Binding(Struct, frozen=True, kw_only=True):
    """`principal` has `role` on `scope` ('' is the whole workspace) until `expires_at_ms`."""

    principal_id: PrincipalId
    role: str
    scope: str
    expires_at_ms: int | None = None
    granted_by: str = ""
    reason: str = ""


class Token(Struct, frozen=True, kw_only=True):
    """An API token as it is listed; the secret itself is shown once, when it is made."""

    id: str
    principal_id: PrincipalId
    name: str
    created_at_ms: int
    expires_at_ms: int | None
    last_used_at_ms: int | None = None
    actions: list[str] = []  # empty: everything its owner may do


class TokenScope(Struct, frozen=True, kw_only=True):
    """Where a token may do each of some actions: None is everywhere. What a gateway needs to check it from memory."""

    token_id: str
    secret_sha256: str
    expires_at_ms: int | None
    scopes: dict[str, list[str] | None]


class NewToken(Struct, frozen=True, kw_only=True):
    """A token just made, with its secret: the only time it is shown."""

    token: Token
    secret: str


class Me(Struct, frozen=True, kw_only=True):
    """Who the caller is and what they may do anywhere in the workspace."""

    kind: str
    id: str
    name: str
    roles: list[str]
    actions: list[str]
    is_local_admin: bool


class NewPrincipal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to make a principal. A user without a password can only sign in with a token."""

    name: str
    kind: Literal["user", "service"] = "user"
    roles: list[str] = field(default_factory=lambda: ["contributor"])
    password: str = ""


class Credentials(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sign-in."""

    name: str
    password: str


class Setup(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first administrator, made through the one-time link."""

    code: str
    name: str
    password: str


class TokenRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to make a token. `principal` is a name; empty means oneself."""

    name: str
    principal: str = ""
    expires_in_days: int | None = 90
    actions: list[str] = []


class Grant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A role for a principal on a scope ('' is the whole workspace)."""

    principal: str
    role: str
    scope: str = ""
    expires_at_ms: int | None = None
    reason: str = ""


@fact("principal.created")
class PrincipalCreated(Fact):
    """A person or service account came to be."""

    name: str
    principal_kind: str


@fact("principal.disabled")
class PrincipalDisabled(Fact):
    """A principal can no longer sign in; their sessions and tokens ended in the same transaction."""

    name: str


@fact("grant.added")
class GrantAdded(Fact):
    """A principal got a role on a scope."""

    role: str
    scope: str
    reason: str = ""


@fact("grant.removed")
class GrantRemoved(Fact):
    """A principal lost a role on a scope."""

    role: str
    scope: str


@fact("token.created")
class TokenCreated(Fact):
    """An API token was made."""

    name: str
    principal: str


@fact("token.revoked")
class TokenRevoked(Fact):
    """An API token no longer signs in."""

    name: str


@fact("session.started")
class SessionStarted(Fact):
    """Somebody signed in with a browser."""


@fact("session.ended")
class SessionEnded(Fact):
    """Somebody signed out."""


@fact("sign_in.refused")
class SignInRefused(Fact):
    """A sign-in with a wrong name or password; at most one a minute per name is recorded."""

    name: str


@fact("access.refused")
class AccessRefused(Fact):
    """Somebody was refused an action; at most one a minute per actor and action is recorded."""

    action: str
