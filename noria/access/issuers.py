"""Who issues identity tokens: discovery, keys that rotate, and the check of a token.

Only signatures by asymmetric keys of the issuer count: `none` and the HMAC family, with which a public key could pass for a secret,
are not in the list of algorithms. Keys are kept for an hour, and read again when a token names one that is not among them – at
most every ten seconds, so that made-up key ids are no way to make this server ask.
"""

from __future__ import annotations

import base64
import ipaddress
import threading
from typing import Any
from urllib.parse import quote_plus, urlsplit

import msgspec

from noria.kernel.clock import Clock
from noria.kernel.errors import Invalid, Unauthenticated, Unavailable

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
LEEWAY_S = 60
KEYS_KEPT_S = 3600.0
KEYS_AGAIN_S = 10.0
TIMEOUT_S = 5.0
ANSWER_BYTES_MAX = 1 << 20
TOKEN_LENGTH_MAX = 16_384


class Issuer:
    """One issuer. Thread-safe; asks the network only when it has to."""

    def __init__(self, url: str, clock: Clock, *, jwks: dict[str, Any] | None = None) -> None:
        self.url = check_issuer(url)
        self._clock, self._fixed = clock, jwks
        self._lock = threading.Lock()
        self._metadata: dict[str, Any] | None = None
        self._keys: list[Any] | None = None
        self._keys_at_s = float("-inf")

    @property
    def metadata(self) -> dict[str, Any]:
        """What the issuer says of itself. Raises Unavailable."""
        with self._lock:
            if self._metadata is None:
                found = ask("GET", self.url.rstrip("/") + "/.well-known/openid-configuration")
                if found.get("issuer") != self.url:
                    raise Unavailable(f"{self.url} says that it is the issuer {str(found.get('issuer'))[:200]!r}.")
                self._metadata = found
            return self._metadata

    @property
    def known_metadata(self) -> dict[str, Any]:
        """The same as far as it was asked for already."""
        return self._metadata or {}

    def endpoint(self, name: str) -> str:
        """An address from the metadata. Raises Unavailable."""
        return check_issuer(str(self.metadata.get(name, "")), what=name)

    def check(self, token: str, *, audience: str, nonce: str | None = None) -> dict[str, Any]:
        """The claims of a token of this issuer for `audience`, now. Raises Unauthenticated, Unavailable."""
        claims = self._signed(token)
        now_s = self._clock.now_ms() // 1000
        audiences = claims.get("aud")
        audiences = [audiences] if isinstance(audiences, str) else audiences
        wrong = ""
        if claims.get("iss") != self.url:
            wrong = "is of another issuer"
        elif not isinstance(audiences, list) or audience not in audiences:
            wrong = "is for somebody else"
        elif len(audiences) > 1 and claims.get("azp", audience) != audience:
            wrong = "was given to somebody else"
        elif not isinstance(claims.get("exp"), int | float) or claims["exp"] + LEEWAY_S <= now_s:
            wrong = "has expired"
        elif any(_in_future(claims.get(name), now_s) for name in ("nbf", "iat")):
            wrong = "is not valid yet"
        elif not isinstance(claims.get("sub"), str) or not claims["sub"] or len(claims["sub"]) > 255:
            wrong = "names nobody"
        elif nonce is not None and claims.get("nonce") != nonce:
            wrong = "was made for another sign-in"
        if wrong:
            raise Unauthenticated(f"The identity token {wrong}.", hint="Sign in again.")
        return claims

    def _signed(self, token: str) -> dict[str, Any]:
        from joserfc import jwt
        from joserfc.errors import JoseError

        if len(token) > TOKEN_LENGTH_MAX:
            raise Unauthenticated("The identity token is too long.")
        kid = _key_id(token)
        for is_again in (False, True):
            for key in self._signers(again=is_again):
                if kid is not None and key.kid != kid:
                    continue
                try:
                    return dict(jwt.decode(token, key, algorithms=ALGORITHMS).claims)
                except (JoseError, ValueError):
                    continue  # of another key, or of none: what no key of the issuer signed is refused below
        raise Unauthenticated("The identity token is not signed by its issuer.", hint="Sign in again.")

    def _signers(self, *, again: bool) -> list[Any]:
        from joserfc.errors import JoseError
        from joserfc.jwk import import_key

        with self._lock:
            age_s = self._clock.monotonic_s() - self._keys_at_s
            if self._keys is not None and age_s < (KEYS_AGAIN_S if again else KEYS_KEPT_S):
                return self._keys
        found = self._fixed or ask("GET", self.endpoint("jwks_uri"))
        keys = []
        for item in found.get("keys", []) if isinstance(found.get("keys"), list) else []:
            if not isinstance(item, dict) or item.get("kty") == "oct" or item.get("use", "sig") != "sig":
                continue
            try:
                keys.append(import_key(item))
            except (JoseError, ValueError, KeyError, TypeError):  # of a kind that we do not know: not ours to use
                continue
        if not keys:
            raise Unavailable(f"{self.url} publishes no key that can sign.")
        with self._lock:
            self._keys, self._keys_at_s = keys, self._clock.monotonic_s()
            return keys


def _basic(pair: tuple[str, str] | None) -> tuple[str, str] | None:
    """Name and secret as RFC 6749 wants them: form-encoded before they are put together."""
    return pair and (quote_plus(pair[0]), quote_plus(pair[1]))


def _in_future(value: Any, now_s: int) -> bool:
    return value is not None and (not isinstance(value, int | float) or value > now_s + LEEWAY_S)


def _key_id(token: str) -> str | None:
    """The key that a token names; only a hint which of the issuer's keys to try."""
    part = token.partition(".")[0]
    try:
        head = msgspec.json.decode(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, msgspec.DecodeError, RecursionError):
        return None
    kid = head.get("kid") if isinstance(head, dict) else None
    return kid if isinstance(kid, str) else None


def check_issuer(url: str, *, what: str = "issuer") -> str:
    """`url` if it is https, or http on this machine; else Invalid."""
    try:
        found = urlsplit(url)
        host = found.hostname or ""
    except ValueError as cause:
        raise Invalid(f"The {what} {url[:200]!r} is not an address.", where=what) from cause
    is_safe = found.scheme == "https" or (found.scheme == "http" and _is_loopback(host))
    if not is_safe or not host or found.username or found.query or found.fragment or len(url) > 2000:
        raise Invalid(f"The {what} {url[:200]!r} is not an https address.", where=what)
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def ask(
    method: str, url: str, *, form: dict[str, str] | None = None, basic: tuple[str, str] | None = None
) -> dict[str, Any]:
    """One question to an issuer, answered with a JSON object. No redirects, bounded. Raises Unavailable, Unauthenticated."""
    import httpx

    body = bytearray()
    try:
        with (
            httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as http,
            http.stream(method, url, data=form, auth=_basic(basic), headers={"accept": "application/json"}) as answer,
        ):
            for part in answer.iter_bytes():
                body += part
                if len(body) > ANSWER_BYTES_MAX:
                    raise Unavailable(f"{url} answers with too much.")
            status = answer.status_code
    except httpx.HTTPError as cause:
        raise Unavailable(
            f"{url} does not answer.", retry_after_s=10, hint="Try again; local accounts still sign in."
        ) from cause
    if 400 <= status < 500 and form is not None:
        raise Unauthenticated("The identity provider refused the sign-in.", hint="Sign in again.")
    try:
        found = msgspec.json.decode(bytes(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as cause:
        raise Unavailable(f"{url} does not answer with JSON.") from cause
    if status != 200 or not isinstance(found, dict):
        raise Unavailable(f"{url} answers with {status}.", retry_after_s=10)
    return found
