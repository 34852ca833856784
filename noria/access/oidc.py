"""Sign-in by an OpenID Connect provider: authorization code with PKCE (RFC 7636), state, nonce, and the issuer in the answer (RFC 9207).

    /login/oidc           → a row: state, nonce, verifier, where to go on; a cookie that binds it to this browser; off to the provider
    /login/oidc/callback  → the row is taken (once), the code is exchanged with the verifier, the token is checked, a session begins

The network is asked outside of any transaction. When the provider is away, sessions go on, and local accounts still sign in.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Any
from urllib.parse import urlencode, urlsplit

from msgspec import Struct

from noria.access import store, tokens
from noria.access.identities import Identities
from noria.access.issuers import Issuer, ask
from noria.access.model import Pending, ProviderInfo
from noria.access.sessions import Sessions
from noria.kernel.clock import Clock
from noria.kernel.db import Database
from noria.kernel.errors import NotFound, TooMuch, Unauthenticated
from noria.kernel.op import Op

PENDING_MS = 10 * 60_000
PENDING_MAX = 10_000


class OidcSettings(Struct, frozen=True, kw_only=True):
    """What was set about the provider."""

    issuer: str
    client_id: str
    client_secret: str
    scopes: str
    groups_claim: str
    redirect_url: str
    home_url: str


class Oidc:
    """The one provider that was set."""

    def __init__(
        self, db: Database, clock: Clock, settings: OidcSettings, identities: Identities, sessions: Sessions
    ) -> None:
        self._db, self._settings, self._identities, self._sessions = db, settings, identities, sessions
        self._issuer = Issuer(settings.issuer, clock)

    @property
    def issuer(self) -> str:
        return self._issuer.url

    @property
    def info(self) -> ProviderInfo:
        """What was set, less what is secret."""
        s = self._settings
        return ProviderInfo(
            issuer=s.issuer,
            client_id=s.client_id,
            scopes=s.scopes,
            groups_claim=s.groups_claim,
            groups=self._identities.mapped,
        )

    @property
    def name(self) -> str:
        """What to call the provider on a button."""
        return urlsplit(self.issuer).hostname or "single sign-on"

    def begin(self, op: Op, next_path: str, *, again: bool = False) -> tuple[str, str]:
        """(where to send the browser, what to put into its cookie). `again`: the provider is to ask for the password anew."""
        state, nonce, verifier, browser = (secrets.token_urlsafe(32) for _ in range(4))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code", "client_id": self._settings.client_id, "redirect_uri": self._settings.redirect_url,
            "scope": self._settings.scopes, "state": state, "nonce": nonce, "code_challenge": challenge,
            "code_challenge_method": "S256", **({"prompt": "login", "max_age": "0"} if again else {}),
        }  # fmt: skip
        address = self._issuer.endpoint("authorization_endpoint")
        pending = Pending(
            browser_sha256=tokens.sha256(browser), nonce=nonce, verifier=verifier, next=next_path,
            expires_at_ms=op.at_ms + PENDING_MS,
        )  # fmt: skip
        with self._db.system_write() as tx:
            store.remove_old_pending(tx, op.at_ms)
            if store.pending_count(tx) >= PENDING_MAX:
                raise TooMuch("Too many sign-ins are under way.", retry_after_s=60)
            store.add_pending(tx, tokens.sha256(state), pending)
        return f"{address}?{urlencode(asked)}", browser

    def finish(self, op: Op, query: dict[str, str], browser: str, agent: str) -> tuple[str, str]:
        """(the secret of a new session, where to go on). Raises Unauthenticated, Forbidden, Unavailable."""
        with self._db.system_write() as tx:
            pending = store.take_pending(tx, tokens.sha256(query.get("state", "")))
        if pending is None or pending.expires_at_ms <= op.at_ms:
            raise Unauthenticated("This sign-in has ended or was used already.", hint="Sign in again.")
        if not hmac.compare_digest(pending.browser_sha256, tokens.sha256(browser)):
            raise Unauthenticated("This sign-in began in another browser.", hint="Sign in again.")
        names_itself = self._issuer.metadata.get("authorization_response_iss_parameter_supported") is True
        if query.get("iss", "" if names_itself else self.issuer) != self.issuer:
            raise Unauthenticated("The answer came from another identity provider.", hint="Sign in again.")
        if "error" in query or not query.get("code"):
            raise Unauthenticated("The identity provider did not sign you in.", hint="Sign in again.")
        claims = self._exchanged(query["code"], pending)
        with self._db.write(op) as tx:
            person = self._identities.account(tx, op, self.issuer, claims, self._settings.groups_claim)
            return self._sessions.begin(tx, op, person.id, method="oidc", agent=agent), pending.next

    def _exchanged(self, code: str, pending: Pending) -> dict[str, Any]:
        """The claims that the code stands for."""
        s = self._settings
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": s.redirect_url, "client_id": s.client_id,
            "code_verifier": pending.verifier,
        }  # fmt: skip
        methods = self._issuer.metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        basic = None
        if s.client_secret and "client_secret_basic" in methods:
            basic = (s.client_id, s.client_secret)
        elif s.client_secret:
            form["client_secret"] = s.client_secret
        answer = ask("POST", self._issuer.endpoint("token_endpoint"), form=form, basic=basic)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise Unauthenticated("The identity provider gave no identity token.", hint="Ask for the scope openid.")
        return self._issuer.check(token, audience=s.client_id, nonce=pending.nonce)

    def sign_out_url(self) -> str:
        """Where a browser signs out of the provider too; '' when it has no such place, or was not asked yet."""
        place = str(self._issuer.known_metadata.get("end_session_endpoint", ""))
        if not place:
            return ""
        asked = {"client_id": self._settings.client_id, "post_logout_redirect_uri": self._settings.home_url}
        return f"{place}?{urlencode(asked)}"


def safe_path(text: str) -> str:
    """`text` if it is a path on this server; else '/'. What a browser would take for another host is no path."""
    is_path = text.startswith("/") and not text.startswith(("//", "/\\")) and len(text) <= 2000
    return text if is_path and text.isprintable() and "\\" not in text else "/"


def not_set() -> NotFound:
    return NotFound("No identity provider is set.", hint="NORIA_OIDC_ISSUER; see docs/guides/sign-in.md.")
