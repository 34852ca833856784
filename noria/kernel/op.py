"""One operation: who acts, when, why, and what they may do. Passed as the first argument of every service method.

There is no current-user global: what a method may do is visible in its signature. One operation has one time, `at_ms`,
and every row it writes carries it.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

from msgspec import Struct

from noria.kernel.clock import Clock
from noria.kernel.errors import Forbidden, Unauthenticated
from noria.kernel.ids import DEFAULT_WORKSPACE, OpId, Ref, new_id

ActorKind = Literal["user", "service", "trigger", "system", "nobody"]


class Actor(Struct, frozen=True, kw_only=True):
    """A person, a service account, a trigger or Noria itself. A trigger acts for its owner and may do no more than that."""

    kind: ActorKind
    id: str
    name: str
    on_behalf_of: str | None = None  # the principal whose rights count, when it is not `id`
    token_id: str | None = None  # set when a token signed in; its scopes narrow what the actor may do
    authenticated_at_ms: int | None = None  # set for a browser session: when its user last proved who they are

    @property
    def ref(self) -> Ref:
        return Ref(self.kind, self.id)

    @property
    def label(self) -> str:
        """What event rows carry: `user:ada`, `trigger:drift for user:ada`."""
        return f"{self.kind}:{self.name}" + (f" for {self.on_behalf_of}" if self.on_behalf_of else "")


NOBODY = Actor(kind="nobody", id="nobody", name="nobody")


class Verdict(Struct, frozen=True, kw_only=True):
    """What one policy said of one act, and why."""

    policy: str
    allowed: bool
    reason: str
    mode: Literal["enforce", "warn"] = "enforce"


class Authorizer(Protocol):
    """Answers who may do what. The access slice implements it."""

    def allows(self, actor: Actor, workspace: str, action: str, on: Ref | None) -> bool: ...

    def visible(self, actor: Actor, workspace: str, action: str) -> list[str] | None:
        """Refs of the scopes on which `actor` may do `action`; None means everywhere."""
        ...

    watched: frozenset[str]  # actions that are to be heard of when they are allowed: they show what is in a thing

    def note_read(self, op: Op, action: str, on: Ref) -> None:
        """Somebody is about to be shown what is in `on`."""
        ...


class Gatekeeper(Protocol):
    """Answers whether policy objects to an act, given evidence. The governance slice implements it."""

    def judge(self, op: Op, action: str, subject: Ref, evidence: dict[str, Any]) -> list[Verdict]: ...


class Op:
    """See the module. Made by `Ops` only: one per request, job step, trigger or reconciler turn."""

    __slots__ = ("_authorizer", "_gatekeeper", "actor", "asked", "at_ms", "cause", "id", "workspace")

    def __init__(
        self,
        *,
        authorizer: Authorizer,
        gatekeeper: Gatekeeper,
        actor: Actor,
        at_ms: int,
        workspace: str,
        cause: int | None,
        op_id: str = "",
    ) -> None:
        self.id = OpId(op_id or new_id(at_ms))
        self.actor = actor
        self.workspace = workspace
        self.at_ms = at_ms
        self.cause = cause
        self.asked: set[str] = set()  # actions that were asked for; the door checks that a route asked for its own
        self._authorizer = authorizer
        self._gatekeeper = gatekeeper

    def can(self, action: str, on: Ref | None = None) -> bool:
        """May the actor do `action` on `on` (None: anywhere in the workspace)?"""
        self.asked.add(action)
        if self.actor.kind == "system":
            return True
        is_allowed = self._authorizer.allows(self.actor, self.workspace, action, on)
        if is_allowed and on is not None and action in self._authorizer.watched:
            self._authorizer.note_read(self, action, on)
        return is_allowed

    def require(self, action: str, on: Ref | None = None) -> None:
        """Raises Unauthenticated for nobody, Forbidden for somebody without the right."""
        if self.can(action, on):
            return
        if self.actor.kind == "nobody":
            raise Unauthenticated(
                "Sign in to do this.", hint="Run noria login, set NORIA_URL and NORIA_TOKEN, or sign in at /login."
            )
        raise Forbidden(
            f"{self.actor.name} may not do {action}" + (f" on {on}." if on else "."),
            ref=on,
            hint="Ask an administrator for a role that includes this action.",
        )

    def visible(self, action: str) -> list[str] | None:
        """Scope refs on which the actor may do `action`; None: all. Lists filter by it in SQL, never afterwards."""
        self.asked.add(action)
        return None if self.actor.kind == "system" else self._authorizer.visible(self.actor, self.workspace, action)

    def gate(self, action: str, subject: Ref, evidence: dict[str, Any]) -> list[Verdict]:
        """Let policy object. Returns the verdicts when none that is enforced refuses; else raises Forbidden with the reasons."""
        verdicts = self._gatekeeper.judge(self, action, subject, evidence)
        refused = [v for v in verdicts if not v.allowed and v.mode == "enforce"]
        if refused:
            raise Forbidden(
                f"Policy refuses {action} of {subject}: " + "; ".join(f"{v.policy}: {v.reason}" for v in refused),
                ref=subject,
                hint=_way_out(action, evidence),
            )
        return verdicts

    def because(self, cause: int) -> Op:
        """The same operation, led to by fact `cause`."""
        op = Op(
            authorizer=self._authorizer, gatekeeper=self._gatekeeper, actor=self.actor, at_ms=self.at_ms,
            workspace=self.workspace, cause=cause,
        )  # fmt: skip
        op.id = self.id
        return op


class Ops:
    """Mints every operation."""

    def __init__(self, clock: Clock, authorizer: Authorizer, gatekeeper: Gatekeeper) -> None:
        self.clock = clock
        self._authorizer = authorizer
        self._gatekeeper = gatekeeper

    def mint(self, actor: Actor, *, cause: int | None = None, workspace: str = DEFAULT_WORKSPACE, op_id: str = "") -> Op:
        """A new operation, now; with the id `op_id` when it has been given one already."""
        return Op(
            authorizer=self._authorizer, gatekeeper=self._gatekeeper, actor=actor, at_ms=self.clock.now_ms(),
            workspace=workspace, cause=cause, op_id=op_id,
        )  # fmt: skip

    def system(self, name: str, *, cause: int | None = None) -> Op:
        """An operation of Noria itself: a reconciler, a sealer. It may do anything, and policy still applies."""
        return self.mint(Actor(kind="system", id=name, name=name), cause=cause)


def _way_out(action: str, evidence: dict[str, Any]) -> str:
    """What leads on after a refusal by policy."""
    model, version = evidence.get("model"), evidence.get("version")
    asks = f", or ask for one: noria approval request {model}@{version} --action {action}" if model and version else ""
    return f"Bring the missing evidence or approval{asks}. Then try again."
