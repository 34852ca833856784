"""A small OpenID Connect provider for tests: real signatures, PKCE and single-use codes, and told to misbehave one way at a time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

from noria.kernel.clock import Clock

CLIENT, SECRET = "noria", "s3cret of ours"


class Provider:
    """Listens on a free port of loopback; close it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.person: dict[str, Any] = {"sub": "ada-7", "preferred_username": "ada", "groups": ["quants"]}
        self.wrong: dict[str, Any] = {}  # claims to put into the next tokens instead of the right ones
        self.alg = "RS256"
        self.codes: dict[str, dict[str, str]] = {}
        self.keys_asked = 0
        self.rotate()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def rotate(self) -> None:
        """Another key signs from now on; the old one is no longer published."""
        self.key = RSAKey.generate_key(2048, {"kid": secrets.token_hex(4), "use": "sig"})

    def token(self, claims: dict[str, Any], *, key: RSAKey | None = None) -> str:
        """An identity token as this provider makes them at the moment."""
        now = self.clock.now_ms() // 1000
        full = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 300} | claims | self.wrong
        full = {name: value for name, value in full.items() if value is not None}
        head = {"alg": self.alg, "kid": self.key.kid}
        if self.alg == "none":
            return f"{_b64(json.dumps(head))}.{_b64(json.dumps(full))}."
        if self.alg == "HS256":  # signed with the public key, as if it were a secret
            signed = f"{_b64(json.dumps(head))}.{_b64(json.dumps(full))}"
            return f"{signed}.{_b64(hmac.digest(self.key.as_pem(private=False), signed.encode(), 'sha256'))}"
        return jwt.encode(head, full, key or self.key, algorithms=["RS256"])

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.url, "authorization_endpoint": f"{self.url}/authorize", "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks", "end_session_endpoint": f"{self.url}/bye",
            "authorization_response_iss_parameter_supported": True,
        }  # fmt: skip

    def authorize(self, query: dict[str, str]) -> str:
        """Where the browser of somebody who is signed in here goes next."""
        assert query["response_type"] == "code" and query["client_id"] == CLIENT and query["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state'], 'iss': self.url})}"

    def exchange(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        asked = self.codes.pop(form.get("code", ""), None)
        expected = "Basic " + base64.b64encode(f"{CLIENT}:{SECRET.replace(' ', '+')}".encode()).decode()
        challenge = _b64(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if asked is None or authorization != expected or challenge != asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        if form["redirect_uri"] != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        return 200, {"token_type": "Bearer", "id_token": self.token({"nonce": asked["nonce"], **self.person})}


def _b64(data: bytes | str) -> str:
    raw = data.encode() if isinstance(data, str) else data
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _handler(provider: Provider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == "/.well-known/openid-configuration":
                self.say(200, provider.metadata())
            elif parts.path == "/jwks":
                provider.keys_asked += 1
                self.say(200, {"keys": [provider.key.as_dict(private=False), {"kty": "made up"}]})
            elif parts.path == "/authorize":
                self.send_response(303)
                self.send_header("location", provider.authorize({k: v[0] for k, v in parse_qs(parts.query).items()}))
                self.end_headers()
            else:
                self.say(404, {})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            form = {k: v[0] for k, v in parse_qs(body).items()}
            self.say(*provider.exchange(form, self.headers.get("authorization", "")))

        def say(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
