"""The door: what every request passes before a route sees it. Raw ASGI, so that it holds for every route there is.

In order: an operation id; the Host header (against DNS rebinding); cross-origin writes (against CSRF); the body limit; who is
calling. Fails closed: a request that cannot be placed is refused here.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

import anyio.to_thread
import msgspec

from noria.access.http import SESSION_COOKIE
from noria.access.model import LOCAL_ADMIN, Credentials
from noria.access.service import Access
from noria.config import Config
from noria.http import errors
from noria.kernel.errors import Forbidden, Invalid, NoriaError, NotFound, TooLarge, Unauthenticated
from noria.kernel.ids import new_id
from noria.kernel.op import NOBODY, Actor

log = logging.getLogger("noria.http")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})  # no OPTIONS: no other origin may ask for anything
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
INTERNAL = Actor(kind="system", id="internal", name="internal")
LOCAL = Actor(kind="user", id=LOCAL_ADMIN, name="local admin")
UPLOAD_MARKS = (
    "/mlflow-artifacts/",
    "/api/v1/blobs/",
    "/api/v1/attempts/blobs/",
    "/artifacts",
    "/upload-artifact",
)  # routes that take files, not requests
NO_HEADERS: Mapping[str, str] = {}
WORKSPACES = (b"", b"default")  # MLflow's name for the one workspace there is


class Door:
    """Wraps the application."""

    def __init__(self, app: ASGI, config: Config, access: Access) -> None:
        self._app = app
        self._config = config
        self._access = access
        self._hosts = {config.host.lower(), *(h.lower() for h in config.allowed_hosts)}
        if config.is_loopback or config.host in ("0.0.0.0", "::"):
            self._hosts |= LOOPBACK_NAMES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        op_id = scope["noria_op_id"] = new_id()
        headers = {k.lower(): v for k, v in scope["headers"]}
        counted = _Body(receive, self._limit(scope["path"]), self._config.slow_request_s)

        async def answer(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-noria-op", op_id.encode()), *_SECURITY_HEADERS]
                if counted.has_stalled:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        if scope["method"] not in METHODS:
            error = Invalid(
                f"{scope['method'][:20]!r} is not possible here.", hint=f"Use one of {', '.join(sorted(METHODS))}."
            )
            await _reply(answer, 405, errors.body(scope["path"], error, op_id)[1])
            return
        try:
            self._check_host(headers)
            self._check_origin(scope["method"], headers)
            _check_workspace(scope["path"], headers)
            counted.check_declared(headers)
            scope["noria_actor"], scope["noria_by_cookie"] = await self._who(headers, str((scope.get("client") or ("",))[0]))
            await self._app(scope, counted.receive, answer)
        except NoriaError as error:
            await _reply(answer, *errors.answer(scope["method"], scope["path"], op_id, error))

    def _limit(self, path: str) -> int:
        mib = self._config.upload_limit_mb if any(mark in path for mark in UPLOAD_MARKS) else self._config.body_limit_mb
        return mib << 20

    def _check_host(self, headers: dict[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").decode("latin-1")
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            name = ""
        if name not in self._hosts:
            raise Forbidden(
                f"This server does not answer to the name {name!r}.",
                hint="Add it to NORIA_ALLOWED_HOSTS if it is one of its names.",
            )

    def _check_origin(self, method: str, headers: dict[bytes, bytes]) -> None:
        """A browser says where a request comes from; a write from elsewhere is refused, whatever it carries."""
        if method in SAFE_METHODS:
            return
        site = headers.get(b"sec-fetch-site", b"")
        if site and site not in (b"same-origin", b"none"):
            raise Forbidden("A page of another site tried to change something here.")
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and urlsplit(origin).netloc.lower() != headers.get(b"host", b"").decode("latin-1").lower():
            raise Forbidden("A page of another site tried to change something here.")

    async def _who(self, headers: dict[bytes, bytes], address: str) -> tuple[Actor, bool]:
        """The caller, and whether a browser cookie says so."""
        authorization = headers.get(b"authorization", b"").decode("latin-1")
        if authorization:
            known = self._at_once(authorization)
            if known is None:
                known = await anyio.to_thread.run_sync(self._by_header, authorization, address)
            return known, False
        secret = _cookie(headers.get(b"cookie", b"").decode("latin-1"))
        if secret:
            actor = await anyio.to_thread.run_sync(self._access.who_has_session, secret)
            if actor:
                return actor, True
        # From memory when it was asked a moment ago; else it is a query, which the event loop must not wait for.
        is_known = self._access.knows(LOCAL)
        local = self._access.local_admin() if is_known else await anyio.to_thread.run_sync(self._access.local_admin)
        return (local, True) if local else (NOBODY, False)

    def _at_once(self, authorization: str) -> Actor | None:
        """The caller, when memory has the answer."""
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return None
        token, internal = value.strip(), self._config.internal_token
        if internal and internal.matches(token):
            return INTERNAL
        return self._access.remembered(token)

    def _by_header(self, authorization: str, address: str) -> Actor:
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "bearer":
            return self._by_token(value.strip())
        if scheme.lower() == "basic":
            try:
                name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
            except ValueError as cause:
                raise Unauthenticated("The Basic credentials cannot be read.") from cause
            if password.startswith("nrk_"):
                return self._by_token(password)
            found = self._access.who_has_password(Credentials(name=name, password=password), address)
            return Actor(kind="user", id=found.id, name=found.name)
        raise Unauthenticated(f"Noria does not know the authorization scheme {scheme!r}.", hint="Use Bearer or Basic.")

    def _by_token(self, token: str) -> Actor:
        internal = self._config.internal_token
        if internal and internal.matches(token):
            return INTERNAL
        return self._access.who_has_token(token)


def _check_workspace(path: str, headers: dict[bytes, bytes]) -> None:
    """An MLflow client may name a workspace. Answering for another than it asked for would mix what it wants kept apart."""
    asked = headers.get(b"x-mlflow-workspace", b"").strip()
    if asked not in WORKSPACES and errors.is_mlflow(path):
        raise NotFound(
            f"There is no workspace {asked[:80].decode('latin-1')!r}.",
            hint="This server has one: default. Unset MLFLOW_WORKSPACE.",
        )


class _Body:
    """Counts what is read of a body and stops at the limit, or when nothing has come for `pause_s`."""

    def __init__(self, receive: Receive, limit: int, pause_s: float) -> None:
        self._receive = receive
        self._limit = limit
        self._pause_s = pause_s
        self._read = 0
        self._is_expected = False
        self._is_whole = False
        self.has_stalled = False

    def check_declared(self, headers: dict[bytes, bytes]) -> None:
        declared = headers.get(b"content-length")
        self._is_expected = b"transfer-encoding" in headers or declared not in (None, b"0")
        if declared is None:
            return
        if not declared.isdigit():
            raise Invalid("The Content-Length header is not a number.")
        if int(declared) > self._limit:
            raise self._too_large()

    async def receive(self) -> MutableMapping[str, Any]:
        if self._is_whole:  # what is waited for now is the end of the connection, and that may take as long as it likes
            return await self._receive()
        try:
            async with asyncio.timeout(self._pause_s):
                message = await self._receive()
        except TimeoutError as cause:
            self.has_stalled = True
            raise Invalid(f"Nothing of the body came for {self._pause_s:g} s.", hint="Send it again.") from cause
        if message["type"] == "http.disconnect" and self._is_expected:
            raise Invalid("The body ended early: the client went away.", hint="Send it again.")
        self._is_whole = not message.get("more_body", False)
        self._read += len(message.get("body", b""))
        if self._read > self._limit:
            raise self._too_large()
        return message

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body is larger than {self._limit >> 20} MiB.", hint="Send less at once.")


_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


async def _reply(send: Send, status: int, content: dict[str, Any], headers: Mapping[str, str] = NO_HEADERS) -> None:
    body = msgspec.json.encode(content)
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    head += [(name.encode(), value.encode()) for name, value in headers.items()]
    if status == 401:
        head.append((b"www-authenticate", b'Bearer realm="noria"'))
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


def _cookie(header: str) -> str:
    if SESSION_COOKIE not in header:
        return ""
    try:
        found = SimpleCookie(header).get(SESSION_COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""
