"""Browser sessions: a random secret in a cookie, its hash in a row. They idle out, end after a day, can be listed and ended."""

from __future__ import annotations

import secrets

from noria.access import store, tokens
from noria.access.model import SESSION_ABSOLUTE_MS, SESSION_IDLE_MS, Session
from noria.access.policy import STEP_UP
from noria.kernel.clock import Clock
from noria.kernel.db import Database, Write
from noria.kernel.errors import NotFound, Reauthenticate
from noria.kernel.ids import Ref
from noria.kernel.op import Actor, Op

AGENT_LENGTH_MAX = 200
TOUCH_MS = 60_000


class Sessions:
    """Begins, knows, lists and ends sessions."""

    def __init__(self, db: Database, clock: Clock, step_up_minutes: float) -> None:
        self._db, self._clock = db, clock
        self._recent_ms = int(step_up_minutes * 60_000)

    def begin(self, tx: Write, op: Op, principal_id: str, *, method: str, agent: str) -> str:
        """A new session, in the transaction of the caller; returns the secret for the cookie."""
        secret = secrets.token_urlsafe(32)
        store.add_session(
            tx, tokens.sha256(secret), principal_id, at_ms=op.at_ms, expires_at_ms=op.at_ms + SESSION_ABSOLUTE_MS, method=method,
            agent="".join(c for c in agent[:AGENT_LENGTH_MAX] if c.isprintable()),
        )  # fmt: skip
        tx.emit("session.started", Ref("principal", principal_id), method=method)
        return secret

    def who(self, secret: str) -> tuple[Actor, str] | None:
        """The user of a session and how they signed in; None when it has ended."""
        sha, now = tokens.sha256(secret), self._clock.now_ms()
        with self._db.read() as tx:
            found = store.session(tx, sha)
            principal = store.principal(tx, principal_id=found["principal_id"]) if found else None
        if not found or not principal or not principal.is_active:
            return None
        if found["expires_at_ms"] <= now or found["seen_at_ms"] + SESSION_IDLE_MS <= now:
            return None
        if now - found["seen_at_ms"] > TOUCH_MS:
            with self._db.system_write() as write:
                store.touch_session(write, sha, now)
        actor = Actor(kind="user", id=principal.id, name=principal.name, authenticated_at_ms=found["created_at_ms"])
        return actor, found["method"]

    def require_recent(self, op: Op, action: str) -> None:
        """A dangerous act in a browser wants its user to have signed in a moment ago. Raises Reauthenticate."""
        at_ms = op.actor.authenticated_at_ms
        if self._recent_ms and action in STEP_UP and at_ms is not None and op.at_ms - at_ms > self._recent_ms:
            raise Reauthenticate(
                f"{action} needs a sign-in within the last {self._recent_ms // 60_000} minutes.",
                hint="Sign in again, then repeat it.",
            )

    def sessions(self, op: Op) -> list[Session]:
        """One's own; everybody's with access.read."""
        op.require("token.own")
        own = None if op.can("access.read") else (op.actor.on_behalf_of or op.actor.id)
        with self._db.read() as tx:
            return store.sessions(tx, principal_id=own, now_ms=op.at_ms)

    def revoke(self, op: Op, session_id: str) -> None:
        """End one of one's own, or anybody's with access.write. Raises NotFound."""
        op.require("token.own")
        with self._db.write(op) as tx:
            found = store.session_by_id(tx, session_id)
            if found is None or (found[1] != op.actor.id and not op.can("access.write")):
                raise NotFound(f"There is no session {session_id[:80]!r}.", hint="noria access sessions lists them.")
            store.remove_session(tx, found[0])
            tx.emit("session.ended", Ref("principal", found[1]))

    def end(self, op: Op, secret: str) -> None:
        """Sign out; ending one that has ended is no error."""
        with self._db.write(op) as tx:
            if store.remove_session(tx, tokens.sha256(secret)):
                tx.emit("session.ended", op.actor.ref)
