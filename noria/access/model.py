"""Who acts: principals, their roles on scopes, their tokens and sessions."""

from __future__ import annotations

import re
from typing import Any, Literal

from msgspec import Struct, field

from noria.kernel.errors import Invalid
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
    """A person, a service account or a group of them."""

    id: PrincipalId
    kind: Literal["user", "service", "group"]
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
    scopes: list[str] = []  # empty: everywhere that its owner may


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


class Pending(Struct, frozen=True, kw_only=True):
    """A sign-in that left for the provider."""

    browser_sha256: str
    nonce: str
    verifier: str
    next: str
    expires_at_ms: int


class NewIdentity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who at the identity provider may sign in as whom."""

    principal: str
    subject: str


class Session(Struct, frozen=True, kw_only=True):
    """A browser that is signed in, as it is listed."""

    id: str
    principal: str
    method: str  # password or oidc
    agent: str
    created_at_ms: int
    seen_at_ms: int
    expires_at_ms: int


class Me(Struct, frozen=True, kw_only=True):
    """Who the caller is and what they may do anywhere in the workspace."""

    kind: str
    id: str
    name: str
    roles: list[str]
    actions: list[str]
    is_local_admin: bool
    sign_out_url: str = ""  # where to sign out of the identity provider too


class MyActions(Struct, frozen=True, kw_only=True):
    """What the caller may do on one thing ('': on the workspace); for everything else which roles would let them, and whom to ask."""

    on: str
    may: list[str]
    roles: dict[str, list[str]]  # of each action they may not do
    ask: list[str]  # names of people who give roles; at most five
    somewhere: list[str] = []  # asked of the workspace: what they may do on one thing or another, though not everywhere


class NewPrincipal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to make a principal. A user without a password can only sign in with a token; one without roles may do nothing."""

    name: str
    kind: Literal["user", "service"] = "user"
    roles: list[str] = field(default_factory=list)
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
    scopes: list[str] = []  # refs of things and projects


class Rotation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the old token works beside the new one."""

    overlap_hours: float = 24.0


class DeviceStart(Struct, frozen=True, kw_only=True):
    """What a program that wants to sign in shows, and polls with; the names are those of RFC 8628."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


class Device(Struct, frozen=True, kw_only=True):
    """A program that waits for somebody to approve it."""

    user_code: str
    client: str
    state: str  # pending, granted or denied
    principal_id: str
    expires_at_ms: int
    polled_at_ms: int


class Granted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A token as OAuth gives it."""

    access_token: str
    expires_in: int
    token_type: str = field(default_factory=lambda: "Bearer")
    issued_token_type: str = ""


class TrustWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose tokens are to stand for which service account: of this issuer, for this audience, with these claims."""

    issuer: str
    audience: str
    principal: str
    claims: dict[str, str]
    actions: list[str] = []
    scopes: list[str] = []
    minutes: int = 15
    jwks: dict[str, Any] = {}  # the issuer's keys, when this server cannot ask for them


class Trust(Struct, frozen=True, kw_only=True):
    """Tokens of an issuer that stand for a service account here."""

    name: str
    issuer: str
    audience: str
    principal: str
    claims: dict[str, str]
    actions: list[str] = []
    scopes: list[str] = []
    minutes: int = 15
    jwks: str = ""


class ProviderInfo(Struct, frozen=True, kw_only=True):
    """The identity provider as it is set; `groups` maps its groups to ours."""

    issuer: str = ""
    client_id: str = ""
    scopes: str = ""
    groups_claim: str = ""
    groups: dict[str, str] = {}


class Grant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A role for a principal on a scope ('' is the whole workspace)."""

    principal: str
    role: str
    scope: str = ""
    expires_at_ms: int | None = None
    reason: str = ""


class Member(Struct, frozen=True, kw_only=True):
    """Somebody in a group, or a group in it. `source` says who keeps it there: '' is by hand."""

    name: str
    kind: Literal["user", "service", "group"]
    source: str = ""


class Group(Struct, frozen=True, kw_only=True):
    """A named set of principals; what it may do, all of them may."""

    id: PrincipalId
    name: str
    created_at_ms: int
    roles: list[str] = []  # on the whole workspace
    members: list[Member] = []


class NewGroup(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What it takes to make a group."""

    name: str
    roles: list[str] = []


class Role(Struct, frozen=True, kw_only=True):
    """A named set of actions."""

    name: str
    actions: list[str]
    description: str = ""
    is_built_in: bool = False


class RoleWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a role of one's own is to be."""

    actions: list[str]
    description: str = ""


class Holding(Struct, frozen=True, kw_only=True):
    """A role that somebody has on a scope ('' is the whole workspace), as it is listed."""

    principal: str
    role: str
    scope: str
    expires_at_ms: int | None = None
    granted_by: str = ""
    reason: str = ""


class Project(Struct, frozen=True, kw_only=True):
    """A named part of the workspace: a role on it counts on every thing in it, a label on it marks them all."""

    name: str
    description: str = ""
    parent: str = ""  # the project it lies in
    things: list[str] = []  # refs
    created_at_ms: int = 0


class ProjectWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a project is to be."""

    description: str = ""
    parent: str = ""


class ProjectPage(Struct, frozen=True, kw_only=True):
    """A project as whoever may read it sees it: what it says of itself, and everything in it that the caller may read."""

    project: Project
    things: list[str]  # refs, also of what lies in projects within
    readme: str = ""  # Markdown
    readme_html: str = ""  # sanitised
    edit: int = 0  # of the readme: 0 before it was written, +1 per edit
    actor: str = ""  # who wrote it last
    at_ms: int | None = None


class ReadmeWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a project is to say of itself, in Markdown. `expect`: the edit that was read; None overwrites."""

    content: str
    expect: int | None = None


class Label(Struct, frozen=True, kw_only=True):
    """A word on things. One that restricts hides them from everybody without a clearance, whatever their roles."""

    name: str
    description: str = ""
    is_restricting: bool = True
    on: list[str] = []  # refs
    cleared: list[str] = []  # names


class LabelWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a label is to be."""

    description: str = ""
    is_restricting: bool = True


class Clearance(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Until when somebody may see what carries a label, and why."""

    expires_at_ms: int | None = None
    reason: str = ""


class Explanation(Struct, frozen=True, kw_only=True):
    """Why somebody may do something, or why not."""

    principal: str
    action: str
    on: str
    is_allowed: bool
    why: list[str]


@fact("principal.created", personal=("name",))
class PrincipalCreated(Fact):
    """A person or service account came to be."""

    name: str
    principal_kind: str


@fact("principal.disabled", personal=("name",))
class PrincipalDisabled(Fact):
    """A principal can no longer sign in; their sessions and tokens ended in the same transaction."""

    name: str


@fact("principal.enabled", personal=("name",))
class PrincipalEnabled(Fact):
    """A principal that was disabled can sign in again."""

    name: str


@fact("grant.added", personal=("reason",))
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

    method: str = "password"


@fact("session.ended")
class SessionEnded(Fact):
    """Somebody signed out, or was signed out."""


@fact("identity.linked", personal=("name",))
class IdentityLinked(Fact):
    """Somebody known to an identity provider may sign in as an account."""

    name: str
    issuer: str


@fact("sign_in.refused", personal=("name",))
class SignInRefused(Fact):
    """A sign-in with a wrong name or password; at most one a minute per name is recorded."""

    name: str


@fact("access.refused")
class AccessRefused(Fact):
    """Somebody was refused an action; at most one a minute per actor and action is recorded."""

    action: str


@fact("sensitive.read")
class SensitiveRead(Fact):
    """Somebody was shown what is in a thing that carries a restricting label; at most one a minute per actor, action and thing."""

    action: str
    labels: list[str]


@fact("group.created")
class GroupCreated(Fact):
    """A group came to be."""

    name: str


@fact("group.deleted")
class GroupDeleted(Fact):
    """A group is gone, with what it was granted."""

    name: str


@fact("member.added")
class MemberAdded(Fact):
    """Somebody, or a group, came into a group."""

    group: str
    member: str
    source: str = ""


@fact("member.removed")
class MemberRemoved(Fact):
    """Somebody, or a group, left a group."""

    group: str
    member: str
    source: str = ""


@fact("role.changed")
class RoleChanged(Fact):
    """A role of one's own was made or changed."""

    name: str
    actions: list[str]


@fact("role.deleted")
class RoleDeleted(Fact):
    """A role of one's own is gone, with every grant of it."""

    name: str


@fact("project.changed")
class ProjectChanged(Fact):
    """A project was made, described or moved."""

    name: str
    parent: str = ""


@fact("project.described")
class ProjectDescribed(Fact):
    """A project says something else of itself; the words are not part of the record."""

    name: str
    edit: int


@fact("project.deleted")
class ProjectDeleted(Fact):
    """An empty project is gone, with every grant on it."""

    name: str


@fact("thing.placed")
class ThingPlaced(Fact):
    """A thing was put into a project, or taken out of one."""

    project: str
    was: str = ""


@fact("label.changed")
class LabelChanged(Fact):
    """A label was made or changed."""

    name: str
    is_restricting: bool


@fact("label.deleted")
class LabelDeleted(Fact):
    """A label is gone, with its clearances."""

    name: str


@fact("label.put")
class LabelPut(Fact):
    """A label was put on a thing or a project."""

    label: str


@fact("label.taken")
class LabelTaken(Fact):
    """A label was taken off a thing or a project."""

    label: str


@fact("clearance.added", personal=("reason",))
class ClearanceAdded(Fact):
    """Somebody may see what carries a label."""

    label: str
    reason: str = ""


@fact("clearance.removed")
class ClearanceRemoved(Fact):
    """Somebody may no longer see what carries a label."""

    label: str


@fact("token.rotated")
class TokenRotated(Fact):
    """An API token was replaced; the old one works on for a while."""

    name: str
    by: str
    old_ends_at_ms: int


@fact("device.decided")
class DeviceDecided(Fact):
    """Somebody let a program sign in as them, or did not."""

    client: str
    granted: bool


@fact("trust.changed")
class TrustChanged(Fact):
    """Tokens of an issuer stand for a service account."""

    name: str
    issuer: str
    principal: str


@fact("trust.removed")
class TrustRemoved(Fact):
    """Tokens of an issuer no longer stand for a service account."""

    name: str


_SECRET_NAME = re.compile(r"^[A-Z][A-Z0-9_]{0,127}\Z")
# Variables that decide which code runs: a secret of such a name would be a way to run one's own.
_RESERVED_VARIABLE = re.compile(
    r"^(?:NORIA_.*|MLFLOW_TRACKING_.*|LD_.*|DYLD_.*|PYTHON.*|PATH|HOME|SHELL|IFS|BASH_ENV|ENV|TMPDIR|CUDA_VISIBLE_DEVICES)\Z"
)


def check_secret_name(name: str, *, where: str = "name") -> str:
    """`name` if a secret can have it: it becomes the name of a variable. Raises Invalid."""
    if not _SECRET_NAME.match(name):
        raise Invalid(
            f"{name[:80]!r} cannot be the name of a secret.", where=where,
            hint="Capital letters, digits and _, beginning with a letter: it becomes the name of a variable.",
        )  # fmt: skip
    if _RESERVED_VARIABLE.match(name):
        raise Invalid(f"{name} is a variable that decides what runs, so no secret can have its name.", where=where)
    return name
