"""The routes of access: who am I, sign-in, principals, grants, tokens."""

from __future__ import annotations

from typing import Annotated

from litestar import Request, Response
from litestar.datastructures import Cookie
from litestar.params import QueryParameter

from noria.access.model import (
    Credentials,
    Grant,
    Me,
    MyActions,
    NewPrincipal,
    NewToken,
    Principal,
    Rotation,
    Session,
    Setup,
    Token,
    TokenRequest,
)
from noria.access.policy import PUBLIC
from noria.access.service import Access
from noria.http.route import Routes, delete, get, post
from noria.kernel.op import Op
from noria.kernel.paging import Page

SESSION_COOKIE = "noria-session"


def session_cookie(request: Request, secret: str) -> Cookie:  # type: ignore[type-arg]
    """The cookie of a session."""
    is_tls = request.url.scheme == "https"
    return Cookie(SESSION_COOKIE, value=secret, httponly=True, samesite="lax", secure=is_tls, path="/")


def address_of(request: Request) -> str:  # type: ignore[type-arg]
    """Where a request comes from, as far as the connection says."""
    return request.client.host if request.client else ""


def routes(access: Access) -> Routes:
    @get("/api/v1/me", action="me.read")
    def read_me(op: Op) -> Me:
        """Who the caller is."""
        return access.me(op)

    @get("/api/v1/me/actions", action="me.read")
    def read_my_actions(op: Op, on: str = "") -> MyActions:
        """What the caller may do on a thing such as `model:fraud`; for the rest, which roles would let them and whom to ask."""
        return access.my_actions(op, on)

    @post("/api/v1/sessions", action=PUBLIC)
    def sign_in(op: Op, data: Credentials, request: Request) -> Response[dict[str, str]]:  # type: ignore[type-arg]
        """Sign in with name and password; sets the session cookie."""
        agent = request.headers.get("user-agent", "")
        secret = access.sign_in(op, data, address=address_of(request), agent=agent)
        return Response({"name": data.name}, cookies=[session_cookie(request, secret)])

    @get("/api/v1/sessions", action="token.own")
    def list_sessions(op: Op) -> Page[Session]:
        """The browsers that are signed in: one's own; an administrator sees everybody's."""
        return Page(access.sessions.sessions(op))

    @delete("/api/v1/sessions/{session_id:str}", action="token.own")
    def revoke_session(op: Op, session_id: str) -> None:
        """Sign a browser out."""
        access.sessions.revoke(op, session_id)

    @delete("/api/v1/sessions/current", action=PUBLIC)
    def sign_out(op: Op, request: Request) -> Response[None]:  # type: ignore[type-arg]
        """Sign out."""
        access.sign_out(op, request.cookies.get(SESSION_COOKIE, ""))
        return Response(None, cookies=[Cookie(SESSION_COOKIE, value="", max_age=0, path="/")])

    @post("/api/v1/setup", action=PUBLIC)
    def set_up(op: Op, data: Setup) -> Principal:
        """Make the first administrator with the code of the one-time link."""
        return access.set_up(op, data)

    @post("/api/v1/setup-link", action="system.admin")
    def make_setup_link(op: Op, request: Request) -> dict[str, str | None]:  # type: ignore[type-arg]
        """A new one-time link for the first administrator; null when there are accounts."""
        op.require("system.admin")
        return {"url": access.setup_link(op, str(request.base_url).rstrip("/"))}

    @get("/api/v1/principals", action="access.read")
    def list_principals(op: Op) -> Page[Principal]:
        """Users and service accounts."""
        return Page(access.principals(op))

    @post("/api/v1/principals", action="access.write")
    def create_principal(op: Op, data: NewPrincipal) -> Principal:
        """Make a user or a service account."""
        return access.create_principal(op, data)

    @delete("/api/v1/principals/{name:str}", action="access.write")
    def disable_principal(op: Op, name: str) -> None:
        """End a principal with its sessions and tokens."""
        access.disable_principal(op, name)

    @post("/api/v1/grants", action="access.write")
    def add_grant(op: Op, data: Grant) -> None:
        """Give a principal a role on a scope."""
        access.grant(op, data)

    @delete("/api/v1/grants", action="access.write")
    def remove_grant(op: Op, principal: str, role: str, on: Annotated[str, QueryParameter(name="scope")] = "") -> None:
        """Take a role away."""  # `scope` itself is a name of the framework's: it would be given the ASGI scope
        access.revoke_grant(op, principal, role, on)

    @get("/api/v1/tokens", action="token.own")
    def list_tokens(op: Op) -> Page[Token]:
        """One's own tokens; an administrator sees everybody's."""
        return Page(access.tokens(op))

    @post("/api/v1/tokens", action="token.own")
    def create_token(op: Op, data: TokenRequest) -> NewToken:
        """Make a token; its secret is shown this once."""
        return access.create_token(op, data)

    @post("/api/v1/tokens/{token_id:str}/rotate", action="token.own")
    def rotate_token(op: Op, token_id: str, data: Rotation) -> NewToken:
        """Replace a token; the old one works on for the overlap."""
        return access.rotate_token(op, token_id, data)

    @delete("/api/v1/tokens/{token_id:str}", action="token.own")
    def revoke_token(op: Op, token_id: str) -> None:
        """End a token."""
        access.revoke_token(op, token_id)

    return [
        read_me, read_my_actions,
        sign_in, list_sessions, revoke_session, sign_out, set_up, make_setup_link, list_principals, create_principal,
        disable_principal, add_grant, remove_grant, list_tokens, create_token, rotate_token, revoke_token,
    ]  # fmt: skip
