"""Tokens for programs without a password: a device that a person approves (RFC 8628), and another issuer's token exchanged (RFC 8693).

    noria login            → a code to type, or a link; the person approves in a browser that is signed in; the command gets a token
    CI, Kubernetes         → its own short-lived identity token; a trust says whose, with which claims, stands for which account here

A trust always names claims: an issuer that everybody can get tokens from, like that of a public CI, proves nothing by itself.
"""

from __future__ import annotations

import base64
import secrets
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from noria.access import oauth_store, store, tokens
from noria.access.groups import active
from noria.access.issuers import TOKEN_LENGTH_MAX, Issuer, check_issuer
from noria.access.model import Device, DeviceStart, Granted, Token, Trust, TrustWish
from noria.access.policy import ACTIONS
from noria.kernel.clock import Clock
from noria.kernel.db import Database, Write
from noria.kernel.errors import Forbidden, Invalid, NotFound, TooMuch, Unauthenticated
from noria.kernel.ids import PrincipalId, Ref, check_name
from noria.kernel.op import Op

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
EXCHANGE_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
TOKEN_KINDS = ("urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token")
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a kind
DEVICE_S, POLL_S, DEVICES_MAX = 600, 5, 1000
DEVICE_TOKEN_DAYS = 30
LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # none that spell words or look alike
TRUSTS_MAX, CLAIMS_MAX = 200, 20


class OAuthError(Exception):
    """A refusal in the words of OAuth: `error` is one of its codes."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error, self.description = error, description


class OAuth:
    """The device flow, trusts and the exchange."""

    def __init__(self, db: Database, clock: Clock, browser_url: str) -> None:
        self._db, self._clock, self._browser_url = db, clock, browser_url
        self._issuers: dict[tuple[str, str], Issuer] = {}

    # --- devices ----------------------------------------------------------------------------------------------------

    def start(self, op: Op, client: str) -> DeviceStart:
        """Codes for a program that wants to sign in. Raises TooMuch."""
        secret, user_code = secrets.token_urlsafe(32), "".join(secrets.choice(LETTERS) for _ in range(8))
        name = "".join(c for c in client[:60] if c.isprintable() and c not in "/:@").strip() or "a program"
        with self._db.system_write() as tx:
            oauth_store.remove_old_devices(tx, op.at_ms)
            if oauth_store.devices_count(tx) >= DEVICES_MAX:
                raise TooMuch("Too many programs are waiting for approval.", retry_after_s=60)
            oauth_store.add_device(tx, tokens.sha256(secret), user_code, name, op.at_ms, op.at_ms + DEVICE_S * 1000)
        shown = f"{user_code[:4]}-{user_code[4:]}"
        return DeviceStart(
            device_code=secret, user_code=shown, verification_uri=f"{self._browser_url}/device",
            verification_uri_complete=f"{self._browser_url}/device?user_code={shown}", expires_in=DEVICE_S, interval=POLL_S,
        )  # fmt: skip

    def device(self, op: Op, user_code: str) -> Device:
        """The program that shows this code. Raises NotFound."""
        with self._db.read() as tx:
            found = oauth_store.device(tx, _code(user_code))
        if found is None or found.expires_at_ms <= op.at_ms or found.state != "pending":
            raise NotFound(
                "No program is waiting with this code.", hint="Start noria login again; a code lasts ten minutes."
            )
        return found

    def decide(self, op: Op, user_code: str, *, grant: bool) -> Device:
        """Let the program sign in as the caller, or not. Raises NotFound, Forbidden."""
        op.require("token.own")
        if op.actor.authenticated_at_ms is None and op.actor.token_id:
            raise Forbidden("A token cannot approve a program.", hint="Sign in with a browser.")
        found = self.device(op, user_code)
        with self._db.write(op) as tx:
            if not oauth_store.decide(tx, found.user_code, "granted" if grant else "denied", op.actor.id):
                raise NotFound("No program is waiting with this code.")
            tx.emit("device.decided", op.actor.ref, client=found.client, granted=grant)
        return found

    def poll(self, op: Op, device_code: str) -> Granted:
        """The token of a program that was approved. Raises OAuthError."""
        sha = tokens.sha256(device_code)
        with self._db.read() as read:  # first: a stranger's made-up codes take no turn to write
            is_known = oauth_store.device_by_hash(read, sha) is not None
        if not is_known:
            raise OAuthError("invalid_grant", "There is no such device code.")
        with self._db.write(op) as tx:
            found = oauth_store.device_by_hash(tx, sha)
            if found is None:
                raise OAuthError("invalid_grant", "There is no such device code.")
            if found.expires_at_ms <= op.at_ms:
                raise OAuthError("expired_token", "The code has expired; start again.")
            if found.state == "denied":
                raise OAuthError("access_denied", "It was refused in the browser.")
            if found.state == "granted":
                oauth_store.remove_device(tx, sha)
                return self._signed_in(tx, op, found)
            is_early = op.at_ms - found.polled_at_ms < POLL_S * 1000 - 500
            oauth_store.polled(tx, sha, op.at_ms)
            pending = "slow_down" if is_early and found.polled_at_ms else "authorization_pending"
        raise OAuthError(pending, "Nobody has approved it yet.")

    def _signed_in(self, tx: Write, op: Op, device: Device) -> Granted:
        person = store.principal(tx, principal_id=device.principal_id)
        is_local = device.principal_id == "local"
        if not is_local and (person is None or not person.is_active):
            raise OAuthError("access_denied", "The account is disabled.")
        return self._mint(
            tx, op, device.principal_id, f"noria login on {device.client}"[:100], lifetime_s=DEVICE_TOKEN_DAYS * 86_400
        )

    def _mint(
        self, tx: Write, op: Op, owner: str, name: str, *, lifetime_s: int, actions: list[str] | None = None,
        scopes: list[str] | None = None, actor_name: str = "",
    ) -> Granted:  # fmt: skip
        """A token of `owner`; one with an `actor_name` is short-lived, is listed nowhere and can make no other."""
        token_id, secret, sha = tokens.mint()
        token = Token(
            id=token_id, principal_id=PrincipalId(owner), name=name, created_at_ms=op.at_ms,
            expires_at_ms=op.at_ms + lifetime_s * 1000, actions=actions or [], scopes=scopes or [],
        )  # fmt: skip
        kind, behalf = ("service", owner) if actor_name else ("", "")
        store.add_token(tx, token, secret_sha256=sha, on_behalf_of=behalf, actor_kind=kind, actor_name=actor_name)
        store.remove_expired(tx, op.at_ms)
        tx.emit("token.created", Ref("token", token_id), name=name, principal=owner)
        return Granted(access_token=secret, expires_in=lifetime_s, issued_token_type=ACCESS_TOKEN if actor_name else "")

    # --- exchange ---------------------------------------------------------------------------------------------------

    def trusts(self, op: Op) -> list[Trust]:
        op.require("access.read")
        with self._db.read() as tx:
            return oauth_store.trusts(tx)

    def set_trust(self, op: Op, name: str, wish: TrustWish) -> Trust:
        """Say whose tokens stand for which service account. Raises Invalid, NotFound."""
        op.require("access.write")
        check_name(name, what="trust")
        check_issuer(wish.issuer)
        if not wish.audience:
            raise Invalid("A trust needs an audience: else a token made for others would count here.", where="audience")
        if not wish.claims or len(wish.claims) > CLAIMS_MAX:
            raise Invalid(f"A trust names 1 to {CLAIMS_MAX} claims, such as sub or repository.", where="claims")
        if any(not pattern.strip("*?") for pattern in wish.claims.values()):
            raise Invalid("A claim that may be anything proves nothing.", where="claims")
        if not 1 <= wish.minutes <= 60:
            raise Invalid("minutes must be between 1 and 60.", where="minutes")
        for action in wish.actions:
            if action not in ACTIONS:
                raise Invalid(
                    f"There is no action {action!r}.", where="actions", hint="docs/reference/actions.md lists them."
                )
        for scope in wish.scopes:
            Ref.parse(scope)
        with self._db.write(op) as tx:
            account = active(tx, wish.principal)
            if account.kind != "service":
                raise Invalid(
                    f"{wish.principal} is no service account.", where="principal", hint="noria user create NAME --service"
                )
            if len(oauth_store.trusts(tx)) >= TRUSTS_MAX:
                raise TooMuch(f"There are {TRUSTS_MAX} trusts already.")
            oauth_store.set_trust(tx, name, wish, account.id, op.at_ms)
            tx.emit("trust.changed", Ref("trust", name), name=name, issuer=wish.issuer, principal=wish.principal)
        return next(trust for trust in self.trusts(op) if trust.name == name)

    def remove_trust(self, op: Op, name: str) -> None:
        """Tokens of this trust are exchanged no more. Raises NotFound."""
        op.require("access.write")
        with self._db.write(op) as tx:
            if not oauth_store.remove_trust(tx, name):
                raise NotFound(f"There is no trust {name}.", hint="noria trust list shows them.")
            tx.emit("trust.removed", Ref("trust", name), name=name)

    def exchange(self, op: Op, form: dict[str, str]) -> Granted:
        """A short-lived token for a token of an issuer that is trusted. Raises OAuthError, Unavailable."""
        subject = form.get("subject_token", "")
        if form.get("subject_token_type") not in TOKEN_KINDS:
            raise OAuthError("invalid_request", f"subject_token_type is one of {', '.join(TOKEN_KINDS)}.")
        with self._db.read() as tx:
            trusts = [t for t in oauth_store.trusts(tx) if t.issuer == _issuer_of(subject)]
        for trust in trusts:
            claims = self._claims(trust, subject)
            if claims is None or not _match(trust, claims):
                continue
            wanted = form.get("scope", "").split()
            if (trust.actions and not set(wanted) <= set(trust.actions)) or not set(wanted) <= ACTIONS:
                raise OAuthError("invalid_scope", "The trust does not allow that.")
            with self._db.write(op) as tx:
                account = store.principal(tx, name=trust.principal)
                if account is None or not account.is_active:
                    break
                return self._mint(
                    tx, op, account.id, f"{trust.name}: {claims['sub']}"[:200], lifetime_s=trust.minutes * 60,
                    actions=wanted or trust.actions, scopes=trust.scopes, actor_name=account.name,
                )  # fmt: skip
        raise OAuthError("invalid_grant", "No trust covers this token.")

    def _claims(self, trust: Trust, subject: str) -> dict[str, Any] | None:
        key = (trust.issuer, trust.jwks)
        issuer = self._issuers.get(key)
        if issuer is None:
            if len(self._issuers) >= 2 * TRUSTS_MAX:
                self._issuers.clear()
            fixed = msgspec.json.decode(trust.jwks) if trust.jwks else None
            issuer = self._issuers[key] = Issuer(trust.issuer, self._clock, jwks=fixed)
        try:
            return issuer.check(subject, audience=trust.audience)
        except Unauthenticated:
            return None


def _match(trust: Trust, claims: dict[str, Any]) -> bool:
    """Does every claim that the trust names have a value that it allows? `*` stands for any letters, as in refs/heads/*."""
    return all(isinstance(claims.get(n), str) and fnmatchcase(claims[n], pattern) for n, pattern in trust.claims.items())


def _issuer_of(token: str) -> str:
    """Whose token this says it is: only to know whose keys to try."""
    part = token[:TOKEN_LENGTH_MAX].split(".")[1] if token.count(".") == 2 else ""
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, msgspec.DecodeError, RecursionError):
        return ""
    issuer = claims.get("iss") if isinstance(claims, dict) else None
    return issuer if isinstance(issuer, str) else ""


def _code(text: str) -> str:
    """A code as somebody typed it."""
    return "".join(c for c in text.upper() if c in LETTERS)[:8]
